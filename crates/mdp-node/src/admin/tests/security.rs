//! Tokens, the Unix socket and TLS, over real connections.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tempfile::TempDir;

use super::*;
use crate::admin::{AdminFiles, AdminSocket};

const CHANGE_TOKEN: &str = "change-change-change";
const READ_TOKEN: &str = "read-read-read-read";
/// What a kubelet waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// A node that is made up, and everything that asks it for something.
struct Scene {
    folder: TempDir,
    fake: Arc<Fake>,
    server: AdminServer,
}

impl Scene {
    fn start(files: impl FnOnce(&Path) -> AdminFiles) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let secrets = AdminSecrets::load(files).unwrap();
        let access = AdminAccess { secrets, ..access(RemoteChanges::Refused) };
        let fake = Arc::new(Fake::in_cluster(Vec::new()));
        let socket = Some(AdminSocket::bind(&folder.path().join("admin.sock")).unwrap());
        let ports = AdminPorts { socket, ..ports() };
        let backend = Arc::clone(&fake);
        let server = ports.serve_backend(backend, access, None).unwrap();
        Self { folder, fake, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&self, request: &str, token: Option<&str>) -> Answer {
        let head = token.map_or_else(
            || format!("{request} HTTP/1.1"),
            |token| format!("{request} HTTP/1.1\r\nAuthorization: Bearer {token}"),
        );
        send(address(&self.server), &head, "")
    }

