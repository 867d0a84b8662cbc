//! Strangers at the administration port.

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use cluster_tests::{NodeProcess, QUIET, free_port, http_get_within, majordomo, program};
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

/// A user of every machine who owns nothing.
const OTHER_UID: u32 = 65_534;
const TOKEN: &str = "a-token-of-the-owner";

/// Lets another user of this machine, who has a program and no files of the node, ask for something.
fn as_another_user(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let copy = folder.join("majordomo");
    fs::copy(program(), &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command.args(args).current_dir("/").env_clear();
    // Who is not root cannot be another user: then the socket's mode is all that is looked at.
    if rustix::process::geteuid().is_root() {
        command.uid(OTHER_UID);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn users_of_the_machine_change_nothing_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(path("token"), TOKEN).unwrap();
    fs::set_permissions(path("token"), Permissions::from_mode(0o600)).unwrap();
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut node = NodeProcess::start(&[
        QUIET,
        ("admin.bind", &admin.to_string()),
        ("admin.socket", &path("admin.sock")),
        ("admin.token_file", &path("token")),
    ]);
    let (url, socket) = (format!("http://{admin}"), format!("unix:{}", path("admin.sock")));
    let ask = |args: &[&str]| as_another_user(folder.path(), args);

    for args in [&["drain"][..], &["member", "remove", "node-2"], &["leader", "transfer"]] {
        let (code, stderr) = ask(&[args, &["--admin", &url]].concat());
        assert_eq!(code, Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains("--token-file FILE"), "{stderr}");
    }
    let mode = fs::metadata(path("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    if rustix::process::geteuid().is_root() {
        let (code, stderr) = ask(&["drain", "--admin", &socket]);
        assert_eq!(code, Some(3), "{stderr}");
        assert!(stderr.contains("Permission denied"), "{stderr}");
        let (code, stderr) = ask(&["drain", "--admin", &url, "--token-file", &path("token")]);
        assert_eq!(code, Some(2), "{stderr}");
    }
    node.assert_alive();

    // The node's own user needs none.
    let own = majordomo(&["drain", "--admin", &socket]);
    assert_eq!(own.code, Some(0), "{}", own.stderr);
}
