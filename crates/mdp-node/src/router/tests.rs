use std::time::{Duration, Instant};

use mdp_wire::{Version, worker::FromBroker};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

/// A bound router.
pub(crate) fn router() -> Router {
    router_with(DecodeLimits::default())
}

fn router_with(limits: DecodeLimits) -> Router {
    let context = Arc::new(Context::new(1).unwrap());
    Router::bind(&context, &"127.0.0.1:0".parse().unwrap(), limits, IoThreads::ANY).unwrap()
}

/// A DEALER that is connected to the router.
pub(crate) fn dealer(context: &zmq::Context, router: &Router) -> zmq::Socket {
    let dealer = context.socket(zmq::DEALER).unwrap();
    dealer.set_linger(0).unwrap();
    dealer.set_rcvtimeo(10_000).unwrap();
    dealer.connect(&router.endpoint().to_string()).unwrap();
    dealer
}

/// Waits for the next message.
pub(crate) fn receive(router: &mut Router) -> (PeerId, Vec<Frame>) {
    let deadline = Instant::now() + DEADLINE;
    let mut frames = Vec::new();
    loop {
        if let Some(peer) = router.receive(&mut frames).unwrap() {
            return (peer, frames);
        }
        assert!(Instant::now() < deadline, "nothing came");
        let descriptor = router.descriptor().unwrap();
        let mut descriptors = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        poll(&mut descriptors, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).unwrap();
    }
}

pub(crate) fn request(token: u8, body: &[u8]) -> Outgoing<Frame> {
    Outgoing::Worker {
        version: Version::V01,
        message: FromBroker::Request {
            client: mdp_wire::Token::from_bytes([token; 16]),
            body: [Frame::from(body)].into_iter().collect(),
        },
    }
}

#[test]
fn frames_of_every_size_pass_unchanged_and_outlive_their_clones() {
    let (context, mut router) = (zmq::Context::new(), router());
    let dealer = dealer(&context, &router);
    for size in [0, 1, 29, 30, 33, 34, 64, 8_192, 16 * 1024, 1 << 20] {
        let bytes: Vec<u8> = (0..size).map(|i: usize| u8::try_from(i % 251).unwrap()).collect();
        dealer.send_multipart([b"first", bytes.as_slice()], 0).unwrap();

        let (peer, frames) = receive(&mut router);
        let kept: Vec<Frame> = frames.clone();
        let [_, body] = <[Frame; 2]>::try_from(frames).unwrap();
        let back = Outgoing::Worker {
            version: Version::V02,
            message: FromBroker::Request {
                client: mdp_wire::Token::from_bytes([7; 16]),
                body: [body].into_iter().collect(),
            },
        };
        assert!(matches!(router.send(&peer, back).unwrap(), SendOutcome::Sent));

        let expected: Vec<&[u8]> = vec![b"MDPW02", b"\x02", &[7; 16], b"", &bytes];
        assert_eq!(dealer.recv_multipart(0).unwrap(), expected);
        assert_eq!(kept.iter().map(Frame::as_ref).collect::<Vec<_>>(), [b"first", &*bytes]);
    }
}

#[test]
fn peer_address_is_known_from_the_second_frame_on() {
    let (context, mut router) = (zmq::Context::new(), router());
    let dealer = dealer(&context, &router);
    dealer.send_multipart(["", "MDPW01"], 0).unwrap();

    let (_, frames) = receive(&mut router);

    let local = Some("127.0.0.1".parse().unwrap());
    assert_eq!(frames.iter().map(Frame::peer_address).collect::<Vec<_>>(), [local, local]);
    assert_eq!(frames[1].clone().peer_address(), local);
    assert_eq!(Frame::from(b"ours".as_slice()).peer_address(), None);
}

#[test]
fn message_beyond_the_limits_is_kept_only_so_far_that_the_decoder_sees_it() {
    let limits = DecodeLimits { frames_max: 10, message_bytes_max: 1_000, envelope_frames_max: 8 };
    let (context, mut router) = (zmq::Context::new(), router_with(limits));
    let dealer = dealer(&context, &router);

    dealer.send_multipart(vec!["x"; 5_000], 0).unwrap();
    dealer.send_multipart(vec![vec![b'x'; 300]; 9], 0).unwrap();
    dealer.send_multipart(["", "next"], 0).unwrap();

    assert_eq!(receive(&mut router).1.len(), limits.frames_max + 1);
    assert_eq!(receive(&mut router).1.len(), 4);
    assert_eq!(receive(&mut router).1.len(), 2);
}

#[test]
fn unknown_peer_is_gone_and_the_message_comes_back() {
    let mut router = router();

    let outcome = router.send(&PeerId::from(b"nobody".as_slice()), request(1, b"body")).unwrap();

    let SendOutcome::Gone(message) = outcome else { panic!("{outcome:?}") };
    assert_eq!(message, request(1, b"body"));
}

#[test]
fn peer_that_reads_nothing_is_full_and_the_message_comes_back() {
    let (context, mut router) = (zmq::Context::new(), router());
    let dealer = dealer(&context, &router);
    dealer.send("hello", 0).unwrap();
    let (peer, _) = receive(&mut router);

    let body = vec![0; 1 << 20];
    let outcome = (0..1_000).map(|_| router.send(&peer, request(1, &body)).unwrap());
    let full = outcome.into_iter().find(|outcome| !matches!(outcome, SendOutcome::Sent));

    let Some(SendOutcome::Full(message)) = full else { panic!("{full:?}") };
    assert_eq!(message, request(1, &body));
}

#[test]
fn address_in_use_and_foreign_address_are_told_apart() {
    let router = router();
    let bind = |endpoint: &Endpoint| {
        let context = Arc::new(Context::new(1).unwrap());
        Router::bind(&context, endpoint, DecodeLimits::default(), IoThreads::ANY).unwrap_err()
    };

    let in_use = bind(router.endpoint());
    assert!(matches!(in_use, BindError::AddressInUse { .. }), "{in_use}");
    assert!(in_use.to_string().starts_with("broker.bind = \"tcp://127.0.0.1:"), "{in_use}");

    let foreign = bind(&"192.0.2.1:5555".parse().unwrap());
    assert!(matches!(foreign, BindError::Refused { .. }), "{foreign}");
    let unknown = bind(&"nosuchif:5555".parse().unwrap());
    assert!(matches!(unknown, BindError::Refused { .. }), "{unknown}");
}

#[test]
fn ipv6_is_bound_if_asked_for() {
    let context = Arc::new(Context::new(1).unwrap());
    match Router::bind(
        &context,
        &"[::1]:*".parse().unwrap(),
        DecodeLimits::default(),
        IoThreads::ANY,
    ) {
        Ok(router) => {
            assert!(router.endpoint().is_ipv6() && router.endpoint().port() != 0);
            let peers = zmq::Context::new();
            let peer = peers.socket(zmq::DEALER).unwrap();
            peer.set_ipv6(true).unwrap();
            peer.connect(&router.endpoint().to_string()).unwrap();
            peer.send_multipart(["", "x"], 0).unwrap();
            let (mut router, loopback) = (router, Some("::1".parse().unwrap()));
            assert_eq!(receive(&mut router).1[1].peer_address(), loopback);
        }
        // A machine without IPv6 says so by name.
        Err(error) => assert!(error.to_string().contains("broker.bind = \"tcp://[::1]:0\"")),
    }
}
