//! The administration port over real connections, in front of a node that is made up.

mod fake;
mod security;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use axum::extract::connect_info::MockConnectInfo;
use mdp_raft::{ChangeError, NotReady};
use serde_json::{Value, json};

use self::fake::Fake;
use super::{
    AdminAccess, AdminPort, AdminPortError, AdminPorts, AdminSecrets, AdminServer, OwnNames,
    RemoteChanges, connection::Remote, metrics, routes, server, slots::CONNECTIONS_PER_ADDRESS_MAX,
};
use crate::DrainReceipt;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

fn send(address: SocketAddr, head: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let end = "Host: localhost\r\nConnection: close";
    let request = format!("{head}\r\n{end}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    answer_of(&bytes)
}

fn answer_of(bytes: &[u8]) -> Answer {
    let end_of_head = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end_of_head].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: bytes[end_of_head + 4..].to_vec() }
}

fn serve(fake: Fake) -> (AdminServer, Arc<Fake>) {
    let fake = Arc::new(fake);
    let backend = Arc::clone(&fake);
    (ports().serve_backend(backend, access(RemoteChanges::Refused), None).unwrap(), fake)
}

fn ports() -> AdminPorts {
    AdminPorts { port: Some(AdminPort::bind("127.0.0.1:0").unwrap()), socket: None }
}

fn access(changes: RemoteChanges) -> AdminAccess {
    AdminAccess {
        changes,
        secrets: AdminSecrets::default(),
        names: OwnNames::default(),
        warnings: vec!["nothing proves who a peer is".to_owned()],
        open_ports: 2,
    }
}

fn address(server: &AdminServer) -> SocketAddr {
    server.address().unwrap()
}

fn get(server: &AdminServer, path: &str) -> Answer {
    send(address(server), &format!("GET {path} HTTP/1.1"), "")
}

fn post(server: &AdminServer, path: &str, body: &str) -> Answer {
    send(address(server), &format!("POST {path} HTTP/1.1"), body)
}

#[test]
fn node_whose_broker_thread_turns_is_alive() {
    let (server, _) = serve(Fake::alone());

    let answer = get(&server, "/livez");

    assert_eq!((answer.status, answer.json()), (200, json!({ "alive": true })));
}

#[test]
fn node_is_ready_unless_consensus_or_a_drain_says_no() {
    let (server, fake) = serve(Fake::alone());
    let answer = get(&server, "/readyz");
    assert_eq!((answer.status, answer.json()), (200, json!({ "ready": true })));

    fake.is_draining.store(true, Ordering::Relaxed);
    let answer = get(&server, "/readyz");
    assert_eq!((answer.status, &answer.json()["reasons"]), (503, &json!(["draining"])));

    let not_ready = NotReady { code: "no_leader", text: "no leader is known".to_owned() };
    let (server, _) = serve(Fake::in_cluster(vec![not_ready]));
    let answer = get(&server, "/readyz");
    assert_eq!(answer.status, 503);
    let details = ["no_leader: no leader is known"];
    let expected = json!({ "ready": false, "reasons": ["no_leader"], "details": details });
    assert_eq!(answer.json(), expected);
}

#[test]
fn pages_are_those_of_the_node() {
    let (server, _) = serve(Fake::alone());

    for (path, page) in [
        ("/api/v1/cluster", "Cluster"),
        ("/api/v1/status", "Status"),
        ("/api/v1/services", "Services"),
        ("/api/v1/workers", "Workers"),
        ("/api/v1/connections", "Connections"),
    ] {
        let answer = get(&server, path);
        let expected = match page {
            // What was warned of at the start is the shell's to tell.
            "Status" => json!({ "page": page, "warnings": ["nothing proves who a peer is"] }),
            _ => json!({ "page": page }),
        };
        assert_eq!((answer.status, answer.json()), (200, expected), "{path}");
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    }
}

