//! One client asks for five times of what all workers can do, beside others that behave: these hardly
//! notice, memory stays within its budget, and every request that is shed is counted.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{
    AtEnd, ClusterNode, Durations, RawClient, RawSocket, RawWorker, Reachable, TestCluster,
    Version, is_release, look_for, scale, wait_until,
};

use crate::{let_pass, machine, random, workers_of};

/// Workers at each node.
const WORKERS_PER_NODE: usize = 2;

/// How long a job takes: with the workers, this makes the capacity.
const JOB: Duration = Duration::from_millis(5);

/// How many clients behave, over all nodes.
const POLITE: usize = 99;

/// How much of the capacity they ask for, all together.
const POLITE_PERCENT: u64 = 30;

/// How much of the capacity the greedy client asks for.
const GREEDY_PERCENT: u64 = 500;

/// How much of the capacity must be used while it does.
const GOODPUT_PERCENT: u64 = 60;

/// The body of a greedy request.
const BODY_BYTES: usize = 8 << 10;

/// `broker.max_queued_bytes`.
const BUDGET_BYTES: u64 = 32 << 20;

/// What a node may have besides the budget: a quarter of it for the allocator, and what libzmq holds
/// for its peers.
const BESIDE_BUDGET_BYTES: u64 = BUDGET_BYTES / 4 + (16 << 20);

/// How many times longer a polite client may wait, of 99 in 100.
const SLOWER_MAX: u32 = 3;

/// How long a polite client waits at all.
const POLITE_PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take until the last greedy request is answered or dropped.
const EMPTY_WITHIN: Duration = Duration::from_secs(60);

