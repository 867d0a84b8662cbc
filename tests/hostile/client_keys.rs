//! Clients and workers with keys, without, and with those of others, at a port that asks for them: sockets of
//! libzmq, as the Guide's programs have them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use cluster_tests::{NodeProcess, QUIET, program};

/// How long something may take that happens.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long is waited for what must not come.
const NOTHING_FOR: Duration = Duration::from_millis(700);
/// Within this time a key that was taken back is out (docs/security.md).
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

/// A folder with keys and identities.
struct Keys {
    directory: tempfile::TempDir,
}

impl Keys {
    /// Keys of the cluster and of these names.
    fn of(names: &[&str]) -> Self {
        let keys = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(keys.identities()).unwrap();
        for name in ["cluster"].iter().chain(names) {
            let made = Command::new(program())
                .args(["keygen", name, "--out"])
                .arg(keys.directory.path())
                .output()
                .unwrap();
            assert!(made.status.success(), "{made:?}");
        }
        keys
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn identities(&self) -> PathBuf {
        self.path("identities")
    }

    /// Makes an identity of a name that has keys.
    fn grant(&self, name: &str, grants: &str) {
        let key = field(&self.path(&format!("{name}.key")), "public-key");
        let text = format!("keys = [\"{key}\"]\n{grants}\n");
        // As Kubernetes does: it is there whole, or not.
        let (draft, file) = (self.path("draft"), self.identities().join(format!("{name}.toml")));
        fs::write(&draft, text).unwrap();
        fs::rename(draft, file).unwrap();
    }

    fn revoke(&self, name: &str) {
        fs::remove_file(self.identities().join(format!("{name}.toml"))).unwrap();
    }

    fn node(&self, mode: &str) -> NodeProcess {
        let path = |file: &str| self.path(file).to_str().unwrap().to_owned();
        NodeProcess::start(&[
            QUIET,
            ("security.mode", mode),
            ("security.key_file", &path("cluster.key_secret")),
            ("security.identities_dir", &path("identities")),
        ])
    }

    /// A socket with the keys of a name, to a node with those of `server`.
    fn socket(&self, name: &str, server: &str, node: &NodeProcess) -> Peer {
        let own = self.path(&format!("{name}.key_secret"));
        let server = field(&self.path(&format!("{server}.key")), "public-key");
        Peer::new(node, |socket| {
            socket.set_curve_serverkey(&key(&server)).unwrap();
            socket.set_curve_publickey(&key(&field(&own, "public-key"))).unwrap();
            socket.set_curve_secretkey(&key(&field(&own, "secret-key"))).unwrap();
        })
    }
}

fn key(text: &str) -> Vec<u8> {
    zmq::z85_decode(text).unwrap()
}

/// A field of a key file.
fn field(file: &Path, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.trim().starts_with(name)).unwrap();
    line.split('"').nth(1).unwrap().to_owned()
}

/// A client or worker.
struct Peer {
    socket: zmq::Socket,
}

impl Peer {
    fn new(node: &NodeProcess, options: impl Fn(&zmq::Socket)) -> Self {
        let socket = zmq::Context::new().socket(zmq::DEALER).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_reconnect_ivl(50).unwrap();
        options(&socket);
        socket.connect(&node.endpoint()).unwrap();
        Self { socket }
    }

    fn plain(node: &NodeProcess) -> Self {
        Self::new(node, |_| {})
    }

    fn send(&self, frames: &[&[u8]]) {
        self.socket.send_multipart(frames, 0).unwrap();
    }

    fn receive(&self, patience: Duration) -> Option<Vec<Vec<u8>>> {
        self.socket.set_rcvtimeo(i32::try_from(patience.as_millis()).unwrap()).unwrap();
        self.socket.recv_multipart(0).ok()
    }

    fn ready(&self, service: &str) {
        self.send(&[b"", b"MDPW01", b"\x01", service.as_bytes()]);
    }

    /// Registers, and waits for the heartbeat that says so.
    fn registered(self, service: &str) -> Self {
        self.ready(service);
        let answer = self.receive(PATIENCE).unwrap();
        assert_eq!(answer[2], b"\x04", "registered");
        self
    }

    fn ask(&self, service: &str, body: &str) {
        self.send(&[b"", b"MDPC01", service.as_bytes(), body.as_bytes()]);
    }

    /// The last frame of the reply.
    fn call(&self, service: &str, body: &str) -> Option<String> {
        self.ask(service, body);
        let reply = self.receive(PATIENCE)?;
        Some(String::from_utf8_lossy(reply.last()?).into_owned())
    }

    /// A worker answers the request that it has got.
    fn echo(&self) {
        let request = self.receive(PATIENCE).unwrap();
        let [_, _, command, client, _, body] = request.as_slice() else { panic!("{request:?}") };
        assert_eq!(command, b"\x02");
        self.send(&[b"", b"MDPW01", b"\x03", client, b"", body]);
    }
}