#[test]
fn node_that_gives_no_report_is_said_to_be_unavailable() {
    let (server, fake) = serve(Fake::alone());
    fake.is_overloaded.store(true, Ordering::Relaxed);

    for path in ["/metrics", "/api/v1/cluster"] {
        let answer = get(&server, path);
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.error().contains("broker thread"), "{}", answer.error());
    }
    assert_eq!(get(&server, "/livez").status, 200);
}

#[test]
fn metrics_have_the_names_and_units_that_prometheus_expects() {
    let (server, _) = serve(Fake::in_cluster(Vec::new()));

    let answer = get(&server, "/metrics");

    let text = String::from_utf8(answer.body).unwrap();
    assert!(answer.head.contains(metrics::CONTENT_TYPE), "{}", answer.head);
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in [
        "# TYPE majordomo_broker_requests counter",
        "majordomo_broker_requests_total 7",
        "majordomo_raft_refused_calls_total{reason=\"unknown_sender\"} 3",
        "majordomo_broker_dropped_messages_total{reason=\"expired\"} 2",
        "majordomo_broker_dropped_messages_total{reason=\"attempts_exhausted\"} 0",
        "majordomo_broker_dropped_messages_total{reason=\"too_few_frames\"} 0",
        "majordomo_broker_request_duration_seconds_bucket{le=\"60.0\"} 0",
        "majordomo_broker_request_duration_seconds_bucket{le=\"+Inf\"} 1",
        "majordomo_broker_queued_bytes 0",
        r#"majordomo_broker_service_queued_requests{service="a\"b"} 3"#,
        "majordomo_uptime_seconds 1.5",
        "majordomo_ready 1",
        "majordomo_raft_term 3",
        "majordomo_raft_is_leader 0",
        "majordomo_raft_has_leader 1",
        "majordomo_raft_members{role=\"voter\"} 2",
        "majordomo_raft_members{role=\"learner\"} 0",
        "majordomo_raft_member_unheard_seconds{member=\"node-2\"} 0.25",
        "majordomo_catalog_services 9",
        "majordomo_catalog_nodes{state=\"gone\"} 1",
        "majordomo_cluster_calls_total 5",
        "majordomo_relay_forwarded_requests_total 8",
        "majordomo_relay_link_up{peer=\"node-2\",role=\"origin\"} 1",
        "majordomo_relay_link_up{peer=\"node-2\",role=\"owner\"} 0",
        "majordomo_relay_lost_links_total{reason=\"silent\"} 3",
        "majordomo_relay_lost_links_total{reason=\"left\"} 0",
        "majordomo_relay_refused_links_total{reason=\"wrong_version\",role=\"origin\"} 4",
        "majordomo_relay_refused_links_total{reason=\"wrong_version\",role=\"owner\"} 0",
        "majordomo_relay_outgoing_bytes 5",
        "majordomo_relay_unreachable_requests 6",
        "majordomo_admin_denied_total{reason=\"no_token\"} 0",
        "majordomo_admin_denied_total{reason=\"read_token\"} 0",
        "majordomo_admin_failed_handshakes_total 0",
        "majordomo_admin_stale_files 0",
    ] {
        assert!(text.lines().any(|other| other == line), "no {line:?} in\n{text}");
    }
    let info = format!(
        "majordomo_build_info{{node=\"node-1\",version=\"{}\"}} 1",
        crate::version::VERSION
    );
    assert!(text.contains(&info), "{text}");
}

#[test]
fn metrics_of_a_node_alone_are_without_a_cluster() {
    let (server, _) = serve(Fake::alone());

    let text = String::from_utf8(get(&server, "/metrics").body).unwrap();

    assert!(text.contains("majordomo_broker_requests_total 7"), "{text}");
    let of_cluster =
        ["raft_", "catalog_", "cluster_", "relay_"].map(|name| format!("majordomo_{name}"));
    assert!(of_cluster.iter().all(|prefix| !text.contains(prefix)), "{text}");
}

