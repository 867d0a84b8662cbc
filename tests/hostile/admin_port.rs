//! Strangers at the administration port.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use cluster_tests::{NodeProcess, QUIET, free_port, http_get_within};
use socket2::{Domain, SockAddr, Socket, Type};

/// What a kubelet waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// For how long probes are sent.
const PROBES_FOR: Duration = Duration::from_secs(3);

fn node() -> (NodeProcess, SocketAddr) {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    (NodeProcess::start(&[QUIET, ("admin.bind", &admin.to_string())]), admin)
}

/// How many connections are held open: far more than the port has room for.
const HELD_MAX: usize = 400;

/// A connection from another address of this machine.
fn from(host: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0));
    socket.bind(&SockAddr::from(own)).unwrap();
    socket.connect(&SockAddr::from(to)).unwrap();
    socket.into()
}

#[test]
fn silent_and_slow_connections_of_many_addresses_keep_out_no_probe() {
    let (_node, admin) = node();
    let mut streams: Vec<TcpStream> = Vec::new();
    let started = Instant::now();

    let mut slowest = Duration::ZERO;
    while started.elapsed() < PROBES_FOR {
        for host in 2..12 {
            let mut stream = from(host, admin);
            // Half of them begin a request, which never ends.
            if host % 2 == 0 {
                drop(stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: local"));
            }
            streams.push(stream);
        }
        // This process may have so many files open.
        streams.drain(..streams.len().saturating_sub(HELD_MAX));
        let asked = Instant::now();
        let answer = http_get_within(admin, "/livez", PROBE_TIMEOUT);
        slowest = slowest.max(asked.elapsed());
        assert_eq!(answer.unwrap().status, 200);
    }

    println!("the slowest probe took {slowest:?}");
}

#[test]
fn page_of_another_server_reads_and_changes_nothing() {
    let (mut node, admin) = node();
    let ask = |method: &str, path: &str, host: &str, more: &str| {
        let mut stream = TcpStream::connect(admin).unwrap();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.get(9..12).map(str::to_owned).unwrap()
    };

    assert_eq!(ask("GET", "/api/v1/status", "evil.example", ""), "421");
    assert_eq!(ask("GET", "/metrics", "evil.example:5580", ""), "421");
    assert_eq!(ask("POST", "/api/v1/drain", "evil.example", ""), "421");
    let is_said = |line: &str| line.contains("was not made") && line.contains("evil.example");
    let _line = node.wait_for_log(is_said);
    let local = admin.to_string();
    assert_eq!(ask("POST", "/api/v1/drain", &local, "Origin: http://evil.example\r\n"), "403");
    assert_eq!(ask("POST", "/api/v1/drain", &local, "Sec-Fetch-Site: cross-site\r\n"), "403");
    assert_eq!(ask("GET", "/api/v1/status", &local, ""), "200");
    node.assert_alive();
}
