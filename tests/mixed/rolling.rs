//! A rolling upgrade, and the way back, under calls: none fails.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use cluster_tests::{AtEnd, ClusterNode, Reachable, TestCluster, wait_until};
use mdp_client::{Client, ClientOptions, Request, StopHandle, Worker, WorkerOptions};
use rustix::process::Signal;

use crate::{
    Release::{self, Next, This},
    cluster_of, machine, wait_until_all_speak,
};

const SERVICE: &str = "echo";

/// Each with one call at a time; as many workers.
const CLIENTS: usize = 6;

/// Between two calls of a client.
const PERIOD: Duration = Duration::from_millis(5);

/// Of the workers.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// How long a node may take to leave.
const LEFT_WITHIN: Duration = Duration::from_secs(22);

/// How long all nodes may take to know the service.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

fn work(endpoints: Vec<String>, stop: &StopHandle) {
    let options = WorkerOptions::default()
        .endpoints(endpoints)
        .service(SERVICE.into())
        .heartbeat_interval(HEARTBEAT);
    Worker::run(options, |request: Request| request.frames, stop).unwrap();
}

/// Calls until it is over. Returns how many calls were answered.
fn call(endpoints: Vec<String>, number: usize, is_over: &AtomicBool) -> u64 {
    let options = ClientOptions::default().endpoints(endpoints);
    let mut client = Client::connect(options).unwrap();
    let mut answered = 0;
    while !is_over.load(Ordering::SeqCst) {
        let body = format!("{number}.{answered}");
        let reply = client.call(SERVICE, body.as_str()).unwrap();
        assert_eq!(reply.frames, [body.as_bytes()], "the reply to something else");
        answered += 1;
        thread::sleep(PERIOD);
    }
    answered
}

/// Restarts a node with what is changed about it.
pub(crate) fn replace(
    cluster: &mut TestCluster,
    node: usize,
    change: impl FnOnce(&mut ClusterNode),
) {
    cluster.node(node).signal(Signal::TERM);
    let code = cluster.node_mut(node).wait_for_exit(LEFT_WITHIN);
    assert_eq!(code, Some(0), "{}", cluster.node(node).log());
    change(cluster.node_mut(node));
    cluster.node_mut(node).start();
    cluster.wait_until_ready();
}

#[test]
fn upgrade_and_rollback_under_calls_lose_none() {
    let _machine = machine();
    rolls_under_calls(This, &[(Next, 2), (This, 1)]);
}

/// From this release to each of the others, node by node; at the end of each all calls between nodes are
/// in this format.
pub(crate) fn rolls_under_calls(first: Release, steps: &[(Release, u16)]) {
    let mut cluster = cluster_of([first; 3]).started();
    let mut leaders = Vec::new();
    let answered = under_calls(&mut cluster, |cluster| {
        for &(release, format) in steps {
            for node in 0..cluster.nodes().len() {
                replace(cluster, node, |node| release.install(node));
                leaders.push((release, cluster.leader() <= node));
            }
            wait_until_all_speak(cluster, &[0, 1, 2], format);
        }
    });
    println!("{answered} calls answered, none failed; {leaders:?}");
    // Each version led.
    assert!(answered > 1_000, "{answered}");
    assert!(steps.iter().all(|(release, _)| leaders.contains(&(*release, true))), "{leaders:?}");
}

/// Does something while clients call. Returns how many calls were answered; none may fail.
pub(crate) fn under_calls(cluster: &mut TestCluster, act: impl FnOnce(&mut TestCluster)) -> u64 {
    let endpoints: Vec<String> = cluster.nodes().iter().map(Reachable::endpoint).collect();
    let (is_over, stop) = (AtomicBool::default(), StopHandle::new());
    thread::scope(|scope| {
        let (is_over, stop) = (&is_over, &stop);
        let _ending = AtEnd::new(|| {
            is_over.store(true, Ordering::SeqCst);
            stop.stop();
        });
        let told = |number: usize| {
            let mut told = endpoints.clone();
            told.rotate_left(number % endpoints.len());
            told
        };
        let workers: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let told = told(number);
                scope.spawn(move || work(told, stop))
            })
            .collect();
        wait_until("the service is known", KNOWN_WITHIN, || {
            cluster.nodes().iter().all(|node| node.metric("catalog_services") == 1)
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let told = told(number + 1);
                scope.spawn(move || call(told, number, is_over))
            })
            .collect();
        act(cluster);
        is_over.store(true, Ordering::SeqCst);
        let answered = clients.into_iter().map(|client| client.join().unwrap()).sum();
        stop.stop();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        answered
    })
}