#[test]
fn changes_reach_the_cluster() {
    let (server, fake) = serve(Fake::in_cluster(Vec::new()));

    let add = r#"{"action":"add","name":"node-4","endpoint":"h:1"}"#;
    let added = post(&server, "/api/v1/members", add);
    let moved = post(&server, "/api/v1/leader", r#"{"to":"node-2"}"#);
    let moved_anywhere = post(&server, "/api/v1/leader", "");

    let expected = json!({ "action": "add", "name": "node-4", "endpoint": "tcp://h:1" });
    assert_eq!((added.status, added.json()), (200, expected));
    assert_eq!((moved.status, moved.json()), (200, json!({ "leader": "node-2" })));
    assert_eq!(moved_anywhere.status, 200);
    assert_eq!(
        fake.asked(),
        ["Add { name: \"node-4\", endpoint: \"tcp://h:1\" }", "Some(\"node-2\")", "None",]
    );
}

#[test]
fn connection_is_closed_by_its_number() {
    let (server, fake) = serve(Fake::alone());

    let closed = post(&server, "/api/v1/connections", r#"{"kick":7}"#);
    let none = post(&server, "/api/v1/connections", r#"{"kick":8}"#);
    let no_number = post(&server, "/api/v1/connections", r#"{"kick":"a"}"#);

    assert_eq!((closed.status, closed.json()), (200, json!({ "kicked": 7 })));
    assert_eq!(none.status, 404);
    assert!(none.error().contains("no connection 8 at this node"), "{}", none.error());
    assert_eq!(no_number.status, 400);
    assert!(no_number.error().contains("{\"kick\":ID}"), "{}", no_number.error());
    assert_eq!(fake.asked(), ["kick 7", "kick 8"]);
}

#[test]
fn snapshot_comes_with_its_index() {
    let (server, _) = serve(Fake::in_cluster(Vec::new()));

    let answer = post(&server, "/api/v1/snapshot", "");

    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"\0snapshot"[..]));
    assert!(answer.head.contains("x-majordomo-index: 42"), "{}", answer.head);
    assert!(answer.head.contains("application/octet-stream"), "{}", answer.head);
}

#[test]
fn drain_is_passed_on() {
    let (server, fake) = serve(Fake::alone());

    let page = |again| json!({ "draining": true, "node": "node-1", "again": again });
    let answer = post(&server, "/api/v1/drain", "");

    assert_eq!((answer.status, answer.json()), (202, page(false)));
    assert!(fake.is_draining.load(Ordering::Relaxed));
    let answer = post(&server, "/api/v1/drain", r#"{"node":"node-1"}"#);
    assert_eq!((answer.status, answer.json()), (202, page(true)));
}

#[test]
fn drain_of_another_node_is_refused_with_its_address() {
    let (server, fake) = serve(Fake::in_cluster(Vec::new()));

    let answer = post(&server, "/api/v1/drain", r#"{"node":"node-2"}"#);
    assert_eq!((answer.status, answer.error()), (409, "this is node-1, not node-2".to_owned()));
    let others = json!([{ "name": "node-2", "cluster_endpoint": "tcp://h:2" }]);
    assert_eq!(answer.json()["others"], others);
    let answer = post(&server, "/api/v1/drain", r#"{"node":"node-9"}"#);
    assert_eq!(answer.status, 404);
    assert!(answer.error().contains("knows no node named node-9"), "{}", answer.error());

    assert!(!fake.is_draining.load(Ordering::Relaxed));
}

#[test]
fn who_waits_for_a_drain_is_told_its_progress_and_its_receipt_and_then_the_port_closes() {
    let (server, fake) = serve(Fake::alone());
    let mut stream = TcpStream::connect(address(&server)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = r#"{"wait":true}"#;
    let head = "POST /api/v1/drain HTTP/1.1\r\nHost: localhost";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut line = |event: &str| {
        let of_event = format!("{{\"event\":\"{event}\"");
        let line = lines.find(|line| line.starts_with(&of_event)).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };

    let progress = line("draining");
    assert_eq!((&progress["timeout_ms"], &progress["queued"]), (&json!(20_000), &json!(0)));
    assert!(fake.is_draining.load(Ordering::Relaxed));
    let (finished, handed_over, dropped) = (1, 2, 3);
    let receipt = DrainReceipt { finished, handed_over, dropped, leader_moved: true, took_ms: 4 };
    fake.receipt.send_replace(Some(receipt));
    assert_eq!(line("drained"), serde_json::to_value(receipt).unwrap());

    // It is told that nobody holds a receipt any more, so the process may end.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let closed = async { tokio::time::timeout(PATIENCE, fake.receipt.closed()).await };
    runtime.block_on(closed).unwrap();
    assert!(lines.all(|line| line.is_empty() || line == "0"));
    assert!(TcpStream::connect(address(&server)).is_err());
}

#[test]
fn changes_that_are_not_made_have_a_status_and_a_reason() {
    let remove = r#"{"action":"remove","name":"node-9"}"#;
    let unknown = ChangeError::UnknownMember { name: "node-9".into(), members: "node-1".into() };
    let refused = ChangeError::Refused { reason: "no quorum would be left".into() };
    for (error, status, reason) in [
        (unknown, 404, "no member is named \"node-9\""),
        (refused, 409, "no quorum would be left"),
        (ChangeError::Timeout { seconds: 8 }, 503, "not done within 8 s"),
    ] {
        let (server, _) = serve(Fake::in_cluster(Vec::new()).failing(error));

        let answer = post(&server, "/api/v1/members", remove);

        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.error().contains(reason), "{}", answer.error());
    }
    let (server, _) = serve(Fake::alone());
    for path in ["/api/v1/members", "/api/v1/leader", "/api/v1/snapshot"] {
        let answer = post(&server, path, if path.ends_with("members") { remove } else { "" });
        assert_eq!(answer.status, 409);
        assert!(answer.error().contains("cluster.peers is empty"), "{}", answer.error());
    }
}

#[test]
fn node_that_is_not_ready_tells_what_it_knows() {
    let refused = ChangeError::Refused { reason: "no other voter is heard".into() };
    for (error, status) in [(ChangeError::NoLeader, 503), (refused, 409)] {
        let not_ready = NotReady { code: "no_leader", text: "no leader is known".to_owned() };
        let (server, _) = serve(Fake::in_cluster(vec![not_ready]).failing(error));

        let answer = post(&server, "/api/v1/leader", "{}");

        let page = answer.json();
        assert_eq!((answer.status, &page["node"]), (status, &json!("node-1")));
        assert_eq!(page["reasons"], json!(["no_leader"]));
        assert_eq!(page["others"], json!([{ "name": "node-2", "cluster_endpoint": "tcp://h:2" }]));
    }
}

#[test]
fn what_cannot_be_understood_is_refused_as_json() {
    let (server, fake) = serve(Fake::in_cluster(Vec::new()));
    let long = "x".repeat(routes::BODY_BYTES_MAX + 1);

    for (answer, status, reason) in [
        (post(&server, "/api/v1/members", "{}"), 400, "missing field"),
        (post(&server, "/api/v1/leader", "{\"to\":\"a b\"}"), 400, "node name"),
        (post(&server, "/api/v1/members", &long), 413, "65536 bytes"),
        (get(&server, "/api/v1/drain"), 405, "by GET"),
        (post(&server, "/livez", ""), 405, "by POST"),
        (get(&server, "/"), 404, "/api/v1/cluster"),
    ] {
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.error().contains(reason), "{}", answer.error());
    }
    assert_eq!(fake.asked(), [""; 0]);
}

#[test]
fn web_pages_change_nothing() {
    let (server, fake) = serve(Fake::alone());

    let head = "POST /api/v1/drain HTTP/1.1\r\nOrigin: http://example.org";
    let answer = send(address(&server), head, "");

    assert_eq!(answer.status, 403);
    assert!(!fake.is_draining.load(Ordering::Relaxed));
}

#[test]
fn other_machines_look_and_change_only_if_allowed() {
    for (changes, status) in [(RemoteChanges::Refused, 403), (RemoteChanges::Allowed, 202)] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let elsewhere = MockConnectInfo(Remote::Plain("192.0.2.1:9".parse().unwrap()));
        let routes = routes::routes(Arc::new(Fake::alone()), access(changes), Arc::default());
        let routes = routes.layer(elsewhere);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(axum::serve(listener, routes).into_future());

        assert_eq!(send(address, "GET /readyz HTTP/1.1", "").status, 200);
        let drain = send(address, "POST /api/v1/drain HTTP/1.1", "");

        assert_eq!(drain.status, status);
        let names_key = String::from_utf8_lossy(&drain.body).contains("admin.allow_remote");
        assert_eq!(names_key, status == 403, "{drain:?}");
    }
}

#[test]
fn address_in_use_names_the_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();

    let error = AdminPort::bind(&address).unwrap_err();
    assert!(matches!(error, AdminPortError::AddressInUse { .. }) && error.is_configuration());
    let text = error.to_string();
    assert!(text.contains("admin.bind") && text.contains(&address), "{text}");

    let error = AdminPort::bind("192.0.2.1:1").unwrap_err();
    assert!(matches!(error, AdminPortError::Refused { .. }) && error.is_configuration());
}

#[test]
fn dropped_server_closes_its_port() {
    let (server, _) = serve(Fake::alone());
    let address = address(&server);
    assert_eq!(get(&server, "/livez").status, 200);

    drop(server);

    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn server_runs_on_the_runtime_that_it_is_given() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let backend = Arc::new(Fake::alone());
    let access = access(RemoteChanges::Refused);

    let server = ports().serve_backend(backend, access, Some(runtime.handle().clone())).unwrap();

    assert_eq!(get(&server, "/livez").status, 200);
}

#[test]
fn connections_that_say_nothing_keep_out_no_probe() {
    let (server, _) = serve(Fake::alone());
    let silent = || TcpStream::connect(address(&server)).unwrap();
    let many: Vec<_> = (0..4 * CONNECTIONS_PER_ADDRESS_MAX).map(|_| silent()).collect();

    assert_eq!(get(&server, "/livez").status, 200);
    assert_eq!(get(&server, "/api/v1/status").status, 200);

    drop(many);
}

#[test]
fn connection_whose_head_takes_too_long_ends() {
    let (server, _) = serve(Fake::alone());
    let (mut silent, mut idle) = (
        TcpStream::connect(address(&server)).unwrap(),
        TcpStream::connect(address(&server)).unwrap(),
    );
    for stream in [&silent, &idle] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    silent.write_all(b"GET /livez HTTP/1.1\r\nHost: local").unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let started = Instant::now();

    let mut answers = [Vec::new(), Vec::new()];
    for (stream, answer) in [&mut silent, &mut idle].into_iter().zip(&mut answers) {
        stream.read_to_end(answer).unwrap();
    }

    let took = started.elapsed();
    assert!(took >= server::HEAD_TIMEOUT && took < 2 * server::HEAD_TIMEOUT, "{took:?}");
    assert!(String::from_utf8_lossy(&answers[1]).starts_with("HTTP/1.1 200"), "{answers:?}");
}

#[test]
fn pages_are_for_those_who_mean_this_node_and_probes_for_all() {
    let (server, fake) = serve(Fake::alone());
    let ask = |method: &str, path: &str, host: &str| {
        let mut stream = TcpStream::connect(address(&server)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };

    for path in ["/metrics", "/api/v1/status", "/api/v1/services", "/nothing"] {
        let answer = ask("GET", path, "evil.example:5580");
        assert!(answer.starts_with("HTTP/1.1 421") && answer.contains("admin.hosts"), "{answer}");
    }
    assert!(ask("POST", "/api/v1/drain", "evil.example").starts_with("HTTP/1.1 421"));
    assert!(!fake.is_draining.load(Ordering::Relaxed));
    for path in ["/livez", "/readyz"] {
        assert!(ask("GET", path, "evil.example").starts_with("HTTP/1.1 200"), "{path}");
    }
    assert!(ask("GET", "/api/v1/status", "127.0.0.1:5580").starts_with("HTTP/1.1 200"));
}
