//! A node leaves on purpose while it owes replies, and while others owe some to it.

use std::time::{Duration, Instant};

use cluster_tests::{
    Asker, Code, PATIENCE, QUIET, RawClient, RawWorker, Receipt, TestCluster, Version, wait_until,
};
use rustix::process::Signal;

use crate::{client, register};

/// How long a node may take to leave once nothing is left to do.
const LEFT_WITHIN: Duration = Duration::from_secs(8);

/// How long a READY to a draining node waits for its DISCONNECT at least.
const REFUSED_AFTER: Duration = Duration::from_millis(250);

/// How long to listen to one worker before the next.
const TURN: Duration = Duration::from_millis(20);

/// How long a drain may take where a test sets it.
const SHORT_TIMEOUT: (&str, &str) = ("drain.timeout", "3s");

fn drain(cluster: &TestCluster, node: usize) {
    cluster.node(node).signal(Signal::TERM);
}

/// Waits until the node says of itself that it is leaving.
#[track_caller]
fn wait_until_draining(cluster: &TestCluster, node: usize) {
    wait_until("the node drains", PATIENCE, || {
        cluster.node(node).readiness().is_some_and(|now| !now.is_ready)
    });
}

/// What became of the requests that a node owed replies to, or got while it drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Accounts {
    finished: u64,
    handed_over: u64,
    dropped: u64,
}

impl Accounts {
    const fn sum(self) -> u64 {
        self.finished + self.handed_over + self.dropped
    }
}

/// Waits until the node has left by itself, as it should, and reads the one receipt in its log.
#[track_caller]
fn after_leaving(cluster: &mut TestCluster, node: usize, within: Duration) -> Accounts {
    let code = cluster.node_mut(node).wait_for_exit(within);
    let log = cluster.node(node).log();
    assert_eq!(code, Some(0), "{log}");
    let receipts = Receipt::read_all(&log);
    let [receipt] = receipts.as_slice() else { panic!("{} receipts in {log}", receipts.len()) };
    let Receipt { finished, handed_over, dropped, .. } = *receipt;
    Accounts { finished, handed_over, dropped }
}

/// Requests of one service at one node: one that its worker has, and one that waits behind it.
struct Busy {
    worker: RawWorker,
    client: RawClient,
    service: &'static str,
    held: Vec<u8>,
}

impl Busy {
    /// A worker and a client of these nodes.
    fn new(cluster: &TestCluster, worker: usize, of: usize, service: &'static str) -> Self {
        let (worker, client) = (register(cluster, worker, service), client(cluster, of));
        client.request(service, "held");
        let held = worker.expect_work("held");
        Self { worker, client, service, held }
    }

    fn finish_held(&self) {
        self.worker.answer(&self.held, "done");
        self.client.expect_reply(self.service, "done");
    }

    fn ask_for_more(&self) {
        self.client.request(self.service, "waiting");
        self.client.settle();
    }

    /// Answers the next request with its body, if there is one; how many.
    fn serve_one(&self, patience: Duration) -> u32 {
        match self.worker.recv_command(patience) {
            Some(work) if work != Version::V01.disconnect() => {
                self.worker.answer(&work[3], &work[5]);
                1
            }
            Some(_) | None => 0,
        }
    }

    /// Goes on until the worker is told to go; how many requests there were.
    #[track_caller]
    fn serve_until_disconnected(&self) -> u64 {
        let mut served = 0;
        loop {
            let message = self.worker.recv_command(PATIENCE);
            let message =
                message.unwrap_or_else(|| panic!("no DISCONNECT after {served} requests"));
            if message == Version::V01.disconnect() {
                return served;
            }
            self.worker.answer(&message[3], &message[5]);
            self.client.expect_reply(self.service, &message[5]);
            served += 1;
        }
    }

    fn finish_waiting(&self) {
        self.worker.serve("waiting", "done too");
        self.client.expect_reply(self.service, "done too");
    }
}

/// Whatever a node that leaves owes is finished, handed over, or counted as dropped.
#[test]
fn nothing_is_lost_with_a_node_that_drains() {
    let mut cluster = TestCluster::start(&[QUIET]);
    let own = Busy::new(&cluster, 0, 0, "own");
    let lent = Busy::new(&cluster, 0, 1, "lent");
    let far = Busy::new(&cluster, 1, 0, "far");
    // Another worker of the lent service, which is busy itself.
    let elsewhere = Busy::new(&cluster, 2, 2, "lent");
    far.ask_for_more();
    lent.ask_for_more();
    let waiting = client(&cluster, 0);
    waiting.request("absent", "nobody");
    waiting.settle();
    let late = register(&cluster, 2, "late");

    drain(&cluster, 0);
    wait_until_draining(&cluster, 0);

    // Its clients are still served, by other nodes.
    let newcomer = client(&cluster, 0);
    newcomer.request("late", "hello");
    late.serve("hello", "world");
    newcomer.expect_reply("late", "world");
    // What it had not started of another node's requests is done elsewhere.
    elsewhere.finish_held();
    elsewhere.worker.serve("waiting", "done too");
    lent.client.expect_reply("lent", "done too");
    // What its workers have is finished, and what it waits for itself.
    for busy in [&own, &lent] {
        busy.finish_held();
        busy.worker.expect_disconnect();
    }
    far.finish_held();
    far.finish_waiting();

    // The second lent request waited at the one or at the other node with such a worker.
    let returned = cluster.node(1).metric("relay_returned_requests_total");
    let receipt = after_leaving(&mut cluster, 0, LEFT_WITHIN);
    // Of its own clients: own, far twice, absent, and late; of others: lent, and what it returned.
    assert_eq!(receipt, Accounts { finished: 2, handed_over: 3 + returned, dropped: 1 });
    assert!(returned <= 1);
    for client in [&own.client, &far.client, &waiting, &newcomer] {
        client.expect_silence();
    }
}

