//! Where a node listens: several addresses, Unix sockets, zones and interfaces.

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    process::Command,
};

use cluster_tests::{
    NodeProcess, PATIENCE, QUIET, RawClient, RawWorker, Version, in_private_network,
    is_without_root, majordomo, wait_until,
};
use rustix::process::Signal;
use tempfile::{TempDir, tempdir};

/// A path for a socket, and the endpoint of it.
fn socket_path() -> (TempDir, PathBuf, String) {
    let folder = tempdir().unwrap();
    let path = folder.path().join("clients");
    let endpoint = format!("ipc://{}", path.display());
    (folder, path, endpoint)
}

/// A worker at one endpoint answers a client at another.
#[track_caller]
fn assert_serves_between(worker: &str, client: &str) {
    let worker = RawWorker::register(worker, Version::V01, "echo");
    let client = RawClient::connect(client, Version::V02);
    client.request("echo", "body");
    let address = worker.expect_work_after_heartbeats("body");
    worker.answer(&address, "answer");
    client.expect_reply("echo", "answer");
    worker.disconnect();
    client.wait_for_lookup("echo", "404");
}

#[test]
fn request_at_any_address_is_answered_by_a_worker_at_any_other() {
    let (_folder, _, ipc) = socket_path();
    let binds = ["127.0.0.1:0", "[::1]:0", &ipc].join(",");
    let node = NodeProcess::start_at(&[QUIET], &binds);
    let [v4, v6, local] = node.endpoints() else { panic!("{:?}", node.endpoints()) };
    assert!(v4.starts_with("tcp://127.0.0.1:") && v6.starts_with("tcp://[::1]:"), "{v4} {v6}");
    assert_eq!(*local, ipc);

    for worker in [v4, v6, local] {
        for client in [v4, v6, local] {
            assert_serves_between(worker, client);
        }
    }
    // All of TCP are loopback: clients are told the first one.
    let client = RawClient::connect(local.as_str(), Version::V01);
    client.request("mmi.endpoints", "");
    let page = client.socket.recv();
    assert!(String::from_utf8_lossy(page.last().unwrap()).contains(v4.as_str()), "{page:?}");
}

#[test]
fn node_of_unix_sockets_alone_tells_no_address() {
    let (_folder, _, ipc) = socket_path();
    let node = NodeProcess::start_at(&[QUIET], &ipc);

    assert_serves_between(&ipc, &ipc);

    let client = RawClient::connect(&node, Version::V01);
    client.request("mmi.endpoints", "");
    let page = client.socket.recv();
    let page = String::from_utf8_lossy(page.last().unwrap());
    assert!(page.contains("\"node\":null") && page.contains("\"endpoints\":[]"), "{page}");
}

#[test]
fn socket_file_is_for_user_and_group_and_goes_at_a_clean_end() {
    let (_folder, path, ipc) = socket_path();
    let mut node = NodeProcess::start_at(&[QUIET], &ipc);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660);

    node.signal(Signal::TERM);

    assert!(node.wait_for_exit(PATIENCE).success());
    assert!(!path.exists());
}

#[test]
fn socket_file_of_a_killed_node_is_taken_over() {
    let (_folder, path, ipc) = socket_path();
    let mut killed = NodeProcess::start_at(&[QUIET], &ipc);
    killed.kill();
    assert!(path.exists());

    let _node = NodeProcess::start_at(&[QUIET], &ipc);

    assert_serves_between(&ipc, &ipc);
}

#[test]
fn socket_file_at_which_a_node_listens_is_left_to_it() {
    let (_folder, _, ipc) = socket_path();
    let _node = NodeProcess::start_at(&[QUIET], &ipc);

    let second = majordomo(&["serve", "--bind", "127.0.0.1:0", "--bind", &ipc, "--admin", ""]);

    assert_eq!(second.code, Some(2), "{}", second.stderr);
    let reason = format!("broker.bind = \"{ipc}\": another program listens there");
    assert!(second.stderr.contains(&reason), "{}", second.stderr);
    assert_serves_between(&ipc, &ipc);
}

#[test]
fn path_that_cannot_be_a_socket_is_refused_with_the_reason() {
    let (folder, path, ipc) = socket_path();
    fs::write(&path, "something else").unwrap();
    let too_long = format!("ipc://{}/{}", folder.path().display(), "x".repeat(100));
    for (bind, reason) in [
        (ipc.as_str(), "there is a file that is no socket"),
        (&format!("{ipc}/x"), "Not a directory"),
        ("ipc:///no/such/folder/x", "No such file or directory"),
        (&too_long, "at most 107 bytes"),
        ("ipc://relative", "absolute path"),
    ] {
        let refused = majordomo(&["serve", "--bind", bind, "--admin", ""]);
        assert_eq!(refused.code, Some(2), "{bind}: {}", refused.stderr);
        assert!(refused.stderr.contains("broker.bind = "), "{bind}: {}", refused.stderr);
        assert!(refused.stderr.contains(reason), "{bind}: {}", refused.stderr);
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "something else");
}

