//! Commands that dial the client port with keys. The broker is the least one over libzmq that has them.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use mdp_client::{KeyFile, PublicKey, SecretKey, zmq};
use tempfile::{TempDir, tempdir};

use crate::program::{Running, majordomo, printed, printed_json, run, stderr};

const SERVER: u8 = 1;
const OWN: u8 = 3;
const STRANGER: u8 = 4;
/// How long the broker waits for a message before it looks whether the test is over.
const STEP_MS: i64 = 10;

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

/// A folder with files of keys.
struct Keys(TempDir);

impl Keys {
    fn new() -> Self {
        let keys = Self(tempdir().unwrap());
        for number in [SERVER, OWN, STRANGER] {
            let secret = secret(number);
            let public = KeyFile::public_text("n", &secret.public());
            fs::write(keys.path(&format!("{number}.key")), public).unwrap();
            let path = keys.path(&format!("{number}.key_secret"));
            fs::write(&path, KeyFile::secret_text("n", &secret).as_bytes()).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
        }
        keys
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn options(&self, own: u8, server: u8) -> [String; 4] {
        let own = self.path(&format!("{own}.key_secret"));
        let server = self.path(&format!("{server}.key"));
        let [own, server] = [own, server].map(|path| path.to_str().unwrap().to_owned());
        ["--key".to_owned(), own, "--server-key".to_owned(), server]
    }
}

/// Forwards between clients and the worker of one service that came last; stopped when dropped.
struct Forwarder {
    endpoint: String,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Forwarder {
    /// With keys, admits this one.
    fn start(admitted: Option<PublicKey>) -> Self {
        let context = zmq::Context::new();
        let is_over = Arc::new(AtomicBool::new(false));
        let router = context.socket(zmq::ROUTER).unwrap();
        router.set_linger(0).unwrap();
        let mut threads = Vec::new();
        if let Some(admitted) = admitted {
            router.set_curve_server(true).unwrap();
            router.set_curve_secretkey(secret(SERVER).to_z85().as_bytes()).unwrap();
            router.set_zap_domain("test").unwrap();
            let zap = context.socket(zmq::REP).unwrap();
            zap.bind("inproc://zeromq.zap.01").unwrap();
            let over = Arc::clone(&is_over);
            threads.push(thread::spawn(move || admit(&zap, &admitted, &over)));
        }
        router.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = router.get_last_endpoint().unwrap().unwrap();
        let over = Arc::clone(&is_over);
        threads.push(thread::spawn(move || forward(&router, &over)));
        Self { endpoint, is_over, threads }
    }

    fn run(&self, args: &[&str], keys: &[String]) -> Output {
        let mut command = majordomo(args);
        command.args(["--endpoint", &self.endpoint]).args(keys).output().unwrap()
    }

    fn work(&self, keys: &[String]) -> Running {
        let mut command = majordomo(&["work", "echo", "--echo", "--endpoint", &self.endpoint]);
        command.args(keys);
        Running::start(command)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || thread::panicking());
        }
    }
}

/// 27/ZAP.
fn admit(zap: &zmq::Socket, admitted: &PublicKey, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        if zap.poll(zmq::POLLIN, STEP_MS).unwrap() == 0 {
            continue;
        }
        let question = zap.recv_multipart(0).unwrap();
        let is_admitted = question.get(6).is_some_and(|key| key == admitted.as_bytes());
        let status: &[u8] = if is_admitted { b"200" } else { b"400" };
        zap.send_multipart([&question[0], &question[1], status, b"", b"", b""], 0).unwrap();
    }
}

