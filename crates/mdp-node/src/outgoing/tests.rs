use mdp_wire::{
    ServiceName, Version,
    client::{Reply, ReplyCommand},
};

use super::*;
use crate::router::tests::{receive, request, router};

const LIMITS: OutgoingLimits = OutgoingLimits { peer_bytes_max: 16 << 20, bytes_max: 64 << 20 };
const DEADLINE: Duration = Duration::from_secs(20);
/// A peer that takes nothing for so long takes nothing until it reads.
const STAYS_FULL: Duration = Duration::from_millis(300);

fn reply(body: &[u8]) -> Outgoing<Frame> {
    Outgoing::Client(Reply {
        command: ReplyCommand::Reply,
        envelope: vec![Frame::from(b"envelope".as_slice())],
        service: ServiceName::try_from("echo").unwrap(),
        body: [Frame::from(body)].into_iter().collect(),
    })
}

fn heartbeat() -> Outgoing<Frame> {
    Outgoing::Worker { version: Version::V01, message: FromBroker::Heartbeat }
}

fn peer(name: &str) -> PeerId {
    PeerId::from(name.as_bytes())
}

/// A router, and a peer of it that has read nothing and is full.
struct FullPeer {
    _context: zmq::Context,
    router: Router,
    dealer: zmq::Socket,
    peer: PeerId,
    sent: u32,
}

impl FullPeer {
    fn new() -> Self {
        let (context, mut router) = (zmq::Context::new(), router());
        // Its side of the connection must not go on taking messages while this side calls it full.
        let dealer = context.socket(zmq::DEALER).unwrap();
        dealer.set_linger(0).unwrap();
        dealer.set_rcvhwm(1).unwrap();
        dealer.set_rcvtimeo(10_000).unwrap();
        dealer.connect(&router.endpoint().to_string()).unwrap();
        dealer.send("hello", 0).unwrap();
        let (peer, _) = receive(&mut router);
        let mut full = Self { _context: context, router, dealer, peer, sent: 0 };
        // The I/O thread goes on for a while to move messages into the peer's buffers: full is a
        // peer that stays full.
        let mut refused_since = Instant::now();
        while refused_since.elapsed() < STAYS_FULL {
            if full.fill() {
                refused_since = Instant::now();
            } else {
                std::thread::yield_now();
            }
        }
        full
    }

    /// Sends a large numbered reply; false if the peer did not take it.
    fn fill(&mut self) -> bool {
        let mut body = vec![0; 1 << 20];
        body[..4].copy_from_slice(&self.sent.to_le_bytes());
        let is_sent =
            matches!(self.router.send(&self.peer, reply(&body)).unwrap(), SendOutcome::Sent);
        self.sent += u32::from(is_sent);
        is_sent
    }
}

#[test]
fn kept_messages_of_every_size_arrive_complete_and_in_order() {
    let mut full = FullPeer::new();
    let mut outgoing = OutgoingBuffers::new(LIMITS);
    let now = Instant::now();
    let bodies: Vec<Vec<u8>> =
        (0..3_000_usize).map(|i| vec![u8::try_from(i % 251).unwrap(); i % 1_500]).collect();
    for body in &bodies {
        outgoing.keep(now, &full.peer, reply(body));
    }
    assert_eq!(outgoing.totals().messages, bodies.len());

    let deadline = Instant::now() + DEADLINE;
    let mut received = Vec::new();
    while received.len() < usize::try_from(full.sent).unwrap() + bodies.len() {
        assert!(Instant::now() < deadline, "{} arrived", received.len());
        outgoing.retry(Instant::now(), &mut full.router).unwrap();
        while let Ok(frames) = full.dealer.recv_multipart(zmq::DONTWAIT) {
            received.push(frames);
        }
    }

    let late = received.split_off(usize::try_from(full.sent).unwrap());
    for (frames, body) in late.iter().zip(&bodies) {
        assert_eq!(frames, &[b"envelope", b"".as_slice(), b"MDPC01", b"echo", body]);
    }
    assert!(outgoing.is_empty() && outgoing.next_retry().is_none());
    assert_eq!(outgoing.totals(), OutgoingTotals::default());
}

#[test]
fn full_peer_is_tried_ever_more_rarely_and_given_up_after_the_stall_time() {
    let mut full = FullPeer::new();
    let mut outgoing = OutgoingBuffers::new(LIMITS);
    let start = Instant::now();
    outgoing.keep(start, &full.peer, request(5, b"work"));

    let mut tries = 0;
    let mut now = start;
    while let Some(at) = outgoing.next_retry() {
        assert!(at > now && at - now <= RETRY_AFTER_MAX);
        now = at;
        outgoing.retry(now, &mut full.router).unwrap();
        tries += 1;
    }

    let took = now - start;
    assert!(took >= PEER_STALLED_AFTER && took < PEER_STALLED_AFTER * 11 / 10, "{took:?}");
    assert!(tries < 600, "{tries}");
    let token = Some(Token::from_bytes([5; 16]));
    let lost = LostPeer { peer: full.peer, reason: LossReason::Stalled, unsent: token };
    assert_eq!(outgoing.poll_lost(), Some(lost));
    let totals = OutgoingTotals { stalled_peers: 1, dropped_messages: 1, ..Default::default() };
    assert_eq!(outgoing.totals(), totals);
}

