//! Peers of the Guide behind a TCP load balancer live through rolling restarts, too: they know one
//! endpoint, and each connection ends at some node that is ready.

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{
    AtEnd, ClusterNode, Daemon, Durations, Receipt, TestCluster, free_port, http_get, scale,
    wait_until,
};
use rustix::process::Signal;

use crate::{
    guide::{Call, GuideClient, guide_worker},
    let_pass, machine, workers_of,
};

/// Calls a second, all clients together.
const CALLS_PER_SECOND: u32 = 2_000;

/// Clients, each with one call at a time.
const CLIENTS: u32 = 40;

/// Workers; the balancer spreads them.
const WORKERS: usize = 18;

/// `drain.announce`: the balancer looks at a node more often than that.
const ANNOUNCE: &str = "3s";

/// How long a node may take to leave.
const LEFT_WITHIN: Duration = Duration::from_secs(22);

/// How long the balancer may take to see what became of a node.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// How long workers that came back at once may take to be registered.
const REGISTERED_WITHIN: Duration = Duration::from_secs(15);

/// haproxy in front of the nodes, by the address of loopback.
struct Balancer {
    port: u16,
    status: SocketAddr,
    _daemon: Daemon,
    _directory: tempfile::TempDir,
}

impl Balancer {
    /// As a balancer of plain TCP is configured: nodes are asked whether they are ready.
    fn start(cluster: &TestCluster) -> Self {
        let (port, status) = (free_port(), free_port());
        let servers: Vec<String> = cluster
            .nodes()
            .iter()
            .map(|node| {
                let ports = node.ports();
                let (name, broker, admin) = (node.name(), ports.broker, ports.admin);
                format!("    server {name} 127.0.0.1:{broker} check port {admin}")
            })
            .collect();
        let config = format!(
            "global
    maxconn 4096
defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
    timeout check 1s
frontend majordomo
    bind 127.0.0.1:{port}
    default_backend nodes
backend nodes
    balance leastconn
    option httpchk GET /readyz
    http-check expect status 200
    default-server inter 500ms fall 1 rise 1
{}
frontend status
    mode http
    timeout client 5s
    bind 127.0.0.1:{status}
    stats enable
    stats uri /status
",
            servers.join("\n")
        );
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("haproxy.cfg");
        std::fs::write(&path, config).unwrap();
        let arguments = ["-db".as_ref(), "-f".as_ref(), path.as_os_str()];
        let daemon = Daemon::start("haproxy", &arguments);
        let status = SocketAddr::from(([127, 0, 0, 1], status));
        let balancer = Self { port, status, _daemon: daemon, _directory: directory };
        cluster.nodes().iter().for_each(|node| balancer.wait_for(node, "UP"));
        balancer
    }

    fn endpoint(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Waits until the balancer sees the node as this.
    #[track_caller]
    fn wait_for(&self, node: &ClusterNode, state: &str) {
        let what = format!("the balancer sees that {} is {state}", node.name());
        let is_it = |line: &str| {
            let mut fields = line.split(',');
            let begins = fields.next() == Some("nodes") && fields.next() == Some(node.name());
            // Ten of numbers follow, and some more of errors; the state stands at a fixed place.
            begins && fields.nth(15).is_some_and(|seen| seen.starts_with(state))
        };
        wait_until(&what, SEEN_WITHIN, || {
            let page = http_get(self.status, "/status;csv");
            page.is_ok_and(|page| page.body.lines().any(is_it))
        });
    }
}

fn call_steadily(
    number: u32,
    endpoint: &str,
    context: &zmq::Context,
    is_over: &AtomicBool,
) -> Vec<Option<Call>> {
    let mut client = GuideClient::new(endpoint, context);
    let period = Duration::from_secs(1) * CLIENTS / CALLS_PER_SECOND;
    let mut due_at = Instant::now() + period * number / CLIENTS;
    let mut calls = Vec::new();
    while !is_over.load(Ordering::SeqCst) {
        thread::sleep(due_at.saturating_duration_since(Instant::now()));
        // What a stall has delayed is caught up with, at most for a second.
        due_at = (due_at + period).max(Instant::now() - Duration::from_secs(1));
        calls.push(client.call("echo", &format!("{number}.{}", calls.len())));
    }
    calls
}

fn restart(cluster: &mut TestCluster, node: usize, balancer: &Balancer) {
    cluster.node(node).signal(Signal::TERM);
    balancer.wait_for(cluster.node(node), "DOWN");
    let code = cluster.node_mut(node).wait_for_exit(LEFT_WITHIN);
    assert_eq!(code, Some(0), "{}", cluster.node(node).log());
    cluster.node_mut(node).start();
    cluster.wait_until_ready();
    balancer.wait_for(cluster.node(node), "UP");
    wait_until("all workers are registered again", REGISTERED_WITHIN, || {
        workers_of(cluster, "echo") == WORKERS
    });
}

#[test]
fn no_call_fails_while_all_nodes_restart_behind_a_load_balancer() {
    let _machine = machine();
    let mut cluster = TestCluster::start(&[
        ("drain.announce", ANNOUNCE),
        ("broker.heartbeat_interval", "2500ms"),
    ]);
    let balancer = Balancer::start(&cluster);
    let (endpoint, context) = (balancer.endpoint(), zmq::Context::new());
    context.set_io_threads(2).unwrap();
    let (is_over, workers_over) = (AtomicBool::default(), AtomicBool::default());
    let all = Mutex::new(Vec::new());
    let rounds = scale().pick(2, 20);
    thread::scope(|scope| {
        let (endpoint, context, is_over) = (&endpoint, &context, &is_over);
        let (workers_over, all) = (&workers_over, &all);
        let _ending = AtEnd::new(|| {
            is_over.store(true, Ordering::SeqCst);
            workers_over.store(true, Ordering::SeqCst);
        });
        for _ in 0..WORKERS {
            scope.spawn(move || guide_worker(endpoint, context, "echo", workers_over));
        }
        wait_until("all workers are registered", REGISTERED_WITHIN, || {
            workers_of(&cluster, "echo") == WORKERS
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn(move || {
                    let calls = call_steadily(number, endpoint, context, is_over);
                    all.lock().unwrap().extend(calls);
                })
            })
            .collect();
        let_pass(Duration::from_secs(1));
        for _ in 0..rounds {
            for node in 0..cluster.nodes().len() {
                restart(&mut cluster, node, &balancer);
            }
        }
        is_over.store(true, Ordering::SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
        workers_over.store(true, Ordering::SeqCst);
    });

    let all = all.into_inner().unwrap();
    let took: Durations = all.iter().flatten().map(|call| call.took).collect();
    let of = |attempts| all.iter().flatten().filter(|call| call.attempts == attempts).count();
    let (by_attempts, failed) = ([1, 2, 3].map(of), all.len() - took.count());
    let receipts: Vec<Receipt> =
        cluster.nodes().iter().flat_map(|node| Receipt::read_all(&node.log())).collect();
    println!("{rounds} rounds behind a balancer: {took}, by attempts {by_attempts:?}");
    println!("{} receipts: {:?}", receipts.len(), Receipt::sum(&receipts));
    assert_eq!(receipts.len(), rounds * cluster.nodes().len());
    assert_eq!(failed, 0, "calls without a reply after three attempts");
}
