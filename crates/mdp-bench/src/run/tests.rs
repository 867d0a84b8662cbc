use mdp_wire::Version;

use super::*;
use crate::compare::Sample;
use crate::floor::tests::RunningFloor;

fn short(floor: &RunningFloor) -> BenchOptions {
    BenchOptions {
        endpoint: floor.endpoint.clone(),
        warmup: Duration::from_millis(50),
        duration: Duration::from_millis(300),
        pid: Some(std::process::id()),
        ..BenchOptions::default()
    }
}

#[test]
fn every_request_of_a_run_is_answered_once() {
    let floor = RunningFloor::start();
    let options = BenchOptions { workers: 4, window: 16, clients: 2, ..short(&floor) };
    let mut phases = Vec::new();

    let report = run(&options, &mut |progress| phases.push(progress.phase)).unwrap();

    assert!(report.requests > 16, "{report:?}");
    assert_eq!((report.timeouts, report.unexpected_replies), (0, 0));
    assert_eq!((report.workers_disconnected, report.workers_used), (0, 4));
    assert!(report.duration_seconds >= 0.3 && report.requests_per_second > 50.0, "{report:?}");
    let latency = report.latency;
    assert!(latency.p50_us > 0.0 && latency.p50_us <= latency.max_us, "{latency:?}");
    let broker = report.broker.unwrap();
    assert!(broker.cpu_us_per_request > 0.0 && broker.rss_after_bytes > 0, "{broker:?}");
    assert!(phases.contains(&Phase::Measuring), "{phases:?}");
}

#[test]
fn peers_of_both_kinds_load_a_broker_with_libzmq_and_one_without() {
    for floor in [RunningFloor::start(), RunningFloor::start_native()] {
        for peers in [PeerKind::Raw, PeerKind::Libzmq] {
            for body_bytes in [8, 2_000, 100_000] {
                // A machine that stands still for a moment has this long to answer something.
                let duration = Duration::from_millis(200);
                let options = BenchOptions { peers, body_bytes, duration, ..short(&floor) };
                let report = run(&options, &mut |_| {}).unwrap();

                assert!(report.requests > 1, "{report:?}");
                assert_eq!((report.timeouts, report.unexpected_replies), (0, 0), "{report:?}");
                assert_eq!((report.workers_disconnected, report.workers_used), (0, 32));
            }
        }
    }
}

#[test]
fn peers_of_both_kinds_connect_by_name_and_by_ipv6() {
    let mut floors = vec![RunningFloor::start_native()];
    // Some machines have no version 6.
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        floors.push(RunningFloor::start_native_at("[::1]:0"));
    }
    for floor in floors {
        let endpoint = floor.endpoint.replace("127.0.0.1", "localhost");
        for peers in [PeerKind::Raw, PeerKind::Libzmq] {
            let options = BenchOptions { peers, endpoint: endpoint.clone(), ..short(&floor) };
            let report = run(&options, &mut |_| {}).unwrap();

            assert!(report.requests > 1 && report.errors() == 0, "{report:?}");
        }
    }
}

#[test]
fn what_is_no_broker_is_refused_with_the_reason() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let web_server = thread::spawn(move || {
        // The first connection only asks whether the port is open.
        for stream in listener.incoming().take(2) {
            std::io::Write::write_all(&mut stream.unwrap(), b"HTTP/1.1 400 Bad Request\r\n")
                .unwrap();
        }
    });

    let error = run(&BenchOptions { endpoint, ..BenchOptions::default() }, &mut |_| {});

    let error = error.unwrap_err();
    assert!(matches!(error, BenchError::Unreachable { .. }), "{error}");
    web_server.join().unwrap();
}

#[test]
fn every_service_is_asked_whatever_the_window() {
    let floor = RunningFloor::start();
    let options = BenchOptions { services: 40, workers: 40, window: 8, ..short(&floor) };

    let report = run(&options, &mut |_| {}).unwrap();

    assert_eq!((report.workers_used, report.timeouts, report.unexpected_replies), (40, 0, 0));
}

#[test]
fn window_larger_than_the_workers_waits_in_the_broker() {
    let floor = RunningFloor::start();
    let options = BenchOptions { workers: 1, window: 2_000, body_bytes: 8, ..short(&floor) };

    let report = run(&options, &mut |_| {}).unwrap();

    assert_eq!((report.timeouts, report.unexpected_replies), (0, 0));
    assert!(report.requests >= 1, "{report:?}");
}

