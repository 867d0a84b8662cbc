//! `majordomo bench`.

use std::{
    os::unix::net::UnixListener,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    program::{Broker, PATIENCE, majordomo, printed, printed_json, run, stderr},
    terminal::Terminal,
};

#[test]
fn broker_is_measured() {
    let broker = Broker::start();
    let pid = broker.process.pid().to_string();
    let load = ["bench", "--seconds", "1", "--workers", "2", "--window", "2", "--size", "1KiB"];

    let report = printed_json(&broker.run(&[&load[..], &["--json", "--pid", &pid]].concat()));
    let table = broker.run(&[&load[..], &["--protocol", "0.2"]].concat());
    let of_libzmq = printed_json(&broker.run(&[&load[..], &["--json", "--libzmq"]].concat()));

    assert!(report["requests"].as_u64().unwrap() > 0, "{report}");
    assert_eq!((&report["timeouts"], &report["body_bytes"]), (&0.into(), &1_024.into()));
    assert!(report["broker"]["cpu_us_per_request"].as_f64().unwrap() > 0.0, "{report}");
    assert!(printed(&table).contains("requests/s"), "{}", printed(&table));
    assert!(printed(&table).contains("MDP 0.2"), "{}", printed(&table));
    assert!(printed(&table).contains("plain sockets"), "{}", printed(&table));
    assert_eq!((&report["peer_kind"], &of_libzmq["peer_kind"]), (&"raw".into(), &"libzmq".into()));
}

#[test]
fn service_of_others_is_left_alone() {
    let broker = Broker::start();
    let _real = broker.work("echo", &["--exec", "echo real"]);
    let load = ["bench", "--seconds", "1", "--workers", "1", "--window", "1", "--json"];
    let mut bench = majordomo(&[&load[..], &["--endpoint", &broker.endpoint]].concat());
    let bench = bench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

    for _ in 0..10 {
        assert_eq!(printed(&broker.run(&["call", "echo", "hi"])), "real\n\n");
    }

    let report = printed_json(&bench.wait_with_output().unwrap());
    let service = report["service"].as_str().unwrap();
    assert!(service.starts_with("bench-") && service.len() > 10, "{service}");
    let other = printed_json(&broker.run(&[&load[..], &["--service", "mine"]].concat()));
    assert_eq!(other["service"], "mine");
    let reserved = broker.run(&["bench", "--service", "mmi.x"]);
    assert_eq!(reserved.status.code(), Some(2), "{}", stderr(&reserved));
}

/// With the sockets of the generator, and with those of libzmq.
const KINDS_OF_PEERS: [&[&str]; 2] = [&[], &["--libzmq"]];

#[test]
fn address_without_a_broker_is_said_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let left_behind = directory.path().join("clients");
    drop(UnixListener::bind(&left_behind).unwrap());
    let left_behind = format!("ipc://{}", left_behind.display());
    let endpoints = [
        ("127.0.0.1:1", "127.0.0.1:1: connection refused"),
        (&left_behind, ": connection refused"),
        ("ipc:///no/such/socket", "ipc:///no/such/socket: there is no such socket"),
    ];
    for (endpoint, wanted) in endpoints {
        for kind in KINDS_OF_PEERS {
            let began_at = Instant::now();

            let output = run(&[&["bench", "--endpoint", endpoint], kind].concat());

            assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
            assert!(stderr(&output).contains(wanted), "{}", stderr(&output));
            assert!(began_at.elapsed() < Duration::from_secs(2), "{:?}", began_at.elapsed());
        }
    }
}

#[test]
fn lost_broker_ends_the_measurement_with_the_figures_of_the_true_time() {
    for kind in KINDS_OF_PEERS {
        let broker = Broker::start();
        assert_loss_is_reported(&broker, &broker.endpoint, kind);
        let directory = tempfile::tempdir().unwrap();
        let endpoint = format!("ipc://{}", directory.path().join("clients").display());
        let bind = format!("127.0.0.1:0,{endpoint}");
        let broker = Broker::start_with(majordomo(&["serve", "--bind", &bind]));
        assert_loss_is_reported(&broker, &endpoint, kind);
    }
}

#[track_caller]
fn assert_loss_is_reported(broker: &Broker, endpoint: &str, kind: &[&str]) {
    let typed = [&["bench", "--seconds", "60", "--json", "--endpoint", endpoint], kind].concat();
    let began_at = Instant::now();
    let (bench, mut terminal) = Terminal::spawn(majordomo(&typed));
    terminal.wait_for("measuring: ");

    broker.process.signal(Signal::KILL);

    let output = bench.wait_with_output().unwrap();
    let elapsed = began_at.elapsed();
    let shown = terminal.read_to_end();
    assert!(elapsed < PATIENCE, "{elapsed:?}");
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("the broker was lost (connection refused)"), "{shown}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ended_early"], "connection refused");
    let seconds = report["duration_seconds"].as_f64().unwrap();
    // The warm-up takes half a second, and is not counted.
    assert!(seconds > 0.0 && seconds < elapsed.as_secs_f64() - 0.25, "{seconds} of {elapsed:?}");
    let pace = report["requests"].as_f64().unwrap() / seconds;
    assert!((report["requests_per_second"].as_f64().unwrap() - pace).abs() < 1.0, "{report}");
}
