mod peers;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use socket2::{Domain, Socket, Type};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

use super::*;

/// How long anything may take that must happen.
const DEADLINE: Duration = Duration::from_secs(20);
const LIMITS: IncomingLimits = IncomingLimits { visitors_max: 64, callers_max: 64 };
/// Long enough to learn why an address is not reached.
const LONG: Duration = Duration::from_secs(2);
/// Nobody answers that fast.
const SHORT: Duration = Duration::from_millis(200);

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn any_port() -> Endpoint {
    "127.0.0.1:0".parse().unwrap()
}

/// A link that is bound somewhere.
fn link(runtime: &Runtime) -> ClusterLink {
    ClusterLink::start(&any_port(), LIMITS, 7, runtime.handle().clone(), None).unwrap()
}

/// Answers with the same bytes, behind a mark.
fn echo() -> Answer {
    Arc::new(|_, request| Box::pin(async move { Some([b"re:".as_slice(), &request].concat()) }))
}

/// A link that answers by [`echo`].
fn echoing(runtime: &Runtime) -> ClusterLink {
    let link = link(runtime);
    link.serve(echo());
    link
}

fn call(
    runtime: &Runtime,
    from: &ClusterLink,
    to: &str,
    request: &[u8],
    timeout: Duration,
) -> Result<Vec<u8>, CallError> {
    let call = from.caller().call(to, Lane::Control, request.to_vec(), timeout);
    runtime.block_on(call)
}

fn address(link: &ClusterLink) -> String {
    link.endpoint().to_string()
}

/// An address where no program listens, nor does any other test while this socket lives.
fn silent_port() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, format!("tcp://{address}"))
}

/// Calls until there is an answer: a node that has just begun to listen may not answer yet.
fn call_until_answered(runtime: &Runtime, from: &ClusterLink, to: &str, request: &[u8]) -> Vec<u8> {
    let begun = Instant::now();
    loop {
        match call(runtime, from, to, request, SHORT) {
            Ok(answer) => return answer,
            Err(error) => assert!(begun.elapsed() < DEADLINE, "{error}"),
        }
    }
}

/// Waits until the condition holds.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn call_is_answered_on_both_lanes() {
    let runtime = runtime();
    let (a, b) = (link(&runtime), echoing(&runtime));

    for lane in [Lane::Control, Lane::Bulk] {
        let call = a.caller().call(&address(&b), lane, b"hello".to_vec(), DEADLINE);
        assert_eq!(runtime.block_on(call), Ok(b"re:hello".to_vec()));
    }

    until("all is counted", || a.counters().totals().answered == 2);
    let totals = a.counters().totals();
    assert_eq!((totals.sent, totals.timed_out, totals.late_answers), (2, 0, 0));
    assert_eq!(b.counters().totals().received, 2);
}

#[test]
fn empty_and_large_messages_pass() {
    let runtime = runtime();
    let (a, b) = (link(&runtime), echoing(&runtime));

    for size in [0, 1, 100_000, 8 << 20] {
        let request = vec![7; size];
        let answer = call(&runtime, &a, &address(&b), &request, DEADLINE).unwrap();
        assert!(answer.strip_prefix(b"re:") == Some(&request), "{size}");
    }
}

#[test]
fn call_that_is_refused_is_told_so_at_its_deadline_and_is_forgotten() {
    let runtime = runtime();
    let (a, b) = (link(&runtime), echoing(&runtime));
    let begun = Instant::now();

    let (_socket, silent) = silent_port();
    assert_eq!(call(&runtime, &a, &silent, b"hello", LONG), Err(CallError::Refused));

    assert!(begun.elapsed() >= LONG && begun.elapsed() < DEADLINE);
    until("it is forgotten", || a.counters().totals().timed_out == 1);
    assert_eq!(a.counters().totals().sent, 0);
    assert!(call(&runtime, &a, &address(&b), b"hello", DEADLINE).is_ok());
}

#[test]
fn name_without_an_address_is_no_error_and_disturbs_nobody() {
    let runtime = runtime();
    let (a, b) = (link(&runtime), echoing(&runtime));
    let unknown = "tcp://no-such-host.invalid:5556";
    let lost = a.caller().call(unknown, Lane::Control, Vec::new(), LONG);
    let lost = runtime.spawn(lost);

    for _ in 0..100 {
        assert!(call(&runtime, &a, &address(&b), b"hello", DEADLINE).is_ok());
    }

    let outcome = runtime.block_on(lost).unwrap();
    // A resolver that gets no answer in time does not know whether there is an address.
    assert!(matches!(outcome, Err(CallError::NoAddress | CallError::Timeout)), "{outcome:?}");
}

#[test]
fn names_are_looked_up() {
    let runtime = runtime();
    let (a, b) = (link(&runtime), echoing(&runtime));
    // In small letters it is taken for an address.
    let named = format!("tcp://LOCALHOST:{}", b.endpoint().port());

    assert_eq!(call(&runtime, &a, &named, b"hello", DEADLINE), Ok(b"re:hello".to_vec()));
}