/// How often a worker shows that it lives.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// Requests a second that all workers can execute at most.
fn capacity() -> u64 {
    u64::try_from(3 * WORKERS_PER_NODE).unwrap() * 1_000 / u64::try_from(JOB.as_millis()).unwrap()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// Serves until all is over; how often its node sent anything but work.
fn work(endpoint: &str, context: &zmq::Context, is_over: &AtomicBool) -> usize {
    let socket = RawSocket::connect(endpoint, context, zmq::DEALER, |_| Ok(()));
    let worker = RawWorker { socket, version: Version::V01 };
    worker.ready("job");
    let mut heartbeat_at = Instant::now() + HEARTBEAT;
    let mut sent_away = 0;
    while !is_over.load(Ordering::SeqCst) {
        if Instant::now() >= heartbeat_at {
            worker.heartbeat();
            heartbeat_at = Instant::now() + HEARTBEAT;
        }
        let left = heartbeat_at.saturating_duration_since(Instant::now());
        match worker.recv_command(left).as_deref() {
            Some([_, _, _, address, _, body]) => {
                thread::sleep(JOB);
                worker.answer(address, body);
            }
            Some(_) => sent_away += 1,
            None => {}
        }
    }
    worker.disconnect();
    sent_away
}

/// A polite client: one request at a time.
struct Polite {
    client: RawClient,
    due_at: Instant,
    asked_at: Option<Instant>,
}

/// Some polite clients of one node, each of which asks again `period` after it asked last.
fn ask_politely(
    endpoint: &str,
    count: usize,
    period: Duration,
    length: Duration,
    mut random: fastrand::Rng,
) -> Durations {
    let mut took = Durations::default();
    let started_at = Instant::now();
    let mut clients: Vec<Polite> = (0..count)
        .map(|_| Polite {
            client: RawClient::connect(endpoint, Version::V01),
            due_at: started_at + period.mul_f64(random.f64()),
            asked_at: None,
        })
        .collect();
    while started_at.elapsed() < length || clients.iter().any(|one| one.asked_at.is_some()) {
        let is_asking = started_at.elapsed() < length;
        let now = Instant::now();
        let due = |one: &&mut Polite| is_asking && one.asked_at.is_none() && one.due_at <= now;
        for one in clients.iter_mut().filter(due) {
            one.client.request("job", "polite");
            (one.asked_at, one.due_at) = (Some(now), now + period);
        }
        let mut items: Vec<zmq::PollItem<'_>> =
            clients.iter().map(|one| one.client.socket.zmq().as_poll_item(zmq::POLLIN)).collect();
        zmq::poll(&mut items, 1).unwrap();
        let readable: Vec<bool> = items.iter().map(zmq::PollItem::is_readable).collect();
        for (one, _) in clients.iter_mut().zip(readable).filter(|(_, is_readable)| *is_readable) {
            one.client.expect_reply("job", "polite");
            took.add(one.asked_at.take().unwrap().elapsed());
        }
        let is_late = |one: &Polite| one.asked_at.is_some_and(|at| at.elapsed() > POLITE_PATIENCE);
        assert!(!clients.iter().any(is_late), "a polite client got no reply");
    }
    took
}

/// All polite clients of all nodes, for so long.
fn polite(cluster: &TestCluster, length: Duration, random: &mut fastrand::Rng) -> Durations {
    let per_second = capacity() * POLITE_PERCENT / 100;
    let period = Duration::from_secs(u64::try_from(POLITE).unwrap()).div_f64(per_second as f64);
    let mut took = Durations::default();
    thread::scope(|scope| {
        let count = POLITE / cluster.nodes().len();
        let threads: Vec<_> = cluster
            .nodes()
            .iter()
            .map(|node| {
                let (endpoint, random) = (node.endpoint(), random.fork());
                scope.spawn(move || ask_politely(&endpoint, count, period, length, random))
            })
            .collect();
        for thread in threads {
            took.extend(&thread.join().unwrap());
        }
    });
    took
}

/// What a greedy client has seen so far.
#[derive(Default)]
struct Greed {
    sent: AtomicU64,
    answered: AtomicU64,
    is_over: AtomicBool,
}

impl Greed {
    fn missing(&self) -> u64 {
        self.sent.load(Ordering::SeqCst) - self.answered.load(Ordering::SeqCst)
    }

    /// Sends without waiting for replies, until told to stop; then reads on until it is over.
    fn ask(&self, endpoint: &str, stop: &AtomicBool) {
        let client = RawClient::connect(endpoint, Version::V01);
        let body = vec![b'x'; BODY_BYTES];
        let per_second = capacity() * GREEDY_PERCENT / 100;
        let started_at = Instant::now();
        let mut sent = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            let due = match stop.load(Ordering::SeqCst) {
                true => sent,
                false => millis(started_at.elapsed()) * per_second / 1_000,
            };
            while sent < due {
                client.request("job", &body);
                sent += 1;
                self.sent.store(sent, Ordering::SeqCst);
            }
            while client.socket.recv_within(Duration::ZERO).is_some() {
                self.answered.fetch_add(1, Ordering::SeqCst);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// All nodes together.
fn total(cluster: &TestCluster, metric: &str) -> u64 {
    cluster.nodes().iter().map(|node| node.metric(metric)).sum()
}

fn dropped(cluster: &TestCluster) -> u64 {
    total(cluster, "broker_dropped_messages_total")
}

/// The most memory that a node ever had in use (`VmHWM`) or has now (`VmRSS`), in bytes.
fn memory_bytes(node: &ClusterNode, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

#[test]
fn greedy_client_is_shed_exactly_and_others_hardly_notice() {
    let _machine = machine();
    let mut random = random();
    let budget = BUDGET_BYTES.to_string();
    let cluster = TestCluster::start(&[
        ("broker.max_queued_bytes", &budget),
        ("broker.heartbeat_interval", "500ms"),
        ("broker.heartbeat_liveness", "3"),
    ]);
    let endpoints: Vec<String> = cluster.nodes().iter().map(Reachable::endpoint).collect();
    let length = Duration::from_secs(scale().pick(8, 60));
    let (context, is_over, stop) =
        (zmq::Context::new(), AtomicBool::default(), AtomicBool::default());
    let greed = Greed::default();
    let sent_away: usize = thread::scope(|scope| {
        let (context, is_over) = (&context, &is_over);
        let _ending = AtEnd::new(|| {
            greed.is_over.store(true, Ordering::SeqCst);
            is_over.store(true, Ordering::SeqCst);
        });
        let workers: Vec<_> = endpoints
            .iter()
            .flat_map(|endpoint| vec![endpoint; WORKERS_PER_NODE])
            .map(|endpoint| scope.spawn(move || work(endpoint, context, is_over)))
            .collect();
        let count = 3 * WORKERS_PER_NODE;
        wait_until("all workers are registered", Duration::from_secs(10), || {
            workers_of(&cluster, "job") == count
        });
        cluster.wait_until_level();

        let unloaded = polite(&cluster, length, &mut random);
        let before = Before::of(&cluster);
        scope.spawn(|| greed.ask(&endpoints[0], &stop));
        // Until the budget is spent.
        let spent = || dropped(&cluster) > 0;
        wait_until("the greedy client is shed", Duration::from_secs(20), spent);
        let replies = total(&cluster, "broker_replies_total");
        let started_at = Instant::now();
        let loaded = polite(&cluster, length, &mut random);
        let replies = total(&cluster, "broker_replies_total") - replies;
        let goodput = replies as f64 / started_at.elapsed().as_secs_f64();
        stop.store(true, Ordering::SeqCst);

        println!("polite clients: {unloaded}; beside the greedy one: {loaded}");
        println!("{goodput:.0} replies a second of {} possible", capacity());
        before.assert_undisturbed(&cluster);
        assert_all_counted(&cluster, &greed, before.dropped);
        greed.is_over.store(true, Ordering::SeqCst);
        is_over.store(true, Ordering::SeqCst);
        let slower = unloaded.percentile(99) * SLOWER_MAX;
        assert!(loaded.percentile(99) <= slower || !is_release(), "{unloaded}, then {loaded}");
        let enough = (capacity() * GOODPUT_PERCENT / 100) as f64;
        assert!(goodput >= enough || !is_release(), "{goodput:.0} replies a second");
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(sent_away, 0, "workers were sent away");
}

/// What the greedy client misses is what the nodes say to have shed.
fn assert_all_counted(cluster: &TestCluster, greed: &Greed, dropped_before: u64) {
    let counted = || dropped(cluster) - dropped_before;
    let settled = look_for(EMPTY_WITHIN, || {
        let waiting: u64 = ["broker_queued_requests", "broker_held_requests"]
            .map(|gauge| total(cluster, gauge))
            .iter()
            .sum();
        (waiting == 0 && greed.missing() == counted()).then_some(())
    });
    // Whatever else comes, comes too much.
    let_pass(Duration::from_millis(200));
    let (missing, counted) = (greed.missing(), counted());
    let sent = greed.sent.load(Ordering::SeqCst);
    let shed = total(cluster, "broker_dropped_messages_total{reason=\"shed\"}");
    println!(
        "greedy client: {sent} sent, {missing} missing, {counted} dropped, {shed} of them shed"
    );
    assert!(settled.is_some(), "{missing} are missing, {counted} were counted");
    assert_eq!(missing, counted);
    assert_eq!(shed, counted, "dropped for other reasons");
    assert!(missing > 0 && missing * 2 > sent, "it was no overload: {missing} of {sent} missing");
}

/// How things were before the overload.
struct Before {
    term: u64,
    leader: usize,
    dropped: u64,
    memory_bytes: Vec<u64>,
}

impl Before {
    fn of(cluster: &TestCluster) -> Self {
        let memory = |node| memory_bytes(node, "VmRSS:");
        Self {
            term: cluster.term(),
            leader: cluster.leader(),
            dropped: dropped(cluster),
            memory_bytes: cluster.nodes().iter().map(memory).collect(),
        }
    }

    #[track_caller]
    fn assert_undisturbed(&self, cluster: &TestCluster) {
        assert_eq!((cluster.term(), cluster.leader()), (self.term, self.leader), "elections");
        assert_eq!(total(cluster, "broker_expired_workers_total"), 0, "expired workers");
        for (node, before) in cluster.nodes().iter().zip(&self.memory_bytes) {
            let more = memory_bytes(node, "VmHWM:").saturating_sub(*before);
            let mib = |bytes: u64| bytes >> 20;
            let (name, allowed) = (node.name(), BUDGET_BYTES + BESIDE_BUDGET_BYTES);
            println!("{name}: {} MiB before, then {} more", mib(*before), mib(more));
            assert!(more <= allowed, "{name}: {} MiB more, not {}", mib(more), mib(allowed));
        }
    }
}