#[test]
fn reply_takes_as_long_as_the_job() {
    let floor = RunningFloor::start();
    let job = Duration::from_millis(20);
    let options = BenchOptions { workers: 2, window: 2, job, ..short(&floor) };

    let report = run(&options, &mut |_| {}).unwrap();

    // The histogram is right to a thousandth.
    assert!(report.latency.p50_us >= 19_980.0, "{report:?}");
    assert_eq!((report.timeouts, report.unexpected_replies, report.workers_used), (0, 0, 2));
}

#[test]
fn what_other_nodes_spend_counts_too() {
    let floor = RunningFloor::start();
    let peer_pids = vec![std::process::id()];
    let options = BenchOptions { workers: 1, window: 1, peer_pids, ..short(&floor) };

    let report = run(&options, &mut |_| {}).unwrap();

    let (broker, [peer]) = (report.broker.as_ref().unwrap(), report.peers.as_slice()) else {
        panic!("{report:?}");
    };
    assert!(peer.cpu_us_per_request > 0.0 && peer.rss_before_bytes > 0, "{peer:?}");
    let sum = broker.cpu_us_per_request + peer.cpu_us_per_request;
    assert!((Sample::of(&report).cpu_us - sum).abs() < 1e-9, "{report:?}");
}

#[test]
fn options_that_cannot_be_met_are_refused() {
    let refused = |options: BenchOptions| run(&options, &mut |_| {}).unwrap_err().to_string();
    let options = BenchOptions::default;

    assert!(refused(BenchOptions { window: 0, ..options() }).contains("window"));
    assert!(refused(BenchOptions { services: 33, ..options() }).contains("33 services"));
    let job = Duration::from_secs(10);
    assert!(refused(BenchOptions { job, ..options() }).contains("job of 10s"));
    assert!(refused(BenchOptions { body_bytes: 7, ..options() }).contains("too short"));
}

/// A broker of 0.2 for one worker, written with the bytes of 18/MDP.
fn serve_v02(router: &zmq::Socket, requests_max: usize) {
    let (mut worker, mut waiting) = (None, Vec::new());
    for _ in 0..requests_max {
        let Ok(mut frames) = router.recv_multipart(0) else { return };
        let peer = frames.remove(0);
        match (frames[0].as_slice(), frames[1].as_slice()) {
            (b"MDPC02", [0x01]) => {
                assert_eq!(frames[2], b"echo");
                waiting.push((peer, frames.remove(3)));
            }
            (b"MDPW02", [0x01]) => worker = Some(peer),
            (b"MDPW02", [0x04]) => {
                let (client, body) = (frames.remove(2), frames.remove(3));
                let head = [client, b"MDPC02".to_vec(), vec![0x03], b"echo".to_vec(), body];
                router.send_multipart(head, 0).unwrap();
            }
            (b"MDPW02", [0x05 | 0x06]) => {}
            other => panic!("{other:?}"),
        }
        let Some(worker) = &worker else { continue };
        for (client, body) in waiting.drain(..) {
            let request =
                [worker.clone(), b"MDPW02".to_vec(), vec![0x02], client, Vec::new(), body];
            router.send_multipart(request, 0).unwrap();
        }
    }
}

/// Starts it on a thread, and returns a load for it.
fn start_v02(context: &zmq::Context, requests_max: usize) -> (JoinHandle<()>, BenchOptions) {
    let router = context.socket(zmq::ROUTER).unwrap();
    router.set_linger(0).unwrap();
    router.set_rcvtimeo(1_000).unwrap();
    router.bind("tcp://127.0.0.1:*").unwrap();
    let options = BenchOptions {
        endpoint: router.get_last_endpoint().unwrap().unwrap(),
        protocol: Version::V02,
        workers: 1,
        window: 4,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(200),
        ..BenchOptions::default()
    };
    (thread::spawn(move || serve_v02(&router, requests_max)), options)
}

#[test]
fn broker_that_ends_while_it_is_measured_is_lost() {
    let context = zmq::Context::new();
    let (broker, options) = start_v02(&context, 200);
    let options = BenchOptions { duration: Duration::from_secs(60), ..options };

    let report = run(&options, &mut |_| {}).unwrap();
    broker.join().unwrap();

    assert!(report.requests > 4 && report.ended_early.is_some(), "{report:?}");
    let error = report.whole().unwrap_err();
    assert!(matches!(error, BenchError::Lost { .. }), "{error}");
}

#[test]
fn both_versions_are_spoken() {
    let context = zmq::Context::new();
    let (broker, options) = start_v02(&context, usize::MAX);

    let report = run(&options, &mut |_| {}).unwrap();
    broker.join().unwrap();

    assert!(report.requests > 4, "{report:?}");
    assert_eq!((report.protocol.as_str(), report.timeouts), ("0.2", 0));
    assert_eq!(report.unexpected_replies, 0);
}
