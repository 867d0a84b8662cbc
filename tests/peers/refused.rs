//! Refused workers that come back at once, for ever, as the Guide's worker does.

use std::time::{Duration, Instant};

use cluster_tests::{NodeProcess, PATIENCE, QUIET, RawWorker, Version};
use rustix::process::Signal;

use crate::assert_serves;

/// How long the refused worker tries.
const STORM: Duration = Duration::from_secs(3);

/// At once and offender: ten, and ten more a second.
const REFUSALS_AT_ONCE_MAX: u32 = 10 + 3 * 10 + 3;

/// The others are held back by 250 ms each.
const REFUSALS_MAX: u32 = REFUSALS_AT_ONCE_MAX + 3 * 4;

fn storm(node: &NodeProcess, ready: &[Vec<u8>]) -> u32 {
    let until = Instant::now() + STORM;
    let mut refusals = 0;
    while Instant::now() < until {
        let worker = RawWorker::connect(node, Version::V01);
        worker.socket.send(ready);
        assert_eq!(worker.recv_command(PATIENCE), Some(Version::V01.disconnect()));
        refusals += 1;
    }
    refusals
}

#[test]
fn refused_worker_that_returns_at_once_is_slowed_down() {
    let mut node = NodeProcess::start(&[QUIET]);

    let refusals = storm(&node, &Version::V01.ready("mmi.mine"));

    assert!(refusals >= 10, "only {refusals} refusals in {STORM:?}");
    assert!(refusals <= REFUSALS_MAX, "{refusals} refusals in {STORM:?}");
    assert_serves(&mut node);
}

#[test]
fn refusals_that_are_held_back_are_not_logged() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::connect(&node, Version::V01);

    for _ in 0..200 {
        worker.ready("mmi.mine");
    }
    for _ in 0..200 {
        worker.expect_disconnect();
    }

    let lines = node.log().iter().filter(|line| line.contains("refused")).count();
    let lines_max = usize::try_from(REFUSALS_AT_ONCE_MAX).unwrap();
    assert!((1..=lines_max).contains(&lines), "{lines} log lines for 200 refusals");
}

#[test]
fn bad_ready_that_returns_at_once_is_slowed_down() {
    let mut node = NodeProcess::start(&[QUIET]);

    let refusals = storm(&node, &Version::V01.ready(""));

    assert!(refusals <= REFUSALS_MAX, "{refusals} refusals in {STORM:?}");
    assert_serves(&mut node);
}

#[test]
fn refusals_of_one_name_do_not_slow_another() {
    let node = NodeProcess::start(&[QUIET]);
    let worker = RawWorker::connect(&node, Version::V01);
    for _ in 0..20 {
        worker.ready("mmi.mine");
    }
    let asked = Instant::now();

    let other = RawWorker::connect(&node, Version::V01);
    other.ready("mmi.other");
    other.expect_disconnect();

    assert!(asked.elapsed() < Duration::from_millis(200), "{:?}", asked.elapsed());
    for _ in 0..20 {
        worker.expect_disconnect();
    }
}

/// So many lines of one source are written at once.
const LINES_AT_ONCE: usize = 10;
/// Each further one takes this long.
const LINE_INTERVAL_S: usize = 10;

/// How many lines of the log have these words, once the node has ended.
fn lines(mut node: NodeProcess, words: &[&str]) -> usize {
    node.signal(Signal::TERM);
    assert!(node.wait_for_exit(PATIENCE).success());
    let log = node.log();
    log.iter().filter(|line| words.iter().any(|words| line.contains(words))).count()
}

#[test]
fn worker_that_comes_and_goes_has_a_few_lines_in_the_log() {
    let began = Instant::now();
    let node = NodeProcess::start(&[QUIET]);

    for _ in 0..200 {
        RawWorker::register(&node, Version::V01, "echo").disconnect();
    }

    let took = usize::try_from(began.elapsed().as_secs()).unwrap();
    let lines = lines(node, &["service up", "service down"]);
    assert!(lines >= LINES_AT_ONCE, "{lines}");
    assert!(lines <= LINES_AT_ONCE + took / LINE_INTERVAL_S + 2, "{lines} in {took} s");
}

#[test]
fn registrations_refused_under_ever_new_names_have_a_few_lines_in_the_log() {
    let began = Instant::now();
    let node = NodeProcess::start(&[QUIET]);

    for number in 0..200 {
        let worker = RawWorker::connect(&node, Version::V01);
        worker.ready(format!("mmi.x{number}"));
        worker.expect_disconnect();
    }

    let took = usize::try_from(began.elapsed().as_secs()).unwrap();
    let lines = lines(node, &["registration refused"]);
    assert!(lines >= LINES_AT_ONCE, "{lines}");
    assert!(lines <= LINES_AT_ONCE + took / LINE_INTERVAL_S + 2, "{lines} in {took} s");
}