#[test]
fn idle_workers_are_let_go_at_once_and_busy_ones_after_their_reply() {
    let mut cluster = TestCluster::start(&[QUIET]);
    let lent = Busy::new(&cluster, 0, 1, "lent");
    let idle = Version::BOTH.map(|version| RawWorker::register(cluster.node(0), version, "idle"));
    // The same service, and not busy.
    let spare = register(&cluster, 0, "lent");
    let mut asker = Asker::connect(cluster.node(2));

    drain(&cluster, 0);

    idle.iter().chain([&spare]).for_each(RawWorker::expect_disconnect);
    asker.wait_for("idle", Code::NotFound, PATIENCE);
    lent.worker.expect_silence();
    lent.finish_held();
    lent.worker.expect_disconnect();
    let receipt = after_leaving(&mut cluster, 0, LEFT_WITHIN);
    assert_eq!(receipt, Accounts { finished: 1, handed_over: 0, dropped: 0 });
    asker.wait_for("lent", Code::NotFound, PATIENCE);
}

#[test]
fn ready_to_a_draining_node_is_refused_after_a_while() {
    let mut cluster = TestCluster::start(&[QUIET]);
    let own = Busy::new(&cluster, 0, 0, "own");
    drain(&cluster, 0);
    wait_until_draining(&cluster, 0);
    for version in Version::BOTH {
        let late = RawWorker::connect(cluster.node(0), version);
        let asked_at = Instant::now();
        late.ready("late");

        late.expect_disconnect();

        let took = asked_at.elapsed();
        assert!(took >= REFUSED_AFTER, "it was refused after {took:?}");
        assert!(took < PATIENCE / 4, "it was refused after {took:?}");
    }
    assert_eq!(Asker::connect(cluster.node(1)).lookup("late"), Code::NotFound);

    own.finish_held();

    let receipt = after_leaving(&mut cluster, 0, LEFT_WITHIN);
    assert_eq!(receipt, Accounts { finished: 1, handed_over: 0, dropped: 0 });
}

/// Its own workers leave; what its clients want is executed elsewhere.
#[test]
fn clients_of_a_draining_node_are_served_by_others() {
    let mut cluster = TestCluster::start(&[QUIET]);
    let own = Busy::new(&cluster, 0, 0, "echo");
    let client = client(&cluster, 0);
    drain(&cluster, 0);
    wait_until_draining(&cluster, 0);
    let other = register(&cluster, 1, "echo");

    for round in 0..100_u32 {
        client.request("echo", round.to_be_bytes());
        other.serve(round.to_be_bytes(), "done");
        client.expect_reply("echo", "done");
    }

    assert_eq!(client.ask("mmi.nothing", "-"), "501");
    own.finish_held();
    let receipt = after_leaving(&mut cluster, 0, LEFT_WITHIN);
    assert_eq!(receipt, Accounts { finished: 1, handed_over: 100, dropped: 0 });
}

/// What waits at a node is sent to others when it leaves, in the order of each client.
#[test]
fn waiting_requests_of_a_draining_node_are_handed_over_in_order() {
    const WAITING: u32 = 200;
    let mut cluster = TestCluster::start(&[QUIET]);
    let own = Busy::new(&cluster, 0, 0, "echo");
    let clients = [client(&cluster, 0), client(&cluster, 0)];
    for client in &clients {
        (0..WAITING).for_each(|number| client.request("echo", number.to_be_bytes()));
        client.settle();
    }
    drain(&cluster, 0);
    wait_until_draining(&cluster, 0);

    let other = register(&cluster, 1, "echo");
    for _ in 0..WAITING * 2 {
        let work = other.socket.recv();
        other.answer(&work[3], &work[5]);
    }

    for client in &clients {
        for number in 0..WAITING {
            client.expect_reply("echo", number.to_be_bytes());
        }
    }
    own.finish_held();
    let receipt = after_leaving(&mut cluster, 0, LEFT_WITHIN);
    let handed_over = u64::from(WAITING) * 2;
    assert_eq!(receipt, Accounts { finished: 1, handed_over, dropped: 0 });
}

