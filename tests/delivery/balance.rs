//! Work spreads over all workers of the cluster, wherever clients and workers are connected, and
//! nothing waits while somebody is free.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{
    AtEnd, Durations, RawSocket, RawWorker, Reachable, TestCluster, Version, is_release, now_ns,
    scale,
};

use crate::{canary::Canary, machine, random};

/// Workers of the nodes.
const WORKERS: [usize; 3] = [1, 9, 20];

/// How long a job takes. The worker waits: it is not the machine that limits what it does.
const JOB: Duration = Duration::from_millis(10);

/// Requests a second of each node's client: together 80 % of what all workers can do.
const PER_SECOND: u32 = 800;

/// How far the mean utilisation of a node's workers may be from that of all, in points.
const APART_MAX: f64 = 20.0;

/// How busy each worker of the biggest node must be.
const BUSY_PERCENT_MIN: f64 = 65.0;

/// How long a request may wait while a worker is idle somewhere, of 99 in 100.
const WAITED_MAX: Duration = Duration::from_millis(5);

/// The same where others build and test.
const WAITED_MAX_SHARED: Duration = Duration::from_millis(15);

/// How long the load is on before it counts, in seconds.
const WARM_UP_SECONDS: u32 = 1;

/// How many threads a request passes by way of another node, each of which the machine may let wait.
const HOPS: u32 = 10;

/// How long clients wait for the last replies.
const LAST_REPLIES_WITHIN: Duration = Duration::from_secs(10);

/// A stretch of time, in nanoseconds.
type Stretch = (u64, u64);

/// What a worker was busy with: the number of the request, and when.
type Busy = Vec<(u32, Stretch)>;

/// Serves until all is over.
fn work(endpoint: &str, context: &zmq::Context, is_over: &AtomicBool) -> Busy {
    let socket = RawSocket::connect(endpoint, context, zmq::DEALER, |_| Ok(()));
    let worker = RawWorker { socket, version: Version::V01 };
    worker.ready("job");
    worker.expect_heartbeat();
    let mut busy = Busy::new();
    while !is_over.load(Ordering::SeqCst) {
        let Some(message) = worker.recv_command(Duration::from_millis(100)) else { continue };
        let from = now_ns();
        let [_, _, _, address, _, body] = message.as_slice() else { panic!("{message:?}") };
        thread::sleep(JOB);
        worker.answer(address, body);
        busy.push((number(body), (from, now_ns())));
    }
    worker.disconnect();
    busy
}

fn number(body: &[u8]) -> u32 {
    String::from_utf8_lossy(body).parse().unwrap()
}

/// Sends requests at random times, so many a second on average, without waiting for replies; when
/// each was sent.
fn ask(
    endpoint: &str,
    numbers: std::ops::Range<u32>,
    mut random: fastrand::Rng,
) -> Vec<(u32, u64)> {
    let socket = RawSocket::dealer(endpoint);
    let mut sent = Vec::new();
    let mut missing = numbers.len();
    let mut due_at = Instant::now();
    let mut take = |patience: Duration| {
        let reply = socket.recv_within(patience);
        missing -= usize::from(reply.is_some());
        missing
    };
    for number in numbers {
        // A Poisson process: clients know nothing of each other.
        due_at += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / f64::from(PER_SECOND));
        while Instant::now() < due_at {
            take(due_at.saturating_duration_since(Instant::now()));
        }
        sent.push((number, now_ns()));
        socket.send(&Version::V01.request("job", &[number.to_string().as_bytes()]));
    }
    let deadline = Instant::now() + LAST_REPLIES_WITHIN;
    while take(Duration::from_millis(10)) > 0 {
        assert!(Instant::now() < deadline, "replies are missing");
    }
    sent
}

/// The stretches in which a worker was idle, in order.
fn idle_stretches(busy: &Busy) -> Vec<Stretch> {
    let begins = std::iter::once(0).chain(busy.iter().map(|(_, (_, until))| *until));
    let ends = busy.iter().map(|(_, (from, _))| *from).chain(std::iter::once(u64::MAX));
    begins.zip(ends).collect()
}

/// How much of each of these others a stretch covers, in nanoseconds.
fn covered(stretch: Stretch, others: &[Stretch]) -> impl Iterator<Item = u64> {
    let (from, until) = stretch;
    let first = others.partition_point(|(_, end)| *end <= from);
    let overlapping = others[first..].iter().take_while(move |(begin, _)| *begin < until);
    overlapping.map(move |(begin, end)| until.min(*end) - from.max(*begin))
}

/// The longest time that one and the same worker was idle while a request waited, of each request sent
/// in this time.
fn waited(busy: &[Busy], sent: &[(u32, u64)], counted: Stretch) -> Durations {
    let idle: Vec<Vec<Stretch>> = busy.iter().map(idle_stretches).collect();
    let mut started: Vec<(u32, u64)> =
        busy.iter().flatten().map(|(number, (from, _))| (*number, *from)).collect();
    started.sort_unstable();
    let waited = |(number, sent_at): &(u32, u64)| {
        let at = started.binary_search_by_key(number, |(number, _)| *number);
        let started_at = started[at.unwrap_or_else(|_| panic!("{number} never started"))].1;
        let waiting = (*sent_at, started_at);
        let longest = idle.iter().flat_map(|idle| covered(waiting, idle)).max();
        Duration::from_nanos(longest.unwrap_or_default())
    };
    let is_counted = |(_, at): &&(u32, u64)| (counted.0..counted.1).contains(at);
    sent.iter().filter(is_counted).map(waited).collect()
}

