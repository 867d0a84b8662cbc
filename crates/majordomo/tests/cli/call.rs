//! `majordomo call`.

use std::{
    fs,
    net::TcpListener,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use mdp_client::{Request, StopHandle, Version, Worker, WorkerOptions, zmq};
use tempfile::tempdir;

use crate::program::{
    Broker, majordomo, printed, printed_json, run, run_with_stdin, stderr, stdout,
};

#[test]
fn each_frame_of_the_reply_is_a_line() {
    let broker = Broker::start();
    for protocol in ["0.1", "0.2"] {
        let _worker = broker.work("echo", &["--echo", "--protocol", protocol]);

        let output = broker.run(&["call", "echo", "a", "", "b c", "--protocol", protocol]);

        assert_eq!(printed(&output), "a\n\nb c\n");
    }
}

#[test]
fn versions_of_client_and_worker_may_differ() {
    let broker = Broker::start();
    let _worker = broker.work("echo", &["--echo", "--protocol", "0.2"]);

    assert_eq!(printed(&broker.run(&["call", "echo", "hi"])), "hi\n");
}

#[test]
fn parts_of_a_reply_are_printed_in_order() {
    let broker = Broker::start();
    let options = WorkerOptions::default()
        .endpoints(vec![broker.endpoint.clone()])
        .service(b"count".to_vec())
        .version(Version::V02);
    let stop = StopHandle::new();
    let worker = thread::spawn({
        let stop = stop.clone();
        let count = |request: Request| {
            request.partial("one").unwrap();
            request.partial("two").unwrap();
            vec![b"three".to_vec()]
        };
        move || Worker::run(options, count, &stop)
    });

    let call = ["call", "count", "--protocol", "0.2", "--timeout", "20s"];
    let lines = broker.run(&call);
    let json = broker.run(&[&call[..], &["--json"]].concat());

    stop.stop();
    worker.join().unwrap().unwrap();
    assert_eq!(printed(&lines), "one\ntwo\nthree\n");
    assert_eq!(printed_json(&json)["frames"], serde_json::json!(["one", "two", "three"]));
}

#[test]
fn json_has_the_documented_shape() {
    let broker = Broker::start();
    let _worker = broker.work("echo", &["--echo"]);

    let mut reply = printed_json(&broker.run(&["call", "echo", "a", "ä", "--json", "-t", "20s"]));

    let elapsed_ms = reply.as_object_mut().unwrap().remove("elapsed_ms").unwrap();
    assert!(elapsed_ms.as_f64().unwrap() > 0.0, "{elapsed_ms}");
    let request_id = reply.as_object_mut().unwrap().remove("request_id").unwrap();
    // Six hexadecimal digits of this client, and its first request.
    let (client, number) = request_id.as_str().unwrap().split_once('-').unwrap();
    assert!(client.len() == 6 && u32::from_str_radix(client, 16).is_ok(), "{request_id}");
    assert_eq!(number, "1");
    assert_eq!(
        reply,
        serde_json::json!({
            "service": "echo",
            "frames": ["a", "ä"],
            "encoding": "utf8",
            "endpoint": broker.endpoint,
            "attempts": 1,
        })
    );
}

#[test]
fn stdin_is_a_frame_and_bytes_that_are_no_text_are_base64() {
    let broker = Broker::start();
    let _worker = broker.work("echo", &["--echo"]);
    let typed = |args: &[&'static str]| {
        let call: Vec<&str> = ["call", "echo", "-", "--endpoint"].to_vec();
        [&call, &[broker.endpoint.as_str()][..], args].concat().join("\n")
    };

    let raw = run_with_stdin(&typed(&[]).split('\n').collect::<Vec<_>>(), b"\xff\n\0");
    let json = run_with_stdin(&typed(&["--json"]).split('\n').collect::<Vec<_>>(), b"\xff");

    assert_eq!(raw.stdout, b"\xff\n\0\n");
    let json = printed_json(&json);
    assert_eq!((&json["encoding"], &json["frames"]), (&"base64".into(), &vec!["/w=="].into()));
}

#[test]
fn body_may_begin_with_a_hyphen_and_options_may_follow_it() {
    let broker = Broker::start();
    let _worker = broker.work("echo", &["--echo"]);

    let typed = ["call", "echo", "-hello", "-5", "hi", "-t", "8s", "---"];
    assert_eq!(printed(&broker.run(&typed)), "-hello\n-5\nhi\n---\n");
    let typed = ["call", "-e", &broker.endpoint, "echo", "--", "--help", "-t", "8s"];
    assert_eq!(printed(&run(&typed)), "--help\n-t\n8s\n");

    // A slip in an option does not become part of the request.
    let slip = broker.run(&["call", "echo", "hi", "--timeot", "8s"]);
    assert_eq!(slip.status.code(), Some(2));
    assert!(stderr(&slip).contains("'--timeout'"), "{}", stderr(&slip));
    assert!(printed(&run(&["call", "echo", "--help"])).contains("Examples:"));
}

#[test]
fn reply_that_is_no_text_stays_as_it_is() {
    let broker = Broker::start();
    let _worker = broker.work("echo", &["--echo"]);
    let body = b"\xff\n\0\r\n".as_slice();
    let directory = tempdir().unwrap();
    let file = directory.path().join("reply");
    let to_file = ["--output", file.to_str().unwrap()];
    let call = |extra: &[&str]| {
        let call = ["call", "echo", "-", "x", "--endpoint", &broker.endpoint];
        run_with_stdin(&[&call, extra].concat(), body)
    };

    assert_eq!(call(&["--raw"]).stdout, [body, b"x"].concat());
    assert_eq!(call(&["-o", "-"]).stdout, [body, b"x"].concat());
    assert_eq!(printed(&call(&to_file)), "");
    assert_eq!(fs::read(&file).unwrap(), [body, b"x"].concat());

    // No reply: the file keeps what it had, and nothing else is left.
    let quick = ["call", "absent", "--timeout", "50ms", "--retries", "0"];
    let failed = broker.run(&[&quick[..], &to_file].concat());
    assert_eq!(failed.status.code(), Some(3), "{}", stderr(&failed));
    assert_eq!(fs::read(&file).unwrap(), [body, b"x"].concat());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

    let nowhere = broker.run(&["call", "echo", "x", "--output", "/no/such/folder/reply"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(stderr(&nowhere).contains("--output /no/such/folder/reply"), "{}", stderr(&nowhere));
}

#[test]
fn large_body_passes() {
    let broker = Broker::start();
    let _worker = broker.work("echo", &["--echo"]);
    let body = vec![b'x'; 4 << 20];

    let call = ["call", "echo", "-", "--timeout", "20s", "--endpoint", &broker.endpoint];
    let output = run_with_stdin(&call, &body);

    assert_eq!(output.stdout.len(), body.len() + 1, "{}", stderr(&output));
}

#[test]
fn no_reply_ends_with_3() {
    let broker = Broker::start();
    // Enough to connect: a request that did not leave is no lost reply.
    let quick = ["--timeout", "500ms", "--retries", "1"];

    let absent = broker.run(&[&["call", "absent", "x"][..], &quick].concat());
    let unreachable =
        run(&[&["call", "echo", "x", "--endpoint", "127.0.0.1:1"][..], &quick].concat());

    for output in [&absent, &unreachable] {
        assert_eq!((output.status.code(), stdout(output)), (Some(3), ""));
        assert!(stderr(output).starts_with("majordomo: no reply from service"), "{output:?}");
    }
    assert!(stderr(&absent).contains("after 2 attempts"), "{}", stderr(&absent));
    assert!(stderr(&absent).contains("-1)"), "no request id: {}", stderr(&absent));
}

#[test]
fn broker_that_is_not_there_is_said_within_two_seconds_and_why() {
    let began = Instant::now();

    let output = run(&["call", "echo", "x", "--endpoint", "127.0.0.1:1,broker.invalid:5555"]);

    assert_eq!(output.status.code(), Some(3));
    let message = stderr(&output);
    let refused = "127.0.0.1:1: connection refused; is a broker running there?";
    assert!(message.contains(refused), "{message}");
    assert!(message.contains("broker.invalid:5555: the name "), "{message}");
    // The limit is 1 s; of time-outs it would be 7.5 s.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn broker_that_starts_late_is_waited_for_when_asked_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    drop(listener);
    let at_once = ["call", "echo", "hi", "--timeout", "20s", "--endpoint", &endpoint];
    let mut call = majordomo(&[&at_once[..], &["--wait", "20s"]].concat());
    let call = call.stdout(Stdio::piped()).spawn().unwrap();

    // As long as it takes without --wait.
    assert_eq!(run(&at_once).status.code(), Some(3));
    let router = zmq::Context::new().socket(zmq::ROUTER).unwrap();
    router.bind(&format!("tcp://{endpoint}")).unwrap();
    let mut request = router.recv_multipart(0).unwrap();
    while request[3] != b"echo" {
        request = router.recv_multipart(0).unwrap();
    }
    router.send_multipart(&request, 0).unwrap();

    assert_eq!(printed(&call.wait_with_output().unwrap()), "hi\n");
}

#[test]
fn administration_port_is_told_from_a_broker() {
    let broker = Broker::start();
    let admin = broker.admin.strip_prefix("http://").unwrap();

    let output = run(&["call", "echo", "x", "--endpoint", admin]);

    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("this is an administration port"), "{}", stderr(&output));
}

#[test]
fn service_without_a_worker_is_told_from_a_slow_one() {
    let broker = Broker::start();
    let _slow = broker.work("slow", &["--exec", "sleep 60"]);
    let quick = ["--timeout", "300ms", "--retries", "0"];

    let absent = broker.run(&[&["call", "absent", "x"][..], &quick].concat());
    let slow = broker.run(&[&["call", "slow", "x"][..], &quick].concat());
    let began = Instant::now();
    let at_once = broker.run(&["call", "absent", "x", "--fail-fast", "--timeout", "60s"]);
    let took = began.elapsed();

    for output in [&absent, &slow, &at_once] {
        assert_eq!(output.status.code(), Some(3), "{output:?}");
    }
    assert!(stderr(&absent).contains("no worker offers it"), "{}", stderr(&absent));
    assert!(stderr(&slow).contains("a worker is there"), "{}", stderr(&slow));
    let none = "majordomo: no worker offers service `absent`";
    assert!(stderr(&at_once).starts_with(none), "{}", stderr(&at_once));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn request_that_may_not_be_executed_twice_is_sent_once() {
    let broker = Broker::start();
    let quick = ["--timeout", "100ms", "--retries", "5", "--not-idempotent"];

    let absent = broker.run(&[&["call", "absent", "x"][..], &quick].concat());
    let nowhere = ["call", "echo", "x", "--endpoint", "127.0.0.1:1", "--wait", "20s"];
    let unreachable = run(&[&nowhere[..], &quick].concat());

    assert_eq!((absent.status.code(), unreachable.status.code()), (Some(3), Some(3)));
    assert!(stderr(&absent).contains("may have been executed"), "{}", stderr(&absent));
    // It never left, so it was tried as often as allowed.
    assert!(stderr(&unreachable).contains("after 6 attempts"), "{}", stderr(&unreachable));
}

#[test]
fn next_endpoint_is_tried_when_the_first_is_dead() {
    let broker = Broker::start();
    let _worker = broker.work("echo", &["--echo"]);
    let endpoints = format!("127.0.0.1:1,{}", broker.endpoint);

    let mut command = majordomo(&["call", "echo", "hi", "--json"]);
    let output = command.env("MAJORDOMO_ENDPOINT", endpoints).output().unwrap();

    assert_eq!(printed_json(&output)["endpoint"], *broker.endpoint);
}

#[test]
fn mmi_service_knows_who_is_there() {
    let broker = Broker::start();
    assert_eq!(printed(&broker.run(&["call", "mmi.service", "echo"])), "404\n");

    let _worker = broker.work("echo", &["--echo"]);

    assert_eq!(printed(&broker.run(&["call", "mmi.service", "echo"])), "200\n");
    assert_eq!(printed(&broker.run(&["call", "mmi.nothing", "echo"])), "501\n");
}
