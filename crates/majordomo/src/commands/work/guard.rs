//! A process that ends the commands of a worker that was killed.
//!
//! SIGKILL leaves `majordomo work` no time to end its commands, and they would go
//! on with requests that the broker has given to others. So a second process holds the other end of
//! a pipe, is told of each command, and kills those that are left when the pipe closes.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, BufRead as _, Write as _},
    os::unix::process::CommandExt as _,
    process::{self, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    flag,
};

use crate::exit::Exit;

/// The hidden command that the second process runs.
pub(crate) const COMMAND: &str = "guard-commands";

/// In the environment of every command, so that those are found that left their process group, or
/// that began in the last moment.
const MARK: &str = "MAJORDOMO_WORK_ID";

/// "The worker ends in order: what it left running is meant to stay."
const RELEASE: &str = ".";

/// How often marked processes are looked for, at most, until none is found.
const SEARCHES_MAX: u32 = 40;

/// A process that is being started gets its mark within this.
const SEARCH_INTERVAL: Duration = Duration::from_millis(50);

/// The worker's end.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pipe: Arc<Mutex<ChildStdin>>,
    id: String,
}

impl Guard {
    /// Starts the process, which ends with this one.
    pub(super) fn start() -> io::Result<Self> {
        let id = id()?;
        let mut command = Command::new(env::current_exe()?);
        command.args([COMMAND, &id]).stdin(Stdio::piped()).stdout(Stdio::null());
        // Not one of the children that are killed at the second signal: it has work to do then.
        let mut child = command.stderr(Stdio::null()).process_group(0).spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { pipe: Arc::new(Mutex::new(pipe)), id })
    }

    /// Marks a command that will be run.
    pub(super) fn mark(&self, command: &mut Command) {
        command.env(MARK, &self.id);
    }

    /// A command runs in this group.
    pub(super) fn watch(&self, group: Pid) {
        self.tell(&format!("+{}", group.as_raw_nonzero()));
    }

    /// It does no more.
    pub(super) fn forget(&self, group: Pid) {
        self.tell(&format!("-{}", group.as_raw_nonzero()));
    }

    /// This process ends in order.
    pub(super) fn release(&self) {
        self.tell(RELEASE);
    }

    /// A guard that is gone cannot be helped: commands are then as safe as without one.
    fn tell(&self, line: &str) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        pipe.write_all(format!("{line}\n").as_bytes()).ok();
    }
}

/// A word that no other worker has.
fn id() -> io::Result<String> {
    let mut random = [0_u8; 8];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut random)?;
    Ok(format!("{}-{:016x}", process::id(), u64::from_le_bytes(random)))
}

/// The second process: waits for the end of the worker, and ends its commands.
pub(crate) fn run(id: &str) -> anyhow::Result<Exit> {
    // What is sent to the whole service is for the worker, which ends this process by its own end.
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let mut groups = BTreeSet::new();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match (line.split_at_checked(1), line.get(1..).and_then(|group| group.parse().ok())) {
            (Some(("+", _)), Some(group)) => drop(groups.insert(group)),
            (Some(("-", _)), Some(group)) => drop(groups.remove(&group)),
            _ if line == RELEASE => return Ok(Exit::Ok),
            _ => {}
        }
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        kill_process_group(group, Signal::KILL).ok();
    }
    let mark = format!("{MARK}={id}");
    for _ in 0..SEARCHES_MAX {
        thread::sleep(SEARCH_INTERVAL);
        if kill_marked(mark.as_bytes()) == 0 {
            break;
        }
    }
    Ok(Exit::Ok)
}

/// Kills every process with this in its environment; how many there were.
fn kill_marked(mark: &[u8]) -> usize {
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    let is_marked = |id: &i32| {
        let environment = fs::read(format!("/proc/{id}/environ"));
        environment.is_ok_and(|all| all.split(|byte| *byte == 0).any(|variable| variable == mark))
    };
    let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let marked = ids.filter(is_marked).filter_map(Pid::from_raw);
    marked.filter(|pid| kill_process(*pid, Signal::KILL).is_ok()).count()
}
