//! Child processes: those that a thread here waits for, and orphans that only have to be reaped.
//!
//! As process 1 of a container, and as a subreaper, this process inherits what its descendants leave
//! behind. If it does not wait for them they stay as zombies, two for each request of some commands,
//! until the table of processes is full.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::process::CommandExt as _,
    process::{self, Child, Command, ExitStatus},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

/// The children that a thread waits for; each leads a process group of its own. A child is started
/// and reaped under this lock only, so that an id in here is never that of another process.
static ATTENDED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Whether orphans come here.
static INHERITS: AtomicBool = AtomicBool::new(false);

fn attended() -> MutexGuard<'static, BTreeSet<i32>> {
    ATTENDED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the orphans among all descendants come to this process, as they do to process 1, instead of
/// to another.
pub(crate) fn inherit_orphans() {
    let is_inheriting = is_first() || adopt().is_ok();
    INHERITS.store(is_inheriting, Ordering::Relaxed);
}

/// Whether this process is the first of its container.
pub(crate) fn is_first() -> bool {
    process::id() == 1
}

/// Asks for SIGTERM when the thread that started this process ends. If its process has ended already,
/// that is an error.
#[cfg(target_os = "linux")]
pub(crate) fn end_with(parent: i32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    let is_there =
        rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent);
    if is_there {
        Ok(())
    } else {
        Err(io::Error::other("the process that started this one has ended"))
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn end_with(_parent: i32) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn adopt() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

#[cfg(not(target_os = "linux"))]
fn adopt() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Starts a child that leads a process group of its own: a Ctrl-C that is meant for this process lets
/// it finish, and all of it can be killed together.
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    let mut attended = attended();
    let child = command.process_group(0).spawn()?;
    attended.insert(pid(&child)?.as_raw_nonzero().get());
    Ok(child)
}

/// Waits until a child has ended, without reaping it: as long as it is there, its group's id cannot be
/// that of another.
pub(crate) fn wait_until_ended(pid: Pid) -> io::Result<()> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(pid), options) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends a signal to a child, unless it was reaped: then its id may be that of any process.
pub(crate) fn signal(pid: Pid, signal: Signal) {
    // The lock is held until the signal was sent: the child is not reaped meanwhile.
    let attended = attended();
    if attended.contains(&pid.as_raw_nonzero().get()) {
        // It may have ended, and not have been reaped yet.
        kill_process(pid, signal).ok();
    }
}

/// Kills what is left of a child with its group, and reaps it.
pub(crate) fn end(child: &mut Child) -> io::Result<ExitStatus> {
    let mut attended = attended();
    let pid = pid(child)?;
    // That nothing is left is the usual case.
    kill_process_group(pid, Signal::KILL).ok();
    let status = child.wait();
    attended.remove(&pid.as_raw_nonzero().get());
    status
}

/// Kills every child with its group. The list stays locked, so that no child begins or ends meanwhile:
/// the process is about to end.
pub(crate) fn kill_all() {
    let attended = attended();
    for pid in attended.iter().copied().filter_map(Pid::from_raw) {
        kill_process_group(pid, Signal::KILL).ok();
    }
    std::mem::forget(attended);
}

/// Reaps the children that no thread waits for; to be called at each SIGCHLD.
pub(crate) fn reap_orphans() {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let is_inheriting = INHERITS.load(Ordering::Relaxed);
    let attended = attended();
    // Usually what ended is a child that is waited for, and has been reaped by now.
    let is_zombie = |id| matches!(waitid(id, ended | WaitIdOptions::NOWAIT), Ok(Some(_)));
    if !is_inheriting || !is_zombie(WaitId::All) {
        return;
    }
    for pid in ids_of_children().into_iter().filter(|pid| !attended.contains(pid)) {
        if let Some(pid) = Pid::from_raw(pid) {
            waitid(WaitId::Pid(pid), ended).ok();
        }
    }
}

/// All children of this process, by the threads that they belong to. `waitid` does not tell.
fn ids_of_children() -> Vec<i32> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| {
        // A thread that has ended meanwhile has passed its children on.
        fs::read_to_string(thread.path().join("children")).ok()
    });
    lists
        .flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>())
        .collect()
}

/// The process id of a child.
pub(crate) fn pid(child: &Child) -> io::Result<Pid> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    id.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn sleep() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    #[test]
    fn signal_is_for_a_child_that_was_not_reaped_and_for_no_other_process() {
        let mut child = start(&mut sleep()).unwrap();
        let child_pid = pid(&child).unwrap();
        signal(child_pid, Signal::TERM);
        wait_until_ended(child_pid).unwrap();
        assert_eq!(end(&mut child).unwrap().signal(), Some(Signal::TERM.as_raw()));
        assert!(!attended().contains(&child_pid.as_raw_nonzero().get()));

        // It stands for the process that has the id of a reaped child now.
        let mut other = sleep().spawn().unwrap();
        signal(pid(&other).unwrap(), Signal::TERM);
        other.kill().unwrap();
        assert_eq!(other.wait().unwrap().signal(), Some(Signal::KILL.as_raw()), "not by TERM");
    }
}
