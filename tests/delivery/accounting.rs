//! Every request of a long run is accounted for, while workers and nodes are killed, frozen and
//! started again, and nodes are cut off from each other.

mod client;
mod nemesis;
mod power;

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{
    Account, Delivery, Explanation, History, NODES, RawClient, Reachable, RecordedWorker, Rules,
    TestCluster, Version, account, scale,
};

use self::{
    client::{Client, Log},
    nemesis::Nemesis,
    power::assert_would_show_losses,
};
use crate::{let_pass, machine, random};

/// `broker.request_ttl` of the run.
const TTL: Duration = Duration::from_secs(4);

/// `broker.busy_timeout`: how long a worker may be silent with a request.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// `broker.max_attempts`.
const ATTEMPTS_MAX: usize = 3;

/// How long a client waits: a request may wait for its whole time to live, then be held by a worker
/// that is lost, and the node may stand still meanwhile.
const CLIENT_PATIENCE: Duration =
    TTL.saturating_add(BUSY_TIMEOUT).saturating_add(Duration::from_secs(4));

/// For how long after a fault was repaired requests are lost by it: links and connections are made again.
const REACH: Duration = Duration::from_secs(1);

/// For how long after that workers leave: one that was frozen finds out that it was sent away.
const PARTING_REACH: Duration = Duration::from_secs(4);

/// How long a request or reply that nothing holds up may be under way: 8 ms are enough for 999 of 1,000, and the
/// machine may have other things to do.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// The services and how they are delivered.
const SERVICES: [(&str, Delivery); 4] = [
    ("free.a", Delivery::AtLeastOnce),
    ("once.a", Delivery::AtMostOnce),
    ("free.b", Delivery::AtLeastOnce),
    ("once.b", Delivery::AtMostOnce),
];

/// What only a file can say.
const RULES: &str = "[[service]]\npattern = \"once.*\"\ndelivery = \"at-most-once\"\n";

/// Workers of each service; more than nodes, for they choose their nodes by lot.
const WORKERS_PER_SERVICE: usize = 4;

/// The longest job.
const JOB_MAX: Duration = Duration::from_millis(4);

/// How many clients there are, each with a connection to every node.
const CLIENTS: u32 = 8;

/// How long a service may take to serve once all is well.
const SERVED_WITHIN: Duration = Duration::from_secs(20);

/// How many requests in a thousand may be lost at most, all explanations together.
const LOST_PER_THOUSAND_MAX: usize = 50;

/// How large a run is, and the faults that it must have had.
struct Size {
    requests: u32,
    requests_per_second: u32,
    /// Of each kind, on nodes and links.
    node_faults: usize,
    workers_killed: usize,
    workers_frozen: usize,
}

fn size() -> Size {
    scale().pick(
        Size {
            requests: 50_000,
            requests_per_second: 1_000,
            node_faults: 2,
            workers_killed: 15,
            workers_frozen: 8,
        },
        Size {
            requests: 1_000_000,
            requests_per_second: 2_000,
            node_faults: 25,
            workers_killed: 150,
            workers_frozen: 80,
        },
    )
}

fn rules() -> Rules {
    Rules {
        services: SERVICES.map(|(_, delivery)| delivery).into(),
        worker_services: (0..SERVICES.len() * WORKERS_PER_SERVICE).map(service_of).collect(),
        attempts_max: ATTEMPTS_MAX,
        ttl: TTL,
        reach: REACH,
        parting_reach: PARTING_REACH,
        under_way: UNDER_WAY,
    }
}

/// The service of a worker.
const fn service_of(worker: usize) -> usize {
    worker % SERVICES.len()
}

fn cluster() -> TestCluster {
    let ttl = format!("{}ms", TTL.as_millis());
    let busy_timeout = format!("{}ms", BUSY_TIMEOUT.as_millis());
    let mut cluster = TestCluster::unstarted_linked(&[
        ("broker.request_ttl", &ttl),
        ("broker.busy_timeout", &busy_timeout),
        ("broker.max_attempts", &ATTEMPTS_MAX.to_string()),
        ("broker.heartbeat_interval", "500ms"),
        ("broker.heartbeat_liveness", "4"),
    ]);
    cluster.nodes_mut().iter_mut().for_each(|node| node.set_file(RULES));
    cluster.started()
}

fn workers(endpoints: &[String], directory: &Path) -> Vec<RecordedWorker> {
    let start = |worker: usize| {
        let record = directory.join(format!("worker-{worker}"));
        let (service, _) = SERVICES[service_of(worker)];
        let program = env!("CARGO_BIN_EXE_recording-worker");
        RecordedWorker::start(program, &record, service, JOB_MAX, endpoints)
    };
    (0..SERVICES.len() * WORKERS_PER_SERVICE).map(start).collect()
}