#[test]
fn client_calls_what_it_may_and_a_worker_registers_what_it_may() {
    let keys = Keys::of(&["client", "worker"]);
    keys.grant("client", "call = [\"echo\"]");
    keys.grant("worker", "register = [\"echo\"]");
    let node = keys.node("on");
    let worker = keys.socket("worker", "cluster", &node).registered("echo");
    let client = keys.socket("client", "cluster", &node);

    assert_eq!(client.call("mmi.service", "echo").unwrap(), "200");
    client.ask("echo", "hello");
    worker.echo();
    assert_eq!(client.receive(PATIENCE).unwrap().last().unwrap(), b"hello");

    assert_eq!(client.call("mmi.service", "sum").unwrap(), "403");
    assert_eq!(client.call("mmi.directory", "").unwrap(), "403");
    assert_eq!(client.call("mmi.none", "").unwrap(), "501");
    client.ask("sum", "1");
    let _line = node.wait_for_log(|line| {
        line.contains("denied") && line.contains("identity=client") && line.contains("service=sum")
    });
    let other = keys.socket("worker", "cluster", &node);
    other.ready("sum");
    assert_eq!(other.receive(PATIENCE).unwrap()[2], b"\x05", "disconnected");
}

#[test]
fn peers_without_a_key_or_with_an_unknown_one_get_nothing() {
    let keys = Keys::of(&["client", "stranger", "other-cluster"]);
    keys.grant("client", "call = [\"*\"]");
    let node = keys.node("on");
    let peers = [
        ("mechanism", Peer::plain(&node)),
        ("key_refused", keys.socket("stranger", "cluster", &node)),
        ("curve_server_key", keys.socket("client", "other-cluster", &node)),
    ];
    for (reason, peer) in &peers {
        peer.ask("mmi.service", "echo");
        let _line = node.wait_for_log(|line| line.contains(&format!("reason=\"{reason}\"")));
        assert_eq!(peer.receive(NOTHING_FOR), None, "{reason}");
    }
    assert_eq!(keys.socket("client", "cluster", &node).call("mmi.none", "").unwrap(), "501");
}

#[test]
fn null_and_curve_live_together_in_mode_mixed_with_the_grants_of_each() {
    let keys = Keys::of(&["client"]);
    keys.grant("client", "call = [\"echo\"]");
    fs::write(keys.identities().join("anonymous.toml"), "register = [\"echo\"]\n").unwrap();
    let node = keys.node("mixed");
    let worker = Peer::plain(&node).registered("echo");
    let client = keys.socket("client", "cluster", &node);
    client.ask("echo", "x");
    worker.echo();
    assert_eq!(client.receive(PATIENCE).unwrap().last().unwrap(), b"x");

    let plain = Peer::plain(&node);
    assert_eq!(plain.call("mmi.service", "echo").unwrap(), "200");
    assert_eq!(plain.call("mmi.service", "sum").unwrap(), "403");
    plain.ask("echo", "x");
    let _line = node.wait_for_log(|line| line.contains("denied") && line.contains("kind=\"call\""));
    assert_eq!(plain.receive(NOTHING_FOR), None);
}

#[test]
fn key_that_is_taken_back_is_out_within_five_seconds_on_open_connections_too() {
    let keys = Keys::of(&["client", "worker"]);
    keys.grant("client", "call = [\"*\"]");
    keys.grant("worker", "register = [\"*\"]");
    let node = keys.node("on");
    let client = keys.socket("client", "cluster", &node);
    let worker = keys.socket("worker", "cluster", &node).registered("echo");
    assert_eq!(client.call("mmi.service", "echo").unwrap(), "200");

    keys.revoke("client");
    let revoked = Instant::now();
    let _line = node.wait_for_log(|line| line.contains("the peer's key was taken back"));
    assert!(revoked.elapsed() < REVOKED_WITHIN, "{:?}", revoked.elapsed());
    client.ask("mmi.service", "echo");
    assert_eq!(client.receive(NOTHING_FOR), None);

    // The others stay.
    let other = keys.socket("worker", "cluster", &node);
    assert_eq!(other.call("mmi.service", "echo").unwrap(), "200");
    drop(worker);
}

#[test]
fn key_that_comes_two_seconds_late_lets_its_owner_in() {
    let keys = Keys::of(&["late"]);
    let node = keys.node("on");
    let client = keys.socket("late", "cluster", &node);
    client.ask("mmi.service", "echo");
    assert_eq!(client.receive(NOTHING_FOR), None);
    keys.grant("late", "call = [\"*\"]");
    let reply = client.receive(PATIENCE).unwrap();
    assert_eq!(reply.last().unwrap(), b"404");
}

#[test]
fn broken_file_changes_nothing_and_a_grant_that_is_taken_back_ends_a_registration() {
    let keys = Keys::of(&["worker"]);
    keys.grant("worker", "register = [\"echo\"]");
    let node = keys.node("on");
    let worker = keys.socket("worker", "cluster", &node).registered("echo");

    fs::write(keys.identities().join("worker.toml"), "registre = 1\n").unwrap();
    let line = node.wait_for_log(|line| line.contains("ERROR") && line.contains("worker.toml"));
    assert!(line.contains("count as they were before"), "{line}");
    assert_eq!(worker.receive(NOTHING_FOR), None);

    keys.grant("worker", "register = [\"other\"]");
    let farewell = worker.receive(PATIENCE).unwrap();
    assert_eq!(farewell[2], b"\x05");
    let _line = node.wait_for_log(|line| line.contains("may not register this service any more"));
}