#[test]
fn log_names_the_process_of_a_local_peer() {
    let (_folder, path, ipc) = socket_path();
    let node = NodeProcess::start_at(&[QUIET], &ipc);
    let mut peer = UnixStream::connect(&path).unwrap();

    peer.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();

    let line = node.wait_for_log(|line| line.contains("connection refused"));
    assert!(line.contains(&format!("{ipc} (pid {}, uid ", std::process::id())), "{line}");
}

#[test]
fn commands_take_a_unix_socket() {
    let (_folder, path, ipc) = socket_path();
    let nowhere = majordomo(&["call", "echo", "hi", "--endpoint", &ipc]);
    assert_eq!(nowhere.code, Some(3), "{}", nowhere.stderr);
    assert!(nowhere.stderr.contains(&format!("{ipc}: No such file")), "{}", nowhere.stderr);
    let mut killed = NodeProcess::start_at(&[QUIET], &ipc);
    killed.kill();
    assert!(path.exists());
    let refused = majordomo(&["call", "echo", "hi", "--endpoint", &ipc]);
    assert!(refused.stderr.contains("connection refused"), "{}", refused.stderr);

    let _node = NodeProcess::start_at(&[QUIET], &ipc);
    let answer = majordomo(&["call", "mmi.echo", "hi", "--endpoint", &ipc]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "hi\n"), "{}", answer.stderr);
    let services = majordomo(&["services", "--endpoint", &ipc]);
    assert_eq!(services.code, Some(0), "{}", services.stderr);
    let bench = majordomo(&["bench", "--endpoint", &ipc, "--seconds", "1", "--json"]);
    assert_eq!(bench.code, Some(0), "{}", bench.stderr);
}

/// An interface with addresses of version 6 alone; nothing else is there.
const VERSION_6_ALONE: [&str; 7] = [
    "link set lo up",
    "addr del 127.0.0.1/8 dev lo",
    "link add eth7 type veth peer name eth8",
    "addr add fe80::7/64 dev eth7 nodad",
    "addr add fd00::7/64 dev eth7 nodad",
    "link set eth8 up",
    "link set eth7 up",
];

#[test]
fn zones_and_interfaces_of_version_6_are_listened_at() {
    if is_without_root() {
        return;
    }
    in_private_network(&VERSION_6_ALONE, || {
        let link = Command::new("ip").args(["-o", "link", "show", "eth7"]).output().unwrap();
        let link = String::from_utf8(link.stdout).unwrap();
        let by_number = format!("[fe80::7%{}]:0", link.split(':').next().unwrap());
        for (bind, shown) in [
            ("[fe80::7%eth7]:0", "tcp://[fe80::7%eth7]:"),
            (&by_number, by_number.trim_end_matches('0')),
            ("eth7:0", "tcp://[fd00::7]:"),
            ("*:0", "tcp://*:"),
        ] {
            let node = NodeProcess::start_at(&[QUIET], bind);
            let [endpoint] = node.endpoints() else { panic!("{:?}", node.endpoints()) };
            assert!(endpoint.contains(shown), "{bind}: {endpoint}");
            let endpoint = endpoint.replace("//*:", "//[fd00::7]:");
            assert_serves_between(&endpoint, &endpoint);
        }
        for (bind, reason) in [
            ("[fe80::7%eth9]:0", "there is no interface eth9"),
            ("[fe80::7]:0", "needs its interface"),
            ("eth9:0", "there is no interface of this name"),
        ] {
            let refused = majordomo(&["serve", "--bind", bind, "--admin", ""]);
            assert!(refused.code == Some(2) && refused.stderr.contains(reason), "{refused:?}");
        }
    });
}

#[test]
fn library_reaches_a_link_local_address() {
    if is_without_root() {
        return;
    }
    in_private_network(&VERSION_6_ALONE, || {
        let node = NodeProcess::start_at(&[QUIET], "[fe80::7%eth7]:0");
        let endpoint = &node.endpoints()[0];
        wait_until("an answer", PATIENCE, || {
            majordomo(&["call", "mmi.echo", "hi", "--endpoint", endpoint]).code == Some(0)
        });
    });
}
