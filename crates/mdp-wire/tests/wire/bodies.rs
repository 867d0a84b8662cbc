//! Bodies pass the decoder and the encoder without a copy.

use std::convert::Infallible;

use mdp_wire::{
    AtBroker, FrameSink, Part, Position, Token, Version,
    client::{Reply, ReplyCommand},
    worker::{FromBroker, ToBroker},
};

use crate::support::{Frames, decode, decode_from_broker, decode_reply, frames, name};

/// Where the bytes of each frame are, and which frame was said to be the last.
#[derive(Default)]
struct Addresses {
    /// Of the frames that passed unchanged.
    moved: Vec<*const u8>,
    /// How many frames the encoder made itself.
    made_count: usize,
    positions: Vec<Position>,
}

impl FrameSink<Vec<u8>> for Addresses {
    type Error = Infallible;

    fn put(&mut self, part: Part<'_, Vec<u8>>, position: Position) -> Result<(), Infallible> {
        match part {
            Part::Bytes(_) => self.made_count += 1,
            Part::Frame(frame) => self.moved.push(frame.as_ptr()),
        }
        self.positions.push(position);
        Ok(())
    }
}

impl Addresses {
    /// Exactly the final frame ends the message.
    fn assert_ends_once(&self) {
        let (last, before) = self.positions.split_last().unwrap();
        assert_eq!(*last, Position::Last);
        assert!(before.iter().all(|position| *position == Position::More));
    }
}

fn addresses(frames: &Frames) -> Vec<*const u8> {
    frames.iter().map(|frame| frame.as_ptr()).collect()
}

#[test]
fn request_body_goes_from_client_to_worker_in_place() {
    for bytes in [
        [b"".as_slice(), b"MDPC01", b"echo", b"first", b"second"],
        [b"MDPC02".as_slice(), &[0x01], b"echo", b"first", b"second"],
    ] {
        let received = frames(&bytes);
        let before = addresses(&received);
        let mut sent = Addresses::default();

        let Ok(AtBroker::Client(request)) = decode(received) else { panic!("a request") };
        let client = Token::from_bytes([7; 16]);
        FromBroker::Request { client, body: request.body }.encode(Version::V02, &mut sent).unwrap();

        assert_eq!(sent.moved, before[3..]);
        assert_eq!(sent.made_count, 4);
        sent.assert_ends_once();
    }
}

#[test]
fn reply_body_and_envelope_go_from_worker_to_client_in_place() {
    for bytes in [
        [b"".as_slice(), b"MDPW01", &[0x03], b"token", b"", b"first", b"second"].as_slice(),
        [b"MDPW02".as_slice(), &[0x04], b"token", b"", b"first", b"second"].as_slice(),
    ] {
        let received = frames(bytes);
        let before = addresses(&received);
        let envelope = frames(&[b"correlation"]);
        let envelope_at = envelope[0].as_ptr();
        let mut sent = Addresses::default();

        let Ok(AtBroker::Worker { message: ToBroker::Final { body, .. }, .. }) = decode(received)
        else {
            panic!("a reply")
        };
        let service = name("echo");
        Reply { command: ReplyCommand::Reply, envelope, service, body }.encode(&mut sent).unwrap();

        let [.., first, second] = before[..] else { panic!("two body frames") };
        assert_eq!(sent.moved, [envelope_at, first, second]);
        assert_eq!(sent.made_count, 3);
        sent.assert_ends_once();
    }
}

#[test]
fn request_body_reaches_the_worker_library_in_place() {
    let received = frames(&[b"MDPW02", &[0x02], b"token", b"", b"first", b"second"]);
    let before = addresses(&received);

    let Ok((_, FromBroker::Request { client, body })) = decode_from_broker(received) else {
        panic!("a request")
    };

    assert_eq!(client.as_ptr(), before[2]);
    assert_eq!(body.iter().map(|frame| frame.as_ptr()).collect::<Vec<_>>(), before[4..]);
}

#[test]
fn reply_body_reaches_the_client_library_in_place() {
    let received = frames(&[b"id", b"", b"MDPC01", b"echo", b"first", b"second"]);
    let before = addresses(&received);

    let reply = decode_reply(received).unwrap();

    let service = reply.service.into_frame();
    assert_eq!(reply.envelope[0].as_ptr(), before[0]);
    assert_eq!(service.as_ptr(), before[3]);
    assert_eq!(reply.body.iter().map(|frame| frame.as_ptr()).collect::<Vec<_>>(), before[4..]);
}

#[test]
fn the_vector_keeps_its_capacity_for_the_next_message() {
    let mut received = frames(&[b"MDPW02", &[0x05]]);
    received.reserve(64);
    let capacity = received.capacity();

    mdp_wire::decode_at_broker(&mut received, &mdp_wire::DecodeLimits::default()).unwrap();

    assert_eq!((received.len(), received.capacity()), (0, capacity));
}
