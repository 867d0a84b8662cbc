//! What nodes tell each other: arbitrary heads never stop a decoder, and what a decoder accepts,
//! greetings too, survives a round trip. See `decode` for how to run it, with `relay` in its place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mdp_wire::{
    ServiceName,
    relay::{AtOrigin, AtOwner, Forward, ToOwner, WIRE, encode_bye, encode_ping},
};

type Frames = Vec<Vec<u8>>;

/// The kinds of messages on a link are numbered from here to `KIND_MAX`.
const KIND_MIN: u8 = 11;
const KIND_MAX: u8 = 20;

/// The first byte chooses the kind, one in four as it is; the format is the right one. Without
/// that a fuzzer hardly ever gets behind the head. The second byte is the number of bytes of the
/// head, 255 for all, and the rest is split into frames of a length in front of each.
fn frames_of(data: &[u8]) -> Frames {
    let [kind, length, rest @ ..] = data else { return vec![data.to_vec()] };
    let kind = if kind % 4 == 0 { *kind } else { KIND_MIN + kind % (KIND_MAX - KIND_MIN + 1) };
    let length = if *length == u8::MAX { rest.len() } else { usize::from(*length) };
    let (head, mut rest) = rest.split_at(length.min(rest.len()));
    let mut frames = vec![[&[kind, 1, 0], head].concat()];
    while let Some((length, more)) = rest.split_first() {
        let (frame, more) = more.split_at(usize::from(*length).min(more.len()));
        frames.push(frame.to_vec());
        rest = more;
    }
    frames
}

/// The time to live of a request is the same behind a round trip: it comes in milliseconds.
fn check_at_owner(mut frames: Frames) {
    let decoded = AtOwner::decode(WIRE, &mut frames);
    assert!(frames.is_empty());
    let mut again = Frames::new();
    match decoded.clone() {
        Err(_) => return,
        Ok(AtOwner::Hello(hello)) => {
            hello.encode::<Vec<u8>, _>(&mut again).expect("a vector takes everything");
        }
        Ok(AtOwner::Message(ToOwner::Cancel(id))) => {
            ToOwner::<ServiceName, Vec<u8>>::Cancel(id)
                .encode(WIRE.max, &mut again)
                .expect("a vector takes everything");
        }
        Ok(AtOwner::Message(ToOwner::Forward(forward))) => {
            let Forward { id, client, ttl, service, body } = forward;
            let service = ServiceName::try_from(service.as_ref()).expect("the decoder checked it");
            ToOwner::Forward(Forward { id, client, ttl, service, body })
                .encode(WIRE.max, &mut again)
                .expect("a vector takes everything");
        }
    }
    assert_eq!(AtOwner::decode(WIRE, &mut again), decoded);
}

fn check_at_origin(mut frames: Frames) {
    let decoded = AtOrigin::decode(WIRE, &mut frames);
    assert!(frames.is_empty());
    let mut again = Frames::new();
    match decoded.clone() {
        Err(_) => return,
        Ok(AtOrigin::Welcome(welcome)) => welcome.encode::<Vec<u8>, _>(&mut again),
        Ok(AtOrigin::Refusal(refusal)) => refusal.encode::<Vec<u8>, _>(&mut again),
        Ok(AtOrigin::Message(message)) => message.encode(WIRE.max, &mut again),
        Ok(AtOrigin::Ping) => encode_ping::<Vec<u8>, _>(WIRE.max, &mut again),
        Ok(AtOrigin::Bye) => encode_bye::<Vec<u8>, _>(WIRE.max, &mut again),
    }
    .expect("a vector takes everything");
    assert_eq!(AtOrigin::decode(WIRE, &mut again), decoded);
}

fuzz_target!(|data: &[u8]| {
    let frames = frames_of(data);
    check_at_owner(frames.clone());
    check_at_origin(frames);
});