/// Waits until each node has each service executed, wherever.
#[track_caller]
fn assert_served_everywhere(endpoints: &[String]) {
    for endpoint in endpoints {
        let client = RawClient::connect(endpoint.as_str(), Version::V01);
        for (service, _) in SERVICES {
            // A name of a client that the run does not have.
            let body = format!("{}/0/0", u32::MAX);
            client.request(service, &body);
            let reply = client.socket.recv_within(SERVED_WITHIN);
            let reply = reply.unwrap_or_else(|| panic!("{service} is not served at {endpoint}"));
            assert_eq!(reply, Version::V01.reply(service, &[body.as_bytes()]));
        }
    }
}

/// How far a run is.
struct Progress {
    /// Clients that have not submitted everything yet.
    submitting: AtomicUsize,
    /// Something went so wrong that the rest is of no use.
    is_abandoned: AtomicBool,
}

impl Progress {
    fn new() -> Self {
        let submitting = AtomicUsize::new(CLIENTS.try_into().unwrap());
        Self { submitting, is_abandoned: AtomicBool::new(false) }
    }

    fn goes_on(&self) -> bool {
        self.submitting.load(Ordering::SeqCst) > 0 && !self.is_abandoned()
    }

    fn is_abandoned(&self) -> bool {
        self.is_abandoned.load(Ordering::SeqCst)
    }

    /// Abandons the run if the thread that holds this panics: others would go on for long.
    fn abandon_on_panic(&self) -> AbandonOnPanic<'_> {
        AbandonOnPanic(self)
    }
}

struct AbandonOnPanic<'a>(&'a Progress);

impl Drop for AbandonOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.is_abandoned.store(true, Ordering::SeqCst);
        }
    }
}

/// Submits all requests while the nemesis is at work; what everybody wrote down.
fn run(size: &Size, cluster: &mut TestCluster, random: &mut fastrand::Rng) -> History {
    let endpoints: Vec<String> = cluster.nodes().iter().map(Reachable::endpoint).collect();
    let directory = tempfile::tempdir().unwrap();
    let workers = workers(&endpoints, directory.path());
    assert_served_everywhere(&endpoints);
    let progress = Progress::new();
    let mut nemesis = Nemesis::new(cluster, workers);
    let logs: Vec<Log> = thread::scope(|scope| {
        let progress = &progress;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let client = Client::new(number, &endpoints, random.fork());
                let (requests, rate) =
                    (size.requests / CLIENTS, size.requests_per_second / CLIENTS);
                scope.spawn(move || client.run(requests, rate, progress))
            })
            .collect();
        nemesis.work(random, progress);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_served_everywhere(&endpoints);
    let mut history = nemesis.finish();
    for log in logs {
        history.submissions.extend(log.submissions);
        history.strays.extend(log.strays);
    }
    // What proved that all is served is not part of the run.
    history.executions.retain(|execution| execution.id.client != u32::MAX);
    history
}

/// The run must have had what it is for.
fn assert_telling(account: &Account, size: &Size, submissions: usize) {
    for name in ["node killed", "node frozen", "node cut off", "link cut"] {
        assert!(account.fault_count(name) >= size.node_faults, "too few: {name}\n{account}");
    }
    assert!(account.fault_count("worker killed") >= size.workers_killed, "{account}");
    assert!(account.fault_count("worker frozen") >= size.workers_frozen, "{account}");
    assert!(account.relayed * 4 > account.executed, "too few were relayed\n{account}");
    assert!(account.relayed * 10 < account.executed * 9, "too few were not relayed\n{account}");
    for effect in
        [Explanation::AnsweredAgain, Explanation::OriginKilled, Explanation::OutcomeUnknown]
    {
        assert!(account.count(effect) > 0, "no request was {effect:?}: the faults hit nothing");
    }
    let answered = account.count(Explanation::Answered) + account.count(Explanation::AnsweredAgain);
    let lost = submissions - answered;
    println!("{lost} of {submissions} submissions were lost");
    assert!(lost * 1_000 <= submissions * LOST_PER_THOUSAND_MAX, "{lost} of {submissions} lost");
}

#[test]
fn every_request_is_accounted_for_while_workers_nodes_and_links_fail() {
    let _machine = machine();
    let mut random = random();
    let size = size();
    let started_at = Instant::now();
    let mut cluster = cluster();
    assert_eq!(cluster.nodes().len(), NODES);

    let history = run(&size, &mut cluster, &mut random);

    let account = account(&history, &rules());
    println!("{account}\nin {:.1?}", started_at.elapsed());
    let stories: Vec<&str> = account.violations.iter().map(|wrong| wrong.story.as_str()).collect();
    assert!(stories.is_empty(), "{} violations:\n{}", stories.len(), stories.join("\n\n"));
    assert_telling(&account, &size, history.submissions.len());
    assert_would_show_losses(&history, &rules(), &mut random);
}
