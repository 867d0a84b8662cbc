//! Who may administer a node, and how the commands get there: the Unix socket, tokens, TLS.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::program::{Broker, Running, majordomo, printed, run, stderr};

const CHANGE_TOKEN: &str = "change-change-change";
const READ_TOKEN: &str = "read-read-read-read";

/// A folder for what a node needs, which is the working directory of its processes.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file with this mode, and says where.
    fn write(&self, name: &str, content: &str, mode: u32) -> String {
        fs::write(self.path(name), content).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
        self.text(name)
    }

    fn certificate(&self, name: &str) -> (String, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = self.write(&format!("{name}.crt"), &cert.pem(), 0o644);
        let key = self.write(&format!("{name}.key"), &signing_key.serialize_pem(), 0o600);
        (certificate, key)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = majordomo(args);
        command.current_dir(self.0.path());
        command
    }

    fn serve(&self, settings: &[(&str, &str)]) -> Command {
        let mut command = self.command(&["serve", "--bind", "127.0.0.1:0"]);
        command.envs(settings.iter().copied());
        command
    }

    /// Checks a configuration.
    fn check(&self, settings: &[(&str, &str)]) -> Output {
        let mut command = self.command(&["serve", "--check"]);
        command.envs(settings.iter().copied()).output().unwrap()
    }
}

const SOCKET: &str = "MAJORDOMO__ADMIN__SOCKET";
const TOKEN_FILE: &str = "MAJORDOMO__ADMIN__TOKEN_FILE";
const READ_TOKEN_FILE: &str = "MAJORDOMO__ADMIN__READ_TOKEN_FILE";
const CERT_FILE: &str = "MAJORDOMO__ADMIN__CERT_FILE";
const KEY_FILE: &str = "MAJORDOMO__ADMIN__KEY_FILE";