/// How busy each worker was in this time, in percent.
fn utilisation(busy: &Busy, counted: Stretch) -> f64 {
    let stretches: Vec<Stretch> = busy.iter().map(|(_, stretch)| *stretch).collect();
    covered(counted, &stretches).sum::<u64>() as f64 / (counted.1 - counted.0) as f64 * 100.0
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn waiting_beside_an_idle_worker_is_measured() {
    let ms = |from: u64, until: u64| (from * 1_000_000, until * 1_000_000);
    // Idle: the first from 0 to 4, 10 to 12 and from 20 on, the second until 10 and from 20 on.
    let first = vec![(0, ms(4, 10)), (1, ms(12, 20))];
    let busy = [first, vec![(2, ms(10, 20))]];
    let sent = [(0, ms(1, 0).0), (1, ms(10, 0).0), (2, ms(2, 0).0)];

    let waited = waited(&busy, &sent, (0, u64::MAX));

    // 0 waited from 1 to 4 ms, 1 from 10 to 12 and 2 from 2 to 10, all beside an idle worker.
    let milliseconds = [33, 66, 100].map(|percent| waited.percentile(percent).as_millis());
    assert_eq!(milliseconds, [2, 3, 8]);
    assert!((utilisation(&busy[1], ms(0, 20)) - 50.0).abs() < 0.01);
}

#[test]
fn short_gaps_of_many_workers_are_no_idle_worker() {
    // Two workers that have a gap of 1 ms after each job of 9 ms, in turns, while a request waits.
    let job = |number: u64, offset: u64| {
        let from = (number * 10 + offset) * 1_000_000;
        (u32::try_from(number * 10 + offset).unwrap(), (from, from + 9_000_000))
    };
    let busy: Vec<Busy> =
        [0, 5].map(|offset| (0..10).map(|number| job(number, offset)).collect()).into();

    let waited = waited(&busy, &[(95, 10_000_000)], (0, u64::MAX));

    assert_eq!(waited.percentile(100), Duration::from_millis(1));
}

#[test]
fn work_is_spread_evenly_and_nothing_waits_while_a_worker_is_idle() {
    let _machine = machine();
    let mut random = random();
    let cluster = TestCluster::start(&[]);
    let endpoints: Vec<String> = cluster.nodes().iter().map(Reachable::endpoint).collect();
    let seconds = scale().pick(8, 60);
    let count: usize = WORKERS.iter().sum();
    let requests = PER_SECOND * (seconds + WARM_UP_SECONDS);
    let context = zmq::Context::new();
    let is_over = AtomicBool::new(false);

    let mut counted = (0, 0);
    let (busy, sent, late) = thread::scope(|scope| {
        let (context, is_over) = (&context, &is_over);
        let _ending = AtEnd::new(|| is_over.store(true, Ordering::SeqCst));
        let workers: Vec<_> = endpoints
            .iter()
            .zip(WORKERS)
            .flat_map(|(endpoint, count)| vec![endpoint; count])
            .map(|endpoint| scope.spawn(move || work(endpoint, context, is_over)))
            .collect();
        // All nodes know of all workers.
        let ready = || crate::workers_of(&cluster, "job") == count;
        cluster_tests::wait_until("all workers are registered", Duration::from_secs(10), ready);
        cluster.wait_until_level();
        let canary = Canary::start();
        counted.0 = now_ns() + u64::from(WARM_UP_SECONDS) * 1_000_000_000;
        counted.1 = counted.0 + u64::from(seconds) * 1_000_000_000;
        let clients: Vec<_> = (0_u32..)
            .zip(&endpoints)
            .map(|(client, endpoint)| {
                let numbers = client * requests..(client + 1) * requests;
                let random = random.fork();
                scope.spawn(move || ask(endpoint, numbers, random))
            })
            .collect();
        let sent: Vec<(u32, u64)> =
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        is_over.store(true, Ordering::SeqCst);
        let busy = workers.into_iter().map(|worker| worker.join().unwrap());
        (busy.collect::<Vec<Busy>>(), sent, canary.finish())
    });

    // The last requests of a Poisson process may be sent earlier.
    counted.1 = counted.1.min(sent.iter().map(|(_, at)| *at).max().unwrap());
    assert_eq!(busy.iter().map(Vec::len).sum::<usize>(), sent.len(), "executed and sent");
    assert_balanced(&busy, counted);
    let waited = waited(&busy, &sent, counted);
    println!("waited while a worker was idle: {waited}");
    println!("the machine let threads wait: {late}");
    let max = scale().pick(WAITED_MAX_SHARED, WAITED_MAX) + late.percentile(99) * HOPS;
    assert!(waited.percentile(99) <= max || !is_release(), "{waited}");
}

fn assert_balanced(busy: &[Busy], counted: Stretch) {
    let utilisations: Vec<f64> = busy.iter().map(|busy| utilisation(busy, counted)).collect();
    let all = mean(&utilisations);
    let mut rest = utilisations.as_slice();
    for (node, count) in WORKERS.into_iter().enumerate() {
        let (own, others) = rest.split_at(count);
        rest = others;
        let least = own.iter().copied().fold(f64::MAX, f64::min);
        let most = own.iter().copied().fold(0.0, f64::max);
        println!(
            "node {node}: {count} workers, mean {:.1} % busy, {least:.1} to {most:.1} %; all \
             {all:.1} %",
            mean(own)
        );
        assert!((mean(own) - all).abs() <= APART_MAX || !is_release(), "{utilisations:.0?}");
        if count == 20 {
            assert!(least >= BUSY_PERCENT_MIN || !is_release(), "{utilisations:.0?}");
        }
    }
}
