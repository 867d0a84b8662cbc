//! What signals do to `serve` and `work`, and what becomes of commands and their children.

use std::{
    fs,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, test_kill_process};
use tempfile::tempdir;

use crate::{
    program::{Broker, PATIENCE, Running, majordomo, printed},
    work::{Working, is_running},
};

/// Waits until it is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

const MEANINGLESS: [(Signal, &str); 3] =
    [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2"), (Signal::QUIT, "SIGQUIT")];

#[test]
fn broker_goes_on_after_signals_that_are_no_stop() {
    let mut broker = Broker::start();

    for (signal, name) in MEANINGLESS.into_iter().chain([(Signal::HUP, "SIGHUP")]) {
        broker.process.signal(signal);
        let line = broker.process.wait_for_line(|line| line.contains(name));
        assert!(line.contains("ignored: "), "{line}");
    }

    assert_eq!(printed(&broker.run(&["call", "mmi.service", "echo"])), "404\n");
    broker.process.signal(Signal::TERM);
    assert_eq!(broker.process.wait_for_end().code(), Some(0), "{}", broker.process.seen());
}

#[test]
fn hang_up_lets_the_worker_finish_its_request() {
    let mut working = Working::start();

    for (signal, name) in MEANINGLESS {
        working.worker.signal(signal);
        working.worker.wait_for_line(|line| line.contains(name) && line.contains("ignored: "));
    }
    working.assert_finishes_after(Signal::HUP, "SIGHUP");
}

#[test]
fn hang_up_does_nothing_to_a_worker_under_nohup() {
    let broker = Broker::start();
    let program = majordomo(&["work", "echo", "--echo", "--endpoint", &broker.endpoint]);
    let mut nohup = std::process::Command::new("nohup");
    nohup.arg(program.get_program()).args(program.get_args()).stdin(Stdio::null());
    let mut worker = Running::start(nohup);
    worker.wait_for_line(|line| line.contains("registered"));

    worker.signal(Signal::HUP);
    // The next signal is behind it, so what it does shows that the first one did nothing.
    worker.signal(Signal::USR1);
    worker.wait_for_line(|line| line.contains("SIGUSR1"));

    assert_eq!(printed(&broker.run(&["call", "echo", "hi"])), "hi\n");
    assert!(!worker.seen().contains("stopping"), "{}", worker.seen());
}

fn pid_in(file: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(file).ok()?.trim().parse().ok()?)
}

#[test]
fn commands_of_a_worker_that_is_killed_end_with_all_their_children() {
    let broker = Broker::start();
    let directory = tempdir().unwrap();
    let files = ["shell", "child", "other-session"].map(|name| directory.path().join(name));
    let [shell, child, other] = files.each_ref().map(|file| file.display().to_string());
    let exec = format!(
        "echo $$ > {shell}; sleep 600 & echo $! > {child}; \
         setsid sh -c 'echo $$ > {other}; exec sleep 600' & wait"
    );
    let worker = broker.work("slow", &["--exec", &exec]);
    let call = ["call", "slow", "--timeout", "60s", "--endpoint", &broker.endpoint];
    let _client = Running::start(majordomo(&call));
    wait_until("the command runs", || files.iter().all(|file| pid_in(file).is_some()));
    let pids = files.each_ref().map(|file| pid_in(file).unwrap());
    assert!(pids.iter().all(|pid| is_running(*pid)), "{pids:?}");

    worker.signal(Signal::KILL);

    wait_until("all of the command ended", || !pids.iter().any(|pid| is_running(*pid)));
}

/// The children of a process that have ended and were not reaped, and those that live.
fn children(pid: u32) -> (Vec<i32>, Vec<i32>) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lists = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("children")));
    let ids = lists.flatten().flat_map(|list| {
        list.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<i32>>()
    });
    ids.partition(|id| !is_running(Pid::from_raw(*id).unwrap()))
}

#[test]
fn what_a_command_leaves_behind_is_reaped() {
    let broker = Broker::start();
    let directory = tempdir().unwrap();
    let orphan = directory.path().join("orphan");
    // One child in the command's group, which is killed, and one that left it, which lives on.
    let orphan_file = orphan.display();
    let exec = format!(
        "(sleep 600 &) ; setsid sh -c 'echo $$ > {orphan_file}; exec sleep 600' > /dev/null 2>&1 & \
         echo done; while ! [ -s {orphan_file} ]; do sleep 0.01; done"
    );
    let mut worker = broker.work("forks", &["--exec", &exec]);

    for _ in 0..10 {
        fs::remove_file(&orphan).ok();
        let call = ["call", "forks", "--timeout", "20s"];
        assert_eq!(printed(&broker.run(&call)), "done\n\n");
        let orphan = pid_in(&orphan).unwrap();
        let is_adopted = || children(worker.pid()).1.contains(&orphan.as_raw_nonzero().get());
        wait_until("the orphan came to the worker", is_adopted);
        rustix::process::kill_process(orphan, Signal::KILL).unwrap();
        wait_until("the orphan was reaped", || test_kill_process(orphan).is_err());
    }

    wait_until("no zombie is left", || children(worker.pid()).0.is_empty());
    // Its guard.
    assert_eq!(children(worker.pid()).1.len(), 1);
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait_for_end().code(), Some(0), "{}", worker.seen());
}