#[test]
fn command_finds_the_socket_in_the_data_directory_by_itself_and_it_goes_at_the_end() {
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let bind = format!("127.0.0.1:{port}");
    let mut serve = place.serve(&[
        ("MAJORDOMO__ADMIN__BIND", ""),
        ("MAJORDOMO__CLUSTER__BIND", &bind),
        ("MAJORDOMO__CLUSTER__RELAY_BIND", "127.0.0.1:0"),
        ("MAJORDOMO__CLUSTER__PEERS", &format!("node-1={bind}")),
    ]);
    serve.env_remove("MAJORDOMO__NODE__DATA_DIR");
    let mut broker = Broker::start_with(serve);
    let socket = place.path("majordomo-data/admin.sock");

    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let status = place.command(&["status", "--live"]).output().unwrap();
    assert_eq!(printed(&status), "live\n");
    let top = place.command(&["top", "--once", "--interval", "10ms"]).output().unwrap();
    assert!(printed(&top).contains("node-1"), "{}", printed(&top));
    let drain = place.command(&["drain", "--wait"]).output().unwrap();
    assert!(printed(&drain).contains("node-1 is drained"), "{}", printed(&drain));
    assert_eq!(broker.process.wait_for_end().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn node_without_peers_has_a_socket_where_one_is_configured_and_no_data_directory() {
    let place = Place::new();
    let alone = Broker::start_with(place.serve(&[]));
    assert!(!place.path("majordomo-data").exists());
    drop(alone);

    let broker = Broker::start_with(place.serve(&[(SOCKET, "admin.sock")]));

    for name in [place.text("admin.sock"), "admin.sock".to_owned()] {
        let at = format!("unix:{name}");
        let status = place.command(&["status", "--live", "--admin", &at]).output().unwrap();
        assert_eq!(printed(&status), "live\n", "{}", broker.process.seen());
    }
    assert!(!place.path("majordomo-data").exists());
}

#[test]
fn socket_of_a_process_that_is_gone_is_replaced_and_one_in_use_ends_with_2() {
    let place = Place::new();
    let socket = place.path("admin.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let settings = [(SOCKET, "admin.sock")];

    let _first = Broker::start_with(place.serve(&settings));
    let second = place.serve(&settings).output().unwrap();

    assert_eq!(second.status.code(), Some(2), "{}", stderr(&second));
    let reason = "admin.socket = \"admin.sock\": another program listens there";
    assert!(stderr(&second).contains(reason), "{}", stderr(&second));
    let at_socket = place.command(&["status", "--live", "--admin", "unix:admin.sock"]).output();
    assert_eq!(printed(&at_socket.unwrap()), "live\n");
}

#[test]
fn command_shows_the_token_of_a_file_and_says_how_to_where_one_is_missing() {
    let place = Place::new();
    let token = place.write("token", &format!("{CHANGE_TOKEN}\n"), 0o600);
    let read_token = place.write("read_token", READ_TOKEN, 0o600);
    let wrong = place.write("wrong", "wrong-wrong-wrong", 0o600);
    let settings = [(TOKEN_FILE, token.as_str()), (READ_TOKEN_FILE, &read_token)];
    let mut broker = Broker::start_with(place.serve(&settings));
    let with = |file: &str, args: &[&str]| broker.ask(&[args, &["--token-file", file]].concat());

    let none = broker.ask(&["services"]);
    assert_eq!(none.status.code(), Some(1), "{}", stderr(&none));
    for help in ["--token-file FILE", "MAJORDOMO_TOKEN_FILE", "--admin unix:PATH"] {
        assert!(stderr(&none).contains(help), "{help}: {}", stderr(&none));
    }
    let refused = with(&wrong, &["services"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("no token of this node"), "{}", stderr(&refused));
    let read_only = with(&read_token, &["drain"]);
    assert_eq!(read_only.status.code(), Some(1));
    assert!(stderr(&read_only).contains("for pages alone"), "{}", stderr(&read_only));
    let missing = with("missing", &["services"]);
    assert_eq!(missing.status.code(), Some(2), "{}", stderr(&missing));

    printed(&with(&read_token, &["services"]));
    printed(&with(&token, &["status"]));
    printed(&broker.ask(&["status", "--live"]));
    let mut by_variable = majordomo(&["drain", "--admin", &broker.admin]);
    let drained = by_variable.env("MAJORDOMO_TOKEN_FILE", &token).output().unwrap();
    assert!(printed(&drained).contains("drains"), "{}", printed(&drained));

    assert_eq!(broker.process.wait_for_end().code(), Some(0));
    let log = broker.process.seen();
    assert!(log.contains("a page that was asked for was not shown") && log.contains("no_token"));
    for secret in [CHANGE_TOKEN, READ_TOKEN, "wrong-wrong"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn command_speaks_tls_with_a_node_that_its_certificates_vouch_for() {
    let place = Place::new();
    let (certificate, key) = place.certificate("tls");
    let (other, _) = place.certificate("other");
    let settings = [(CERT_FILE, certificate.as_str()), (KEY_FILE, &key)];
    let broker = Broker::start_with(place.serve(&settings));
    let trusting = |file: &str| broker.ask(&["status", "--live", "--ca-file", file]);

    assert!(broker.admin.starts_with("https://127.0.0.1:"), "{}", broker.admin);
    assert_eq!(printed(&trusting(&certificate)), "live\n");
    let mut by_variable = majordomo(&["services", "--admin", &broker.admin]);
    printed(&by_variable.env("MAJORDOMO_CA_FILE", &certificate).output().unwrap());
    let foreign = trusting(&other);
    assert_eq!(foreign.status.code(), Some(3), "{}", stderr(&foreign));
    let no_certificate = trusting(&key);
    assert_eq!(no_certificate.status.code(), Some(2), "{}", stderr(&no_certificate));
    let nothing = broker.ask(&["status", "--live"]);
    assert_eq!(nothing.status.code(), Some(2), "{}", stderr(&nothing));
    assert!(stderr(&nothing).contains("--ca-file FILE"), "{}", stderr(&nothing));
    let plain = broker.admin.replace("https://", "http://");
    let plain = run(&["status", "--live", "--admin", &plain]);
    assert_eq!(plain.status.code(), Some(3), "{}", stderr(&plain));
    assert!(stderr(&plain).contains("https:// if it has an admin.cert_file"), "{}", stderr(&plain));
}

#[test]
fn check_names_what_is_wrong_with_the_files() {
    let place = Place::new();
    let open = place.write("open", CHANGE_TOKEN, 0o644);
    let token = place.write("token", CHANGE_TOKEN, 0o600);
    let (certificate, key) = place.certificate("tls");
    let long = format!("/{}", "x".repeat(107));
    let long_reason = "admin.socket = \"/xxx";
    for (settings, reasons) in [
        (
            &[(CERT_FILE, certificate.as_str())][..],
            ["admin.cert_file", "admin.key_file is not set"],
        ),
        (&[(KEY_FILE, &key)], ["admin.key_file", "admin.cert_file is not set"]),
        (&[(READ_TOKEN_FILE, &token)], ["admin.read_token_file", "admin.token_file is not set"]),
        (&[(TOKEN_FILE, &open)], ["admin.token_file", "every user of this machine"]),
        (&[(TOKEN_FILE, "missing")], ["admin.token_file", "No such file"]),
        (&[(CERT_FILE, &key), (KEY_FILE, &key)], ["admin.cert_file", "certificates in PEM"]),
        (&[(SOCKET, &long)], [long_reason, "this one has 108 bytes"]),
    ] {
        let output = place.check(settings);

        assert_eq!(output.status.code(), Some(2), "{settings:?}: {}", stderr(&output));
        for reason in reasons {
            assert!(stderr(&output).contains(reason), "{reason}: {}", stderr(&output));
        }
    }
    let settings = [(TOKEN_FILE, token.as_str()), (CERT_FILE, &certificate), (KEY_FILE, &key)];
    assert!(printed(&place.check(&settings)).contains("token_file = "));
}

#[test]
fn token_that_would_cross_a_network_as_it_is_is_warned_of() {
    let place = Place::new();
    let token = place.write("token", CHANGE_TOKEN, 0o600);
    let bind = ("MAJORDOMO__ADMIN__BIND", "0.0.0.0:0");
    let remote = ("MAJORDOMO__ADMIN__ALLOW_REMOTE", "true");

    let as_it_is = place.check(&[bind, (TOKEN_FILE, &token)]);
    let without = place.check(&[bind, remote]);
    let meant = place.check(&[bind, remote, ("MAJORDOMO__SECURITY__INSECURE", "true")]);

    assert!(stderr(&as_it_is).contains("set admin.cert_file"), "{}", stderr(&as_it_is));
    assert!(stderr(&without).contains("set admin.token_file"), "{}", stderr(&without));
    assert_eq!(stderr(&meant), "");
}

#[test]
fn token_that_is_replaced_while_the_node_runs_counts_soon() {
    let place = Place::new();
    let token = place.write("token", CHANGE_TOKEN, 0o600);
    let mut broker = Broker::start_with(place.serve(&[(TOKEN_FILE, &token)]));
    let old = place.write("old", CHANGE_TOKEN, 0o600);

    let next = place.write("next", "other-other-other", 0o600);
    fs::rename(&next, Path::new(&token)).unwrap();
    broker.process.wait_for_line(|line| line.contains("it counts now"));

    let ask = |file: &str| broker.ask(&["drain", "--token-file", file]);
    assert_eq!(ask(&old).status.code(), Some(1));
    assert!(printed(&ask(&token)).contains("drains"));
}

#[test]
fn file_of_the_socket_goes_with_a_node_that_a_signal_stops() {
    let place = Place::new();
    let mut serve = place.serve(&[(SOCKET, "admin.sock")]);
    serve.env("MAJORDOMO__ADMIN__BIND", "");
    let mut node = Running::start(serve);
    node.wait_for_line(|line| line.contains("listening on tcp://"));
    assert!(place.path("admin.sock").exists());

    node.signal(Signal::TERM);

    assert_eq!(node.wait_for_end().code(), Some(0));
    assert!(!place.path("admin.sock").exists());
}
