//! Processes that the demo starts, and the certainty that none of them outlives it.

use std::{
    cell::RefCell,
    env, fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    run::{self, Failure},
    say,
};

/// Every process of the demo, and everything it starts, carries this variable. That is how they
/// are found again.
const MARK: &str = "XTASK_DEMO";

/// How long the system may take to end a killed process.
const KILLING_MAX: Duration = Duration::from_secs(5);

/// Waits until its standard input ends, which happens however this program ends, then kills every
/// process with the mark and removes the directory.
const STAGEHAND: &str = r#"
trap '' HUP INT TERM
cat > /dev/null
for environment in /proc/[0-9]*/environ; do
    if tr '\0' '\n' < "$environment" | grep -q "^$1"; then
        process=${environment%/environ}
        kill -9 "${process#/proc/}"
    fi
done 2> /dev/null
rm -rf "$2"
"#;

/// Everybody who takes part.
#[derive(Debug)]
pub(crate) struct Players {
    program: PathBuf,
    directory: PathBuf,
    mark: String,
    endpoint: RefCell<String>,
    stagehand: Child,
    /// Held open as long as the demo runs.
    bell: Option<ChildStdin>,
}

impl Players {
    pub(crate) fn gather(program: &Path) -> Result<Self, Failure> {
        let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.subsec_nanos());
        let name = format!("majordomo-demo-{}-{nanos}", process::id());
        let directory = env::temp_dir().join(&name);
        fs::create_dir(&directory)
            .map_err(|error| Failure::new(format!("{}: {error}", directory.display())))?;
        let mark = format!("{MARK}={name}");
        let mut stagehand = Command::new("sh")
            .args(["-c", STAGEHAND, "sh", &mark])
            .arg(&directory)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::new(format!("sh could not be started: {error}")))?;
        let bell = stagehand.stdin.take();
        let (program, endpoint) = (program.to_path_buf(), RefCell::default());
        Ok(Self { program, directory, mark, endpoint, stagehand, bell })
    }

    pub(crate) fn set_endpoint(&self, endpoint: &str) {
        self.endpoint.replace(endpoint.to_owned());
    }

    /// A file that exists only for the demo.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// `majordomo` with these arguments, to be found again by the role.
    pub(crate) fn command(&self, role: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        self.marked(command, role)
    }

    /// A shell that knows jobs, as an interactive one does.
    pub(crate) fn shell(&self, role: &str, script: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", script]);
        self.marked(command, role)
    }

    fn marked(&self, mut command: Command, role: &str) -> Command {
        command.current_dir(&self.directory).stdin(Stdio::null());
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("MAJORDOMO") {
                command.env_remove(name);
            }
        }
        command.env("MAJORDOMO__ADMIN__BIND", "");
        let endpoint = self.endpoint.borrow();
        if !endpoint.is_empty() {
            command.env("MAJORDOMO_ENDPOINT", endpoint.as_str());
        }
        command.env(MARK, self.mark_of(role));
        command
    }

    /// `majordomo call` with these arguments.
    pub(crate) fn call(&self, role: &str, arguments: &[&str]) -> Command {
        let arguments: Vec<&str> = [&["call"], arguments].concat();
        self.command(role, &arguments)
    }

    /// Kills a player and everything that it started, at once.
    pub(crate) fn kill(&self, player: Player) {
        let processes = processes_with(&format!("{MARK}={}", player.role));
        run::succeeds(Command::new("sh").args(["-c", r#"kill -9 "$@""#, "sh"]).args(processes));
        drop(player);
    }

    /// Asks a player to stop.
    pub(crate) fn terminate(&self, player: &Player) -> Result<(), Failure> {
        let process = player.process().to_string();
        run::run(Command::new("sh").args(["-c", r#"kill -TERM "$1""#, "sh", &process]))
    }

    /// Ends everything, and looks whether that is so.
    pub(crate) fn leave(mut self) -> Result<(), Failure> {
        self.clear();
        let left = left_of(&self.mark);
        if !left.is_empty() {
            return Err(Failure::new(format!("still running: {}", left.join(", "))));
        }
        if self.directory.exists() {
            return Err(Failure::new(format!("still there: {}", self.directory.display())));
        }
        Ok(())
    }

    fn mark_of(&self, role: &str) -> String {
        let name = self.mark.split_once('=').map_or("", |(_, name)| name);
        format!("{name}.{role}")
    }

    fn clear(&mut self) {
        drop(self.bell.take());
        drop(self.stagehand.wait());
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Processes whose environment has a line that begins so.
fn processes_with(mark: &str) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let has_mark = |path: &Path| {
        fs::read(path.join("environ")).is_ok_and(|environment| {
            environment.split(|byte| *byte == 0).any(|line| line.starts_with(mark.as_bytes()))
        })
    };
    let processes = processes.flatten().filter(|process| has_mark(&process.path()));
    processes.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
}

/// Processes that are still there a while after they were killed, which is not done at once.
fn left_of(mark: &str) -> Vec<String> {
    let deadline = Instant::now() + KILLING_MAX;
    loop {
        let left = processes_with(mark);
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// A process of the demo; killed when dropped.
#[derive(Debug)]
pub(crate) struct Player {
    child: Child,
    role: String,
    log: Receiver<String>,
}

impl Player {
    pub(crate) fn start(mut command: Command) -> Result<Self, Failure> {
        let role = command
            .get_envs()
            .find(|(name, _)| *name == MARK)
            .and_then(|(_, role)| role)
            .map_or_else(String::new, |role| role.to_string_lossy().into_owned());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::new(format!("{}: {error}", run::shown(&command))))?;
        let (writer, log) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            thread::spawn(move || {
                let lines = BufReader::new(stderr).lines().map_while(Result::ok);
                lines.map(|line| writer.send(line)).take_while(Result::is_ok).for_each(drop);
            });
        }
        Ok(Self { child, role, log })
    }

    /// Its process id.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Its memory in use now.
    pub(crate) fn memory_kib(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    /// The next line of the log that contains this.
    pub(crate) fn wait_for(&self, wanted: &str, patience: Duration) -> Result<String, Failure> {
        let deadline = Instant::now() + patience;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.log.recv_timeout(left) else {
                return Err(Failure::new(format!(
                    "no `{wanted}` within {}; the log:\n{}",
                    say::duration(patience),
                    seen.join("\n")
                )));
            };
            if line.contains(wanted) {
                return Ok(line);
            }
            seen.push(line);
        }
    }

    /// What a client prints before it ends well.
    pub(crate) fn answer(mut self, patience: Duration) -> Result<String, Failure> {
        let (writer, answer) = mpsc::channel();
        if let Some(mut stdout) = self.child.stdout.take() {
            thread::spawn(move || {
                let mut text = String::new();
                let read = stdout.read_to_string(&mut text).map(|_| text);
                drop(writer.send(read));
            });
        }
        match answer.recv_timeout(patience) {
            Ok(Ok(text)) => {
                self.ended_well(patience)?;
                Ok(text.trim_end().to_owned())
            }
            _ => Err(Failure::new(format!("no reply within {}", say::duration(patience)))),
        }
    }

    /// Waits for exit code 0.
    pub(crate) fn ended_well(mut self, patience: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    let log: Vec<String> = self.log.try_iter().collect();
                    return Err(Failure::new(format!(
                        "it ended with {status}\n{}",
                        log.join("\n")
                    )));
                }
                Ok(None) => thread::sleep(Duration::from_millis(2)),
                Err(error) => return Err(Failure::new(error.to_string())),
            }
        }
        Err(Failure::new(format!("it did not end within {}", say::duration(patience))))
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn players() -> Players {
        Players::gather(Path::new("majordomo")).unwrap()
    }

    #[test]
    fn nothing_outlives_the_players() {
        let players = players();
        let (mark, directory) = (players.mark.clone(), players.directory.clone());
        let shell =
            players.shell("shell", "trap '' TERM; sleep 1000 & echo started >&2; sleep 1000");
        let player = Player::start(shell).unwrap();
        player.wait_for("started", PATIENCE).unwrap();
        // The environment of a process cannot be read at the moment when it becomes another program.
        let deadline = Instant::now() + PATIENCE;
        while processes_with(&mark).len() < 2 {
            assert!(Instant::now() < deadline);
        }

        players.leave().unwrap();

        assert!(processes_with(&mark).is_empty());
        assert!(!directory.exists());
    }

    #[test]
    fn killed_player_takes_its_children_along_and_no_others() {
        let players = players();
        let start = |role| {
            let shell = players.shell(role, "sleep 1000 & echo started >&2; wait");
            let player = Player::start(shell).unwrap();
            player.wait_for("started", PATIENCE).unwrap();
            player
        };
        let (one, other) = (start("one"), start("other"));
        let count = |player: &Player| processes_with(&format!("{MARK}={}", player.role)).len();
        let of_one = format!("{MARK}={}", one.role);
        let deadline = Instant::now() + PATIENCE;
        while count(&other) < 2 {
            assert!(Instant::now() < deadline);
        }

        players.kill(one);

        assert!(left_of(&of_one).is_empty());
        assert_eq!(count(&other), 2);
    }

    #[test]
    fn answer_is_what_was_printed_by_a_player_that_ended_well() {
        let players = players();
        let answer = |script| Player::start(players.shell("s", script)).unwrap().answer(PATIENCE);

        assert_eq!(answer("echo yes"), Ok("yes".to_owned()));
        assert!(answer("echo no; exit 3").unwrap_err().to_string().contains("exit status: 3"));
    }
}