#[test]
fn standing_still_is_not_the_peers_fault() {
    let mut full = FullPeer::new();
    let mut outgoing = OutgoingBuffers::new(LIMITS);
    let start = Instant::now();
    outgoing.keep(start, &full.peer, reply(b"x"));

    outgoing.retry(start + PEER_STALLED_AFTER * 100, &mut full.router).unwrap();

    assert_eq!(outgoing.poll_lost(), None);
    assert!(outgoing.holds(&full.peer));
}

#[test]
fn peer_beyond_its_bound_is_given_up_with_its_unsent_request() {
    let mut outgoing = OutgoingBuffers::new(OutgoingLimits { peer_bytes_max: 10_000, ..LIMITS });
    let now = Instant::now();
    outgoing.keep(now, &peer("greedy"), request(9, b"work"));
    outgoing.keep(now, &peer("modest"), reply(b"x"));

    outgoing.keep(now, &peer("greedy"), reply(&[0; 20_000]));

    let unsent = Some(Token::from_bytes([9; 16]));
    let lost = LostPeer { peer: peer("greedy"), reason: LossReason::Overflow, unsent };
    assert_eq!((outgoing.poll_lost(), outgoing.poll_lost()), (Some(lost), None));
    assert!(!outgoing.holds(&peer("greedy")) && outgoing.holds(&peer("modest")));
    assert_eq!(outgoing.totals().overflowed_peers, 1);
    assert_eq!(outgoing.totals().dropped_messages, 2);
}

#[test]
fn one_message_may_wait_whatever_its_size() {
    let mut outgoing = OutgoingBuffers::new(OutgoingLimits { peer_bytes_max: 10, ..LIMITS });

    outgoing.keep(Instant::now(), &peer("p"), reply(&[0; 20_000]));

    assert_eq!(outgoing.poll_lost(), None);
    assert!(outgoing.holds(&peer("p")));
}

#[test]
fn greediest_peer_goes_when_all_together_are_too_much() {
    let limits = OutgoingLimits { peer_bytes_max: 1 << 20, bytes_max: 100_000 };
    let mut outgoing = OutgoingBuffers::new(limits);
    let now = Instant::now();
    for _ in 0..4 {
        outgoing.keep(now, &peer("greedy"), reply(&[0; 20_000]));
    }
    for name in ["a", "b", "c", "d", "e"] {
        outgoing.keep(now, &peer(name), reply(&[0; 5_000]));
    }

    assert_eq!(outgoing.poll_lost().map(|lost| lost.peer), Some(peer("greedy")));
    assert_eq!(outgoing.poll_lost(), None);
    assert!(outgoing.totals().bytes <= limits.bytes_max);
    assert_eq!(outgoing.totals().messages, 5);
}

#[test]
fn hundred_thousand_small_replies_fit_for_one_peer() {
    let mut outgoing = OutgoingBuffers::new(LIMITS);
    let now = Instant::now();
    for _ in 0..100_000 {
        let mut message = reply(&[1; 64]);
        if let Outgoing::Client(reply) = &mut message {
            reply.envelope.clear();
        }
        outgoing.keep(now, &peer("p"), message);
    }

    assert_eq!(outgoing.poll_lost(), None);
    assert_eq!(outgoing.totals().messages, 100_000);
}

#[test]
fn heartbeat_waits_behind_nothing() {
    let mut outgoing = OutgoingBuffers::new(LIMITS);
    let now = Instant::now();
    outgoing.keep(now, &peer("w"), heartbeat());
    outgoing.keep(now, &peer("w"), heartbeat());
    assert_eq!(outgoing.totals().messages, 1);

    outgoing.keep(now, &peer("w"), request(1, b"work"));
    outgoing.keep(now, &peer("w"), heartbeat());
    assert_eq!(outgoing.totals().messages, 2);
}

#[test]
fn peer_that_goes_away_is_lost_and_a_request_sent_before_is_not_reported() {
    let mut full = FullPeer::new();
    let mut outgoing = OutgoingBuffers::new(LIMITS);
    outgoing.keep(Instant::now(), &full.peer, reply(b"x"));
    drop(full.dealer);

    let deadline = Instant::now() + DEADLINE;
    let lost = loop {
        assert!(Instant::now() < deadline);
        // Only reading tells libzmq's socket that a full peer is gone.
        assert_eq!(full.router.receive(&mut Vec::new()).unwrap(), None);
        outgoing.retry(Instant::now(), &mut full.router).unwrap();
        if let Some(lost) = outgoing.poll_lost() {
            break lost;
        }
        // What the closing peer still had room for is no longer there to be lost with it.
        if outgoing.is_empty() {
            outgoing.keep(Instant::now(), &full.peer, reply(b"x"));
        }
    };

    assert_eq!(lost, LostPeer { peer: full.peer, reason: LossReason::Gone, unsent: None });
    assert!(outgoing.is_empty());
}
