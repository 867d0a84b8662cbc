//! What a host does to its tasks, its timers and its random numbers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use mdp_raft::Runtime as _;
use openraft_rt::AsyncRuntime as _;
use tokio::time::Instant;

use super::super::{Host, Hosts, runtime::HostRuntime};

const SECOND: Duration = Duration::from_secs(1);

/// Counts each second of its host's clock.
async fn count(seconds: Arc<AtomicU32>) {
    loop {
        HostRuntime::sleep(SECOND).await;
        seconds.fetch_add(1, Ordering::Relaxed);
    }
}

/// A host on which something counts.
async fn counting() -> (Host, Arc<AtomicU32>) {
    let (host, seconds) = (Host::new(1), Arc::default());
    let counter = count(Arc::clone(&seconds));
    host.run(async { drop(HostRuntime::spawn(counter)) }).await;
    (host, seconds)
}

#[tokio::test(start_paused = true)]
async fn paused_host_stands_still_and_finds_its_timers_late() {
    let (host, seconds) = counting().await;
    tokio::time::sleep(SECOND * 10 + SECOND / 2).await;
    assert_eq!(seconds.load(Ordering::Relaxed), 10);

    host.pause();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(seconds.load(Ordering::Relaxed), 10);

    host.resume();
    tokio::time::sleep(SECOND / 4).await;
    assert_eq!(seconds.load(Ordering::Relaxed), 11, "the timer that was due, and no more");
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(seconds.load(Ordering::Relaxed), 13);
}

#[tokio::test(start_paused = true)]
async fn killed_host_does_nothing_ever_after() {
    let (host, seconds) = counting().await;
    tokio::time::sleep(SECOND * 3 / 2).await;

    host.kill();
    assert_eq!(Arc::strong_count(&seconds), 1, "its tasks are dropped at once");
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(seconds.load(Ordering::Relaxed), 1);

    tokio::time::timeout(SECOND, host.run(async {})).await.unwrap_err();
    let spawned = tokio::spawn(host.look(|| Hosts::here(async {})));
    tokio::time::timeout(SECOND, spawned).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn timers_go_by_the_clock_of_their_host() {
    let host = Host::new(1);
    let begin = Instant::now();
    host.set_rate(1_100_000);

    host.run(async { HostRuntime::sleep(SECOND * 11).await }).await;
    assert_eq!(begin.elapsed(), SECOND * 10);
    assert_eq!(host.now() - begin, SECOND * 11);

    host.set_rate(900_000);
    let late =
        host.run(async { HostRuntime::timeout(SECOND * 9, std::future::pending::<()>()).await });
    late.await.unwrap_err();
    assert_eq!(begin.elapsed(), SECOND * 20);
    assert_eq!(host.now() - begin, SECOND * 20);
}

#[tokio::test(start_paused = true)]
async fn timer_that_is_set_follows_a_change_of_the_rate() {
    let (host, seconds) = counting().await;
    tokio::time::sleep(SECOND / 2).await;

    host.set_rate(10_000_000);
    tokio::time::sleep(SECOND / 10).await;

    assert_eq!(seconds.load(Ordering::Relaxed), 1, "half a second is over in a twentieth");
    host.sleep_until(host.now() + SECOND).await;
    assert!(seconds.load(Ordering::Relaxed) >= 2);
}

#[tokio::test(start_paused = true)]
async fn clock_of_a_host_is_tokios_until_it_is_set_wrong() {
    let host = Host::new(1);
    tokio::time::sleep(SECOND).await;
    assert_eq!(host.now(), Instant::now());

    let before = Instant::now();
    host.run(async { HostRuntime::sleep(SECOND).await }).await;
    assert_eq!(before.elapsed(), SECOND);
}

fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    Hosts::fill_random(&mut bytes).unwrap();
    bytes
}

/// A few numbers that a task and its children take.
async fn numbers(host: &Host) -> Vec<[u8; 16]> {
    let here = host.run(async {
        let child = HostRuntime::spawn(async { random_bytes() });
        let own = random_bytes();
        vec![child.await.unwrap(), own, random_bytes()]
    });
    here.await
}

#[tokio::test(start_paused = true)]
async fn random_numbers_come_from_the_seed_and_are_never_the_same_twice() {
    let host = Host::new(1);
    let mut all = numbers(&host).await;
    all.extend(numbers(&host).await);
    assert_eq!(all[..3], numbers(&Host::new(1)).await);

    all.extend(numbers(&Host::new(2)).await);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 9);
}

#[tokio::test(start_paused = true)]
async fn task_of_one_host_may_wait_for_another() {
    let (caller, callee) = (Host::new(1), Host::new(2));
    callee.set_rate(2_000_000);

    let begin = Instant::now();
    caller.run(callee.run(async { HostRuntime::sleep(SECOND).await })).await;
    assert_eq!(begin.elapsed(), SECOND / 2);

    callee.pause();
    let answer =
        caller.run(async { HostRuntime::timeout(SECOND, callee.run(async { 7 })).await }).await;
    answer.unwrap_err();
}
