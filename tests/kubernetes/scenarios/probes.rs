//! What probes look at: never other nodes for liveness, always the own broker thread.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cluster_tests::{hold_for, wait_until};
use kubernetes_tests::{Driver, What};

use crate::{READY_WITHIN, deployed, image, part_of_the_machine};

/// Liveness is asked for every ten seconds: at least once.
const LONG_ENOUGH: Duration = Duration::from_secs(25);

/// Up to twenty seconds until a probe fails for the first time, for a thread may make no turn for ten; fifty
/// until the sixth failure; five seconds of grace; and what the machine takes. With the pod's grace period
/// it would be two minutes.
const FROZEN_FOR_MAX: Duration = Duration::from_secs(90);

/// Whether a process has ended, also while a tracer keeps one of its threads.
fn has_ended(process: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return true };
    // After the name, which may hold anything: the state.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn liveness_failures(driver: &Driver) -> usize {
    let is_one = |what: &What| matches!(what, What::LivenessFailed | What::Unhealthy);
    driver.events().iter().filter(|event| is_one(&event.what)).count()
}

#[test]
fn lost_quorum_makes_nobody_ready_and_nobody_dead() {
    let Some(_machine) = part_of_the_machine() else { return };
    let driver = deployed(&image());

    // The others cannot be asked by anybody any more, so that only this one is looked at.
    driver.set_frozen(1, true);
    driver.set_frozen(2, true);
    wait_until("the last one is not ready", READY_WITHIN, || driver.ready() == 0);
    let of_first = || driver.events().iter().filter(|event| event.pod == 0).count();
    let before = of_first();
    hold_for("the last one lives", LONG_ENOUGH, || of_first() == before);
    for ordinal in [1, 2] {
        driver.set_frozen(ordinal, false);
    }
    driver.wait_until_ready(READY_WITHIN);
}

/// Stops one thread of a process, and no other.
struct Stopped(Child);

impl Stopped {
    fn thread_named(process: u32, name: &str) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let found = tasks.filter_map(Result::ok).find(|task| {
            let comm = std::fs::read_to_string(task.path().join("comm"));
            comm.is_ok_and(|comm| comm.trim() == name)
        });
        let task = found.unwrap_or_else(|| panic!("no thread {name}")).file_name();
        let mut strace = Command::new("strace");
        // Its next wait for sockets takes two minutes longer.
        strace.args(["-qq", "-o", "/dev/null", "-e", "trace=epoll_wait,epoll_pwait"]);
        strace.args(["-e", "inject=epoll_wait,epoll_pwait:delay_enter=120s", "-p"]).arg(task);
        Self(strace.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn node_whose_broker_thread_stands_still_is_restarted() {
    let Some(_machine) = part_of_the_machine() else { return };
    let driver = deployed(&image());
    assert_eq!(liveness_failures(&driver), 0);

    let process = driver.process(1);
    let stopped = Stopped::thread_named(process, "mdp-broker");
    let begun = Instant::now();

    // Its broker never hears that it is to end, and it is killed soon: nothing could be drained.
    wait_until("it was killed", FROZEN_FOR_MAX, || has_ended(process));
    println!("killed {:.1?} after its broker thread was stopped", begun.elapsed());
    assert!(driver.events().iter().any(|e| e.pod == 1 && e.what == What::Unhealthy));
    drop(stopped);
    driver.wait_until_ready(Duration::from_secs(120));
    assert!(driver.events().iter().all(|event| event.pod == 1 || event.what != What::Unhealthy));
}
