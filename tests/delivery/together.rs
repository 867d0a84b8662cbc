//! All nodes are told to leave at the same moment, under load.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{
    AtEnd, RawSocket, RawWorker, Reachable, Receipt, TestCluster, Version, scale, wait_until,
};
use rustix::process::Signal;

use crate::{let_pass, machine, workers_of};

/// `drain.timeout`, as built in, and how long a process may take to end after it.
const LEFT_WITHIN: Duration = Duration::from_secs(22);

/// Workers at each node, and how long a job takes: less than clients ask for, so that requests wait.
const WORKERS_PER_NODE: usize = 3;
const JOB: Duration = Duration::from_millis(20);

/// Requests a second at each node.
const PER_SECOND: u32 = 300;

/// How long the load is on before all nodes leave.
const LOADED_FOR: Duration = Duration::from_secs(2);

/// Requests of each client that nobody can serve.
const ABSENT: u64 = 5;

/// How many replies may be under way while a signal is.
const EARLY_MAX: u64 = 100;

/// Serves until its node sends it away.
fn work(endpoint: &str, context: &zmq::Context) {
    let socket = RawSocket::connect(endpoint, context, zmq::DEALER, |_| Ok(()));
    let worker = RawWorker { socket, version: Version::V01 };
    worker.ready("job");
    while let Some(message) = worker.recv_command(LEFT_WITHIN) {
        if message == Version::V01.disconnect() {
            return;
        }
        let [_, _, _, address, _, body] = message.as_slice() else { panic!("{message:?}") };
        thread::sleep(JOB);
        worker.answer(address, body);
    }
    panic!("the worker was never sent away");
}

/// What a client of one node has sent, and got.
struct Asked {
    sent: usize,
    answered: usize,
    /// Replies that came after the nodes were told to leave.
    answered_late: usize,
}

/// Asks until told to stop, and reads until the node has ended.
fn ask(endpoint: &str, is_leaving: &AtomicBool, is_over: &AtomicBool) -> Asked {
    let socket = RawSocket::dealer(endpoint);
    let started_at = Instant::now();
    let (mut sent, mut open, mut answered_late) = (0_u32, HashSet::new(), 0);
    let absent = usize::try_from(ABSENT).unwrap();
    for _ in 0..ABSENT {
        socket.send(&Version::V01.request("absent", &[b"-"]));
    }
    loop {
        let was_over = is_over.load(Ordering::SeqCst);
        let due_at = started_at + Duration::from_secs(1) / PER_SECOND * sent;
        if !is_leaving.load(Ordering::SeqCst) && Instant::now() >= due_at {
            socket.send(&Version::V01.request("job", &[sent.to_string().as_bytes()]));
            open.insert(sent.to_string().into_bytes());
            sent += 1;
        }
        while let Some(reply) = socket.recv_within(Duration::from_millis(1)) {
            let body = reply.last().unwrap();
            assert!(open.remove(body), "an unexpected reply: {reply:?}");
            answered_late += usize::from(is_leaving.load(Ordering::SeqCst));
        }
        // What came before the end of the node has been read.
        if was_over {
            let sent = usize::try_from(sent).unwrap();
            return Asked { sent: sent + absent, answered: sent - open.len(), answered_late };
        }
    }
}

fn leave_together() {
    let mut cluster = TestCluster::start(&[]);
    let endpoints: Vec<String> = cluster.nodes().iter().map(Reachable::endpoint).collect();
    let context = zmq::Context::new();
    let (is_leaving, is_over) = (AtomicBool::default(), AtomicBool::default());
    let (asked, took): (Vec<Asked>, Duration) = thread::scope(|scope| {
        let (context, is_leaving, is_over) = (&context, &is_leaving, &is_over);
        let _ending = AtEnd::new(|| {
            is_leaving.store(true, Ordering::SeqCst);
            is_over.store(true, Ordering::SeqCst);
        });
        for endpoint in endpoints.iter().flat_map(|endpoint| [endpoint; WORKERS_PER_NODE]) {
            scope.spawn(move || work(endpoint, context));
        }
        wait_until("all workers are registered", Duration::from_secs(10), || {
            workers_of(&cluster, "job") == 3 * WORKERS_PER_NODE
        });
        cluster.wait_until_level();
        let clients: Vec<_> = endpoints
            .iter()
            .map(|endpoint| scope.spawn(move || ask(endpoint, is_leaving, is_over)))
            .collect();
        let_pass(LOADED_FOR);

        // What was sent before is read before anybody has left.
        is_leaving.store(true, Ordering::SeqCst);
        cluster.nodes().iter().for_each(|node| node.signal(Signal::TERM));
        let left_at = Instant::now();
        for node in cluster.nodes_mut() {
            assert_eq!(node.wait_for_exit(LEFT_WITHIN), Some(0), "{}", node.log());
        }
        let took = left_at.elapsed();
        is_over.store(true, Ordering::SeqCst);
        (clients.into_iter().map(|client| client.join().unwrap()).collect(), took)
    });

    let sum = |of: fn(&Asked) -> usize| asked.iter().map(of).sum::<usize>();
    let (sent, answered, late) =
        (sum(|one| one.sent), sum(|one| one.answered), sum(|one| one.answered_late));
    let receipts: Vec<Receipt> =
        cluster.nodes().iter().flat_map(|node| Receipt::read_all(&node.log())).collect();
    let total = Receipt::sum(&receipts);
    println!("all left in {took:.1?}: {sent} sent, {answered} answered, {late} of them late");
    println!("receipts: {receipts:?}");
    let missing = u64::try_from(sent - answered).unwrap();
    assert_eq!(receipts.len(), cluster.nodes().len());
    assert_eq!(total.dropped, missing, "dropped, and missing: {total:?}");
    assert!(missing >= ABSENT * 3, "requests that nobody can serve were answered");
    let late = u64::try_from(late).unwrap();
    // Some replies came after the signal and before the drain.
    assert!((total.finished..=total.finished + EARLY_MAX).contains(&late), "{total:?}, {late}");
    assert!(late > 0, "nothing was going on");
}

#[test]
fn all_nodes_leave_at_once_under_load_and_their_receipts_add_up() {
    let _machine = machine();
    for _ in 0..scale().pick(1, 20) {
        leave_together();
    }
}
