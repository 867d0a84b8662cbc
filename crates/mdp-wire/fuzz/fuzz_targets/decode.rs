//! Arbitrary frames never stop a decoder, and what a decoder accepts survives a round trip.
//!
//! With `cargo install cargo-fuzz` (0.13), from the folder `crates/mdp-wire`:
//!
//! ```text
//! cargo fuzz run --sanitizer none decode                            # until a crash or ctrl-c
//! cargo fuzz run --sanitizer none decode -- -max_total_time=60     # a minute
//! cargo fuzz run --sanitizer none decode fuzz/artifacts/decode/... # one crash again
//! ```
//!
//! Without a sanitizer the stable compiler is enough; the crate has no unsafe code to watch.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mdp_wire::{
    AtBroker, DecodeLimits, ServiceName, Version,
    client::{Reply, Request},
    decode_at_broker,
    relay::{AtOrigin, AtOwner, Forward, ToOwner, WIRE},
    worker::{FromBroker, ToBroker},
};

type Frames = Vec<Vec<u8>>;

/// Small limits, so that the fuzzer reaches them.
const LIMITS: DecodeLimits =
    DecodeLimits { frames_max: 16, message_bytes_max: 2_048, envelope_frames_max: 4 };

/// Frame by frame: a tag byte chooses one of the frames that mean something, or says how many of
/// the following bytes are a frame. Without the tags a fuzzer hardly ever finds a header.
fn frames_of(mut data: &[u8]) -> Frames {
    let mut frames = Frames::new();
    while let Some((tag, rest)) = data.split_first() {
        let length = match tag {
            0..=4 => 0,
            5..=7 => 1,
            more => usize::from(*more),
        };
        let (bytes, rest) = rest.split_at(rest.len().min(length));
        let frame: &[u8] = match tag {
            1 => b"MDPC01",
            2 => b"MDPW01",
            3 => b"MDPC02",
            4 => b"MDPW02",
            _ => bytes,
        };
        frames.push(frame.to_vec());
        data = rest;
    }
    frames
}

fn owned(name: &impl AsRef<[u8]>) -> ServiceName {
    ServiceName::try_from(name.as_ref()).expect("the decoder checked it")
}

fn encode(decoded: AtBroker<Vec<u8>>) -> Frames {
    let mut encoded = Frames::new();
    match decoded {
        AtBroker::Client(Request { version, envelope, service, body }) => {
            let request = Request { version, envelope, service: owned(&service), body };
            request.encode(&mut encoded).expect("a vector takes everything");
        }
        AtBroker::Worker { version, message } => {
            let message = match message {
                ToBroker::Ready { service } => ToBroker::Ready { service: owned(&service) },
                ToBroker::Partial { client, body } => ToBroker::Partial { client, body },
                ToBroker::Final { client, body } => ToBroker::Final { client, body },
                ToBroker::Undelimited { client, body } => ToBroker::Undelimited { client, body },
                ToBroker::Heartbeat => ToBroker::Heartbeat,
                ToBroker::Disconnect => ToBroker::Disconnect,
                ToBroker::Request => ToBroker::Request,
            };
            message.encode(version, &mut encoded).expect("PARTIAL was decoded from 0.2 only");
        }
    }
    encoded
}

fn check_at_broker(mut frames: Frames) {
    let decoded = decode_at_broker(&mut frames, &LIMITS);
    assert!(frames.is_empty());
    if let Ok(message) = decoded {
        let mut again = encode(message.clone());
        assert_eq!(decode_at_broker(&mut again, &LIMITS), Ok(message));
    }
}

fn check_reply(mut frames: Frames) {
    let decoded = Reply::decode(&mut frames);
    assert!(frames.is_empty());
    if let Ok(reply) = decoded {
        let mut again = Frames::new();
        reply.clone().encode(&mut again).expect("a vector takes everything");
        assert_eq!(Reply::decode(&mut again), Ok(reply));
    }
}

fn check_from_broker(mut frames: Frames) {
    let decoded: Result<(Version, FromBroker<Vec<u8>, Vec<u8>>), _> =
        FromBroker::decode(&mut frames);
    assert!(frames.is_empty());
    if let Ok((version, message)) = decoded {
        let mut again = Frames::new();
        message.clone().encode(version, &mut again).expect("a vector takes everything");
        assert_eq!(FromBroker::decode(&mut again), Ok((version, message)));
    }
}

/// The time to live of a request is the same behind a round trip: it comes in milliseconds.
fn check_at_owner(mut frames: Frames) {
    let decoded = AtOwner::decode(WIRE, &mut frames);
    assert!(frames.is_empty());
    let Ok(AtOwner::Message(message)) = decoded else { return };
    let sent = match message.clone() {
        ToOwner::Forward(Forward { id, client, ttl, service, body }) => {
            ToOwner::Forward(Forward { id, client, ttl, service: owned(&service), body })
        }
        ToOwner::Cancel(id) => ToOwner::Cancel(id),
    };
    let mut again = Frames::new();
    sent.encode(WIRE.max, &mut again).expect("a vector takes everything");
    assert_eq!(AtOwner::decode(WIRE, &mut again), Ok(AtOwner::Message(message)));
}

fn check_at_origin(mut frames: Frames) {
    let decoded = AtOrigin::decode(WIRE, &mut frames);
    assert!(frames.is_empty());
    if let Ok(AtOrigin::Message(message)) = decoded {
        let mut again = Frames::new();
        message.clone().encode(WIRE.max, &mut again).expect("a vector takes everything");
        assert_eq!(AtOrigin::decode(WIRE, &mut again), Ok(AtOrigin::Message(message)));
    }
}

fuzz_target!(|data: &[u8]| {
    let frames = frames_of(data);
    check_at_owner(frames.clone());
    check_at_origin(frames.clone());
    check_at_broker(frames.clone());
    check_reply(frames.clone());
    check_from_broker(frames);
});