fn forward(router: &zmq::Socket, is_over: &AtomicBool) {
    let (mut worker, mut waiting) = (None, Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        if router.poll(zmq::POLLIN, STEP_MS).unwrap() == 0 {
            continue;
        }
        let frames = router.recv_multipart(0).unwrap();
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        match frames.as_slice() {
            [from, b"", b"MDPW01", b"\x01", _] => {
                worker = Some(from.to_vec());
                router.send_multipart([*from, b"", b"MDPW01", b"\x04"], 0).unwrap();
            }
            [_, b"", b"MDPW01", b"\x03", client, b"", body @ ..] => {
                let reply = [&[client, &b""[..], b"MDPC01", b"echo"], body].concat();
                router.send_multipart(reply, 0).unwrap();
            }
            [client, b"", b"MDPC01", b"echo", body @ ..] => {
                let request = [&[&b""[..], b"MDPW01", b"\x02", client, b""], body].concat();
                waiting.push(request.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
            }
            _ => {}
        }
        if let Some(worker) = &worker {
            for request in waiting.drain(..) {
                let to_worker = std::iter::once(worker.clone()).chain(request);
                router.send_multipart(to_worker, 0).unwrap();
            }
        }
    }
}

#[test]
fn client_worker_and_load_with_keys_are_served() {
    let (keys, broker) = (Keys::new(), Forwarder::start(Some(secret(OWN).public())));
    let options = keys.options(OWN, SERVER);
    let mut worker = broker.work(&options);
    worker.wait_for_line(|line| line.contains("registered"));

    assert_eq!(printed(&broker.run(&["call", "echo", "hello"], &options)), "hello\n");

    // A worker that is killed says nothing, and this broker would go on giving it requests.
    let broker = Forwarder::start(Some(secret(OWN).public()));
    let load = ["bench", "--service", "echo", "--workers", "1", "--window", "2", "--json"];
    let report = broker.run(&[&load[..], &["--seconds", "1"]].concat(), &options);
    let report = printed_json(&report);
    assert!(report["requests"].as_u64().unwrap() > 0, "{report}");
    assert_eq!((&report["timeouts"], &report["peer_kind"]), (&0.into(), &"libzmq".into()));
}

#[test]
fn keys_may_stand_in_the_environment() {
    let (keys, broker) = (Keys::new(), Forwarder::start(Some(secret(OWN).public())));
    let _worker = broker.work(&keys.options(OWN, SERVER));
    let [_, own, _, server] = keys.options(OWN, SERVER);
    let mut command = majordomo(&["call", "echo", "hello", "--endpoint", &broker.endpoint]);
    command.env("MAJORDOMO_KEY", own).env("MAJORDOMO_SERVER_KEY", server);
    assert_eq!(printed(&command.output().unwrap()), "hello\n");
}

#[test]
fn refusals_of_a_broker_are_named() {
    let keys = Keys::new();
    let (with_keys, without) =
        (Forwarder::start(Some(secret(OWN).public())), Forwarder::start(None));
    for (broker, options, reason) in [
        (&with_keys, keys.options(STRANGER, SERVER).to_vec(), "not admitted: "),
        (&with_keys, keys.options(OWN, STRANGER).to_vec(), "wrong server key: "),
        (&with_keys, vec![], "wrong mechanism: the broker speaks CURVE only"),
        (&without, keys.options(OWN, SERVER).to_vec(), "wrong mechanism: the broker speaks NULL"),
    ] {
        let output = broker.run(&["call", "echo", "hello"], &options);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{reason}: {}", stderr(&output));

        let mut worker = broker.work(&options);
        worker.wait_for_line(|line| line.contains("not served") && line.contains(reason));
    }
}

#[test]
fn keys_that_cannot_be_used_end_with_2_and_say_what_to_do() {
    let keys = Keys::new();
    let open = keys.path("open.key_secret");
    fs::copy(keys.path("3.key_secret"), &open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    fs::write(keys.path("none"), "nothing").unwrap();
    let path = |name: &str| keys.path(name).to_str().unwrap().to_owned();
    let (own, server) = (path("3.key_secret"), path("1.key"));
    for (own, server, reason) in [
        (Some(own.clone()), None, "--key needs --server-key"),
        (None, Some(server.clone()), "--server-key needs --key"),
        (Some(path("no-such")), Some(server.clone()), "no-such cannot be read: No such file"),
        (Some(own), Some(path("no-such")), "--server-key"),
        (Some(path("none")), Some(server.clone()), "none: there is no `public-key"),
        (Some(path("3.key")), Some(server.clone()), "3.key: the file has a public key alone"),
        (Some(path("open.key_secret")), Some(server), "(mode 0644): chmod 600"),
    ] {
        let options = [("--key", own), ("--server-key", server)];
        let options = options.iter().filter_map(|(name, path)| Some([*name, path.as_deref()?]));
        let options = options.flatten().collect::<Vec<_>>();
        for command in [&["call", "echo"][..], &["work", "echo", "--echo"], &["bench"]] {
            let output = run(&[command, &options].concat());
            assert_eq!(output.status.code(), Some(2), "{reason}: {}", stderr(&output));
            assert!(stderr(&output).contains(reason), "{reason}: {}", stderr(&output));
            assert!(!stderr(&output).contains(secret(OWN).to_z85().as_str()));
        }
    }
}

#[test]
fn secret_key_of_the_broker_in_the_hands_of_a_client_is_warned_of() {
    let (keys, broker) = (Keys::new(), Forwarder::start(Some(secret(OWN).public())));
    let _worker = broker.work(&keys.options(OWN, SERVER));
    let mut options = keys.options(OWN, SERVER);
    options[3] = keys.path("1.key_secret").to_str().unwrap().to_owned();

    let output = broker.run(&["call", "echo", "hello"], &options);

    assert_eq!(printed(&output), "hello\n");
    assert!(stderr(&output).contains("can pose as a broker"), "{}", stderr(&output));
}