    fn ask_socket(&self, head: &str) -> Answer {
        let stream = UnixStream::connect(self.path("admin.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        converse(stream, head)
    }
}

/// Sends a request without a body, and reads the answer to its end.
fn converse(mut stream: impl io::Read + io::Write, head: &str) -> Answer {
    let request =
        format!("{head}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    answer_of(&bytes)
}

fn write(path: &Path, content: &str, mode: u32) {
    // In one step, as a Secret changes.
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
    fs::rename(&new, path).unwrap();
}

fn tokens(folder: &Path) -> AdminFiles {
    let (token, read_token) = (folder.join("token"), folder.join("read_token"));
    write(&token, CHANGE_TOKEN, 0o600);
    write(&read_token, READ_TOKEN, 0o600);
    AdminFiles { token: Some(token), read_token: Some(read_token), certificate: None }
}

/// Writes a new certificate for localhost, which is its own authority.
fn write_certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    write(&key, &signing_key.serialize_pem(), 0o600);
    write(&certificate, &cert.pem(), 0o644);
    (certificate, key)
}

fn tls(folder: &Path) -> AdminFiles {
    AdminFiles { certificate: Some(write_certificate(folder)), ..AdminFiles::default() }
}

/// One end of TLS, which trusts this certificate alone.
fn trusting(certificate: &Path) -> ClientConnection {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

/// Asks by TLS.
fn ask_by_tls(address: SocketAddr, certificate: &Path, head: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(trusting(certificate), stream);
    // The handshake; what fails later is a failure of the test.
    stream.flush()?;
    Ok(converse(stream, head))
}

#[test]
fn change_needs_the_token_for_changes() {
    let scene = Scene::start(tokens);

    for (token, status, challenge) in [
        (None, 401, "www-authenticate: bearer"),
        (Some("wrong-wrong-wrong"), 401, "bearer error=\"invalid_token\""),
        (Some(READ_TOKEN), 403, "bearer error=\"insufficient_scope\""),
    ] {
        let answer = scene.ask("POST /api/v1/drain", token);

        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.head.contains(challenge), "{}", answer.head);
        assert!(answer.error().contains("admin.token_file"), "{}", answer.error());
    }
    assert!(!scene.fake.is_draining.load(Ordering::Relaxed));
    assert_eq!(scene.ask("DELETE /api/v1/members", None).status, 401);

    assert_eq!(scene.ask("POST /api/v1/drain", Some(CHANGE_TOKEN)).status, 202);
}

#[test]
fn pages_need_a_token_of_either_kind_and_probes_none() {
    let scene = Scene::start(tokens);

    for path in ["/metrics", "/api/v1/status", "/nothing"] {
        assert_eq!(scene.ask(&format!("GET {path}"), None).status, 401, "{path}");
        assert_eq!(scene.ask(&format!("HEAD {path}"), Some("wrong-wrong-wrong")).status, 401);
    }
    for token in [READ_TOKEN, CHANGE_TOKEN] {
        assert_eq!(scene.ask("GET /api/v1/status", Some(token)).status, 200);
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(scene.ask(&format!("GET {path}"), None).status, 200, "{path}");
    }
    let text = String::from_utf8(scene.ask("GET /metrics", Some(READ_TOKEN)).body).unwrap();
    assert!(text.contains("majordomo_admin_denied_total{reason=\"no_token\"} 3"), "{text}");
    assert!(text.contains("majordomo_admin_denied_total{reason=\"wrong_token\"} 3"), "{text}");
}

#[test]
fn token_that_changes_while_the_port_is_served_counts_soon() {
    let scene = Scene::start(tokens);
    assert_eq!(scene.ask("GET /metrics", Some(CHANGE_TOKEN)).status, 200);

    write(&scene.path("token"), "other-other-other", 0o600);

    let deadline = Instant::now() + PATIENCE;
    while scene.ask("GET /metrics", Some("other-other-other")).status != 200 {
        assert!(Instant::now() < deadline, "the new token does not count");
        std::thread::yield_now();
    }
    assert_eq!(scene.ask("GET /metrics", Some(CHANGE_TOKEN)).status, 401);
}

#[test]
fn socket_is_its_owners_alone_and_needs_no_token() {
    let scene = Scene::start(tokens);

    let mode = fs::metadata(scene.path("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(scene.ask_socket("GET /api/v1/status HTTP/1.1").status, 200);
    let change = scene.ask_socket("POST /api/v1/leader HTTP/1.1");
    assert_eq!(change.status, 200, "{change:?}");
    assert_eq!(scene.fake.asked(), ["None"]);
}

#[test]
fn page_that_a_proxy_brings_to_the_socket_needs_the_token_for_changes() {
    let scene = Scene::start(tokens);
    let page =
        "POST /api/v1/drain HTTP/1.1\r\nContent-Type: application/json\r\nOrigin: http://localhost";

    assert_eq!(scene.ask_socket(page).status, 401);
    let shown = format!("{page}\r\nAuthorization: Bearer {CHANGE_TOKEN}");
    assert_eq!(scene.ask_socket(&shown).status, 202);
}

#[test]
fn page_needs_the_token_by_tcp_too() {
    let scene = Scene::start(tokens);
    let origin = "Content-Type: application/json\r\nOrigin: http://localhost";
    let post = format!("POST /api/v1/drain HTTP/1.1\r\n{origin}");

    assert_eq!(send(address(&scene.server), &post, "").status, 401);
    let with_token = format!("{post}\r\nAuthorization: Bearer {CHANGE_TOKEN}");
    assert_eq!(send(address(&scene.server), &with_token, "").status, 202);
}

#[test]
fn connections_by_tcp_keep_none_from_the_socket() {
    let scene = Scene::start(tokens);
    let silent = || TcpStream::connect(address(&scene.server)).unwrap();
    let many: Vec<_> = (0..4 * CONNECTIONS_PER_ADDRESS_MAX).map(|_| silent()).collect();

    assert_eq!(scene.ask_socket("GET /api/v1/status HTTP/1.1").status, 200);

    drop(many);
}

#[test]
fn file_of_the_socket_goes_with_the_server_and_when_the_node_has_drained() {
    let scene = Scene::start(tokens);
    let path = scene.path("admin.sock");
    drop(scene.server);
    assert!(!path.exists());

    let scene = Scene::start(tokens);
    let receipt =
        DrainReceipt { finished: 0, handed_over: 0, dropped: 0, leader_moved: false, took_ms: 1 };
    scene.fake.receipt.send_replace(Some(receipt));

    let deadline = Instant::now() + PATIENCE;
    while scene.path("admin.sock").exists() {
        assert!(Instant::now() < deadline, "the file stays");
        std::thread::yield_now();
    }
}

#[test]
fn socket_at_which_a_program_listens_and_one_with_a_long_path_name_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let _first = AdminSocket::bind(&path).unwrap();

    let second = AdminSocket::bind(&path).unwrap_err();
    let long = AdminSocket::bind(&folder.path().join("x".repeat(108))).unwrap_err();

    assert!(second.is_in_use() && second.is_configuration() && long.is_configuration());
    let named = format!("admin.socket = \"{}\": another program listens there", path.display());
    assert!(second.to_string().contains(&named), "{second}");
    assert!(long.to_string().contains("at most 107 bytes, this one"), "{long}");
}

#[test]
fn port_with_a_certificate_speaks_tls_and_changes_from_its_own_pages() {
    let scene = Scene::start(tls);
    let certificate = scene.path("tls.crt");
    let ask = |head: &str| ask_by_tls(address(&scene.server), &certificate, head).unwrap();

    assert_eq!(ask("GET /livez HTTP/1.1").status, 200);
    let page = "POST /api/v1/drain HTTP/1.1\r\nContent-Type: application/json\r\nOrigin: ";
    assert_eq!(ask(&format!("{page}http://localhost")).status, 403);
    assert_eq!(ask(&format!("{page}https://localhost")).status, 202);
}

#[test]
fn certificate_that_changes_while_the_port_is_served_counts_soon() {
    let scene = Scene::start(tls);
    let first = scene.path("first.crt");
    fs::copy(scene.path("tls.crt"), &first).unwrap();
    let ask =
        |certificate: &Path| ask_by_tls(address(&scene.server), certificate, "GET /livez HTTP/1.1");
    assert_eq!(ask(&first).unwrap().status, 200);

    let (second, _) = write_certificate(scene.folder.path());

    let deadline = Instant::now() + PATIENCE;
    while ask(&second).is_err() {
        assert!(Instant::now() < deadline, "the new certificate does not count");
    }
    assert!(ask(&first).is_err());
}

#[test]
fn key_of_another_certificate_is_refused_and_one_that_all_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = write_certificate(folder.path());
    let files = || AdminFiles {
        certificate: Some((certificate.clone(), key.clone())),
        ..AdminFiles::default()
    };
    let other = tempfile::tempdir().unwrap();
    let (_, other_key) = write_certificate(other.path());
    let refused = || AdminSecrets::load(files()).unwrap_err().to_string();

    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let open = refused();
    fs::copy(&other_key, &key).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let foreign = refused();
    write(&key, "no key", 0o600);
    let none = refused();

    assert!(open.contains("admin.key_file") && open.contains("chmod o="), "{open}");
    assert!(foreign.contains("admin.key_file") && foreign.contains("cannot be used"), "{foreign}");
    assert!(none.contains("no private key in PEM"), "{none}");
}

#[test]
fn slow_handshakes_keep_out_no_probe_and_end() {
    let scene = Scene::start(tls);
    let (at, certificate) = (address(&scene.server), scene.path("tls.crt"));
    let started = Instant::now();
    let slow = || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The head of a record of a handshake, of which nothing follows.
        drop(stream.write_all(&[22, 3, 1, 1, 0]));
        stream
    };
    let mut many: Vec<_> = (0..4 * CONNECTIONS_PER_ADDRESS_MAX).map(|_| slow()).collect();

    let probed_at = Instant::now();
    let probe = ask_by_tls(at, &certificate, "GET /livez HTTP/1.1").unwrap();

    assert_eq!(probe.status, 200);
    assert!(probed_at.elapsed() < PROBE_TIMEOUT, "{:?}", probed_at.elapsed());
    // The last one still had its slot, and ends in time all the same.
    let mut last = many.pop().unwrap();
    drop(last.read_to_end(&mut Vec::new()));
    let took = started.elapsed();
    assert!(took < 2 * server::HEAD_TIMEOUT, "{took:?}");
}

#[test]
fn answers_are_made_on_the_runtime_of_the_node_though_tls_has_a_thread() {
    let folder = tempfile::tempdir().unwrap();
    let files = tls(folder.path());
    let secrets = AdminSecrets::load(files).unwrap();
    let access = AdminAccess { secrets, ..access(RemoteChanges::Refused) };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let handle = Some(runtime.handle().clone());
    let server = ports().serve_backend(Arc::new(Fake::alone()), access, handle).unwrap();
    let certificate = folder.path().join("tls.crt");
    let ask = || ask_by_tls(address(&server), &certificate, "GET /livez HTTP/1.1").unwrap();
    assert_eq!(ask().status, 200);

    runtime.shutdown_background();

    let answer = ask();
    assert_eq!(answer.status, 503);
    assert!(answer.error().contains("the node has stopped"), "{answer:?}");
}