/// What waits behind a busy worker is served by whoever is there, and lost by nobody.
#[test]
fn waiting_requests_are_shared_with_the_workers_of_other_nodes() {
    const WAITING: u32 = 50;
    let mut cluster = TestCluster::start(&[QUIET]);
    let own = Busy::new(&cluster, 0, 0, "echo");
    let other = Busy::new(&cluster, 1, 1, "echo");
    let client = client(&cluster, 0);
    (0..WAITING).for_each(|number| client.request("echo", number.to_be_bytes()));
    client.settle();
    drain(&cluster, 0);
    wait_until_draining(&cluster, 0);

    own.finish_held();
    other.finish_held();
    let mut served = 0;
    while served < WAITING {
        served += own.serve_one(Duration::ZERO) + other.serve_one(TURN);
    }

    let mut answered: Vec<_> = (0..WAITING).map(|_| client.socket.recv()[3].clone()).collect();
    answered.sort_unstable();
    assert!(answered.into_iter().eq((0..WAITING).map(|number| number.to_be_bytes().to_vec())));
    let receipt = after_leaving(&mut cluster, 0, LEFT_WITHIN);
    assert_eq!((receipt.sum(), receipt.dropped), (u64::from(WAITING) + 1, 0), "{receipt:?}");
}

/// What nobody else offers is served by the worker that is still there, or dropped and counted.
#[test]
fn waiting_requests_that_nobody_else_can_serve_are_accounted_for() {
    let mut cluster = TestCluster::start(&[QUIET]);
    let own = Busy::new(&cluster, 0, 0, "echo");
    (0..5).for_each(|_| own.ask_for_more());
    drain(&cluster, 0);
    wait_until_draining(&cluster, 0);

    own.finish_held();
    let served = own.serve_until_disconnected();

    let receipt = after_leaving(&mut cluster, 0, LEFT_WITHIN);
    assert_eq!(receipt, Accounts { finished: 1 + served, handed_over: 0, dropped: 5 - served });
}

/// Another node that owes a reply does not keep a node from leaving for ever.
#[test]
fn drain_ends_at_its_timeout_though_another_node_owes_a_reply() {
    let mut cluster = TestCluster::start(&[SHORT_TIMEOUT]);
    let far = Busy::new(&cluster, 1, 0, "far");

    drain(&cluster, 0);

    let receipt = after_leaving(&mut cluster, 0, PATIENCE);
    assert_eq!(receipt.sum(), 1, "{receipt:?}");
    // Its node is gone, and so is the client; the worker is free for others.
    far.worker.answer(&far.held, "late");
    let client = client(&cluster, 2);
    client.request("far", "hello");
    far.worker.serve("hello", "world");
    client.expect_reply("far", "world");
}

#[test]
fn all_nodes_drain_at_the_same_time_and_owe_nothing() {
    let mut cluster = TestCluster::start(&[QUIET]);
    let crossed = [(0, 1, "a"), (1, 2, "b"), (2, 0, "c")]
        .map(|(worker, client, service)| Busy::new(&cluster, worker, client, service));
    crossed.iter().for_each(Busy::ask_for_more);
    let waiting = client(&cluster, 0);
    waiting.request("absent", "nobody");
    waiting.settle();

    (0..3).for_each(|node| drain(&cluster, node));
    (0..3).for_each(|node| wait_until_draining(&cluster, node));
    crossed.iter().for_each(Busy::finish_held);
    let served: u64 = crossed.iter().map(Busy::serve_until_disconnected).sum();

    // Nobody takes what had not been started.
    let receipts = [0, 1, 2].map(|node| after_leaving(&mut cluster, node, LEFT_WITHIN));
    let finished: u64 = receipts.iter().map(|receipt| receipt.finished).sum();
    let dropped: u64 = receipts.iter().map(|receipt| receipt.dropped).sum();
    assert_eq!((finished, dropped), (3 + served, 4 - served), "{receipts:?}");
}

#[test]
fn all_nodes_leave_within_the_timeout_though_workers_do_not_answer() {
    let mut cluster = TestCluster::start(&[SHORT_TIMEOUT]);
    let _crossed = [(0, 1, "a"), (1, 2, "b"), (2, 0, "c")]
        .map(|(worker, client, service)| Busy::new(&cluster, worker, client, service));
    let started_at = Instant::now();

    (0..3).for_each(|node| drain(&cluster, node));

    for node in 0..3 {
        let receipt = after_leaving(&mut cluster, node, PATIENCE);
        assert!(receipt.sum() >= 1, "{receipt:?}");
    }
    println!("all left after {:?}", started_at.elapsed());
    // The timeout, then each step that others must take part in, at most a second each.
    assert!(started_at.elapsed() < Duration::from_secs(8), "{:?}", started_at.elapsed());
}