#[test]
fn what_is_no_address_is_unreachable_at_once() {
    let runtime = runtime();
    let a = link(&runtime);

    for wrong in ["", "tcp://", "ipc:///tmp/x", "tcp://0.0.0.0:5556", "tcp://127.0.0.1:0"] {
        assert_eq!(
            call(&runtime, &a, wrong, b"x", DEADLINE),
            Err(CallError::Unreachable),
            "{wrong}"
        );
    }
}

#[test]
fn node_that_comes_later_or_again_is_reached() {
    let runtime = runtime();
    let a = link(&runtime);
    let (socket, address) = silent_port();
    let bind: Endpoint = address.parse().unwrap();
    let start = || {
        let link = ClusterLink::start(&bind, LIMITS, 7, runtime.handle().clone(), None).unwrap();
        link.serve(echo());
        link
    };

    assert_eq!(call(&runtime, &a, &address, b"0", SHORT), Err(CallError::Refused));
    drop(socket);
    let first = start();
    assert_eq!(call_until_answered(&runtime, &a, &address, b"1"), b"re:1");

    drop(first);
    // Whether it was sent before the end was noticed is open.
    let lost = call(&runtime, &a, &address, b"2", SHORT);
    assert!(
        matches!(lost, Err(CallError::Timeout | CallError::Refused | CallError::Unreachable)),
        "{lost:?}"
    );
    let _second = start();
    assert_eq!(call_until_answered(&runtime, &a, &address, b"3"), b"re:3");
}

#[test]
fn ten_thousand_calls_at_once_are_bounded_on_both_sides() {
    const CALLS: usize = 10_000;
    let runtime = runtime();
    let (a, b) = (link(&runtime), link(&runtime));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (Arc::clone(&now), Arc::clone(&most));
    b.serve(Arc::new(move |_, request| {
        let (now, most) = (Arc::clone(&counted), Arc::clone(&peak));
        Box::pin(async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::SeqCst);
            Some(request)
        })
    }));
    // Both connections: one that was never answered has a smaller part of the room.
    for lane in [Lane::Control, Lane::Bulk] {
        let call = a.caller().call(&address(&b), lane, b"connected".to_vec(), DEADLINE);
        assert!(runtime.block_on(call).is_ok());
    }

    let (mut answered, mut busy) = (0, 0);
    runtime.block_on(async {
        let mut calls = JoinSet::new();
        for number in 0..CALLS {
            let lane = if number % 2 == 0 { Lane::Control } else { Lane::Bulk };
            let request = number.to_le_bytes().to_vec();
            let call = a.caller().call(&address(&b), lane, request.clone(), DEADLINE);
            calls.spawn(async move { call.await.map(|answer| assert_eq!(answer, request)) });
        }
        while let Some(outcome) = calls.join_next().await {
            match outcome.unwrap() {
                Ok(()) => answered += 1,
                Err(CallError::Busy) => busy += 1,
                Err(error) => panic!("{error}"),
            }
        }
    });

    assert_eq!(answered + busy, CALLS);
    assert!(answered >= mdp_core::CALLS_PER_PEER_MAX, "{answered}");
    assert!(most.load(Ordering::SeqCst) <= mdp_core::INCOMING_CALLS_MAX, "{most:?}");
    assert!(call(&runtime, &a, &address(&b), b"after", DEADLINE).is_ok());
}

#[test]
fn used_address_is_refused_with_its_key() {
    let runtime = runtime();
    let a = link(&runtime);

    let error =
        ClusterLink::start(a.endpoint(), LIMITS, 7, runtime.handle().clone(), None).unwrap_err();

    let text = error.to_string();
    assert!(text.contains("cluster.bind") && text.contains(&address(&a)), "{text}");
}

#[test]
fn calls_fail_when_the_link_is_gone() {
    let runtime = runtime();
    let (a, b) = (link(&runtime), echoing(&runtime));
    let caller = a.caller();
    drop(a);

    let call = caller.call(&address(&b), Lane::Control, Vec::new(), DEADLINE);

    assert_eq!(runtime.block_on(call), Err(CallError::Unreachable));
}

#[test]
fn round_trip_takes_so_long() {
    const CALLS: usize = 2_000;
    let runtime = runtime();
    let (a, b) = (link(&runtime), echoing(&runtime));
    let mut times = Vec::with_capacity(CALLS);

    for _ in 0..CALLS {
        let begun = Instant::now();
        call(&runtime, &a, &address(&b), b"hello", DEADLINE).unwrap();
        times.push(begun.elapsed());
    }

    times.sort_unstable();
    until("all is counted", || a.counters().totals().answered == CALLS as u64);
    println!("one call at a time: p50 {:?}, p99 {:?}", times[CALLS / 2], times[CALLS * 99 / 100]);
    assert_eq!(a.counters().totals().timed_out, 0);
}
