//! Every layout of both versions in both directions, as bytes.

use mdp_wire::{
    AtBroker, EncodeError, Version,
    client::{Reply, ReplyCommand, Request},
    worker::{FromBroker, ToBroker},
};
use smallvec::smallvec;

use crate::support::{
    Frames, NameFrame, ToWorker, decode, decode_from_broker, decode_reply, frames, from_worker,
    name, name_frame,
};

/// The bytes of a client's REQUEST and what they mean.
fn assert_request(version: Version, envelope: &[&[u8]], bytes: &[&[u8]]) {
    let (envelope, body) = (frames(envelope), frames(&[b"a", b"b"]));
    let sent = Request {
        version,
        envelope: envelope.clone(),
        service: name("echo"),
        body: body.clone().into(),
    };
    let received = Request { version, envelope, service: name_frame("echo"), body: body.into() };

    let mut encoded = Frames::new();
    sent.encode(&mut encoded).unwrap();

    assert_eq!(encoded, frames(bytes));
    assert_eq!(decode(encoded), Ok(AtBroker::Client(received)));
}

/// The bytes of a reply to a client and what they mean.
fn assert_reply(command: ReplyCommand, envelope: &[&[u8]], bytes: &[&[u8]]) {
    let (envelope, body) = (frames(envelope), frames(&[b"a", b"b"]));
    let sent = Reply {
        command,
        envelope: envelope.clone(),
        service: name("echo"),
        body: body.clone().into(),
    };
    let received = Reply { command, envelope, service: name_frame("echo"), body: body.into() };

    let mut encoded = Frames::new();
    sent.encode(&mut encoded).unwrap();

    assert_eq!(encoded, frames(bytes));
    assert_eq!(decode_reply(encoded), Ok(received));
}

/// The bytes of a worker's command and what they mean.
fn assert_to_broker(
    version: Version,
    sent: ToBroker<mdp_wire::ServiceName, Vec<u8>>,
    received: ToBroker<NameFrame, Vec<u8>>,
    bytes: &[&[u8]],
) {
    let mut encoded = Frames::new();
    sent.encode(version, &mut encoded).unwrap();

    assert_eq!(encoded, frames(bytes));
    assert_eq!(decode(encoded), Ok(from_worker(version, received)));
}

/// The bytes of a command to a worker and what they mean.
fn assert_from_broker(version: Version, message: ToWorker, bytes: &[&[u8]]) {
    let mut encoded = Frames::new();
    message.clone().encode(version, &mut encoded).unwrap();

    assert_eq!(encoded, frames(bytes));
    assert_eq!(decode_from_broker(encoded), Ok((version, message)));
}

#[test]
fn headers_are_six_ascii_bytes() {
    assert_eq!(Version::V01.client_header(), &[0x4D, 0x44, 0x50, 0x43, 0x30, 0x31]);
    assert_eq!(Version::V01.worker_header(), &[0x4D, 0x44, 0x50, 0x57, 0x30, 0x31]);
    assert_eq!(Version::V02.client_header(), &[0x4D, 0x44, 0x50, 0x43, 0x30, 0x32]);
    assert_eq!(Version::V02.worker_header(), &[0x4D, 0x44, 0x50, 0x57, 0x30, 0x32]);
}

#[test]
fn request_01_is_empty_header_service_body() {
    assert_request(Version::V01, &[], &[b"", b"MDPC01", b"echo", b"a", b"b"]);
}

#[test]
fn request_01_keeps_the_frames_before_the_delimiter() {
    // AM-12: REQ_CORRELATE puts four bytes there, each proxy one more frame.
    assert_request(
        Version::V01,
        &[b"proxy", &[0, 0, 0, 7]],
        &[b"proxy", &[0, 0, 0, 7], b"", b"MDPC01", b"echo", b"a", b"b"],
    );
}

#[test]
fn request_02_is_header_command_service_body() {
    assert_request(Version::V02, &[], &[b"MDPC02", &[0x01], b"echo", b"a", b"b"]);
}

#[test]
fn reply_01_is_empty_header_service_body() {
    assert_reply(ReplyCommand::Reply, &[], &[b"", b"MDPC01", b"echo", b"a", b"b"]);
}

#[test]
fn reply_01_gives_the_envelope_back() {
    assert_reply(
        ReplyCommand::Reply,
        &[&[0, 0, 0, 7]],
        &[&[0, 0, 0, 7], b"", b"MDPC01", b"echo", b"a", b"b"],
    );
}

#[test]
fn partial_and_final_to_a_02_client_are_commands_2_and_3() {
    assert_reply(ReplyCommand::Partial, &[], &[b"MDPC02", &[0x02], b"echo", b"a", b"b"]);
    assert_reply(ReplyCommand::Final, &[], &[b"MDPC02", &[0x03], b"echo", b"a", b"b"]);
}

#[test]
fn the_last_reply_is_reply_in_01_and_final_in_02() {
    assert_eq!(ReplyCommand::last(Version::V01), ReplyCommand::Reply);
    assert_eq!(ReplyCommand::last(Version::V02), ReplyCommand::Final);
}

#[test]
fn ready_is_command_1_and_the_service() {
    let sent = || ToBroker::Ready { service: name("echo") };
    let received = || ToBroker::Ready { service: name_frame("echo") };

    let v01: &[&[u8]] = &[b"", b"MDPW01", &[0x01], b"echo"];
    let v02: &[&[u8]] = &[b"MDPW02", &[0x01], b"echo"];

    assert_to_broker(Version::V01, sent(), received(), v01);
    assert_to_broker(Version::V02, sent(), received(), v02);
}

#[test]
fn request_to_a_worker_is_command_2_address_empty_body() {
    let request =
        || FromBroker::Request { client: b"token".to_vec(), body: frames(&[b"a", b"b"]).into() };

    let v01: &[&[u8]] = &[b"", b"MDPW01", &[0x02], b"token", b"", b"a", b"b"];
    let v02: &[&[u8]] = &[b"MDPW02", &[0x02], b"token", b"", b"a", b"b"];

    assert_from_broker(Version::V01, request(), v01);
    assert_from_broker(Version::V02, request(), v02);
}

#[test]
fn reply_of_a_01_worker_is_command_3_address_empty_body() {
    let body = || frames(&[b"a", b"b"]).into();
    let sent = ToBroker::Final { client: b"token".to_vec(), body: body() };
    let received = ToBroker::Final { client: b"token".to_vec(), body: body() };

    let v01: &[&[u8]] = &[b"", b"MDPW01", &[0x03], b"token", b"", b"a", b"b"];

    assert_to_broker(Version::V01, sent, received, v01);
}

#[test]
fn partial_of_a_02_worker_is_command_3_address_empty_body() {
    let sent = ToBroker::Partial { client: b"token".to_vec(), body: smallvec![b"a".to_vec()] };
    let received = ToBroker::Partial { client: b"token".to_vec(), body: smallvec![b"a".to_vec()] };

    let v02: &[&[u8]] = &[b"MDPW02", &[0x03], b"token", b"", b"a"];

    assert_to_broker(Version::V02, sent, received, v02);
}

#[test]
fn final_of_a_02_worker_is_command_4_address_empty_body() {
    let sent = ToBroker::Final { client: b"token".to_vec(), body: smallvec![b"a".to_vec()] };
    let received = ToBroker::Final { client: b"token".to_vec(), body: smallvec![b"a".to_vec()] };

    let v02: &[&[u8]] = &[b"MDPW02", &[0x04], b"token", b"", b"a"];

    assert_to_broker(Version::V02, sent, received, v02);
}

#[test]
fn partial_cannot_be_said_in_01() {
    let partial: ToBroker<mdp_wire::ServiceName, Vec<u8>> =
        ToBroker::Partial { client: b"token".to_vec(), body: smallvec![b"a".to_vec()] };

    let mut encoded = Frames::new();
    let outcome = partial.encode(Version::V01, &mut encoded);

    assert_eq!(outcome, Err(EncodeError::PartialIn01));
    assert!(encoded.is_empty());
}

#[test]
fn heartbeat_is_command_4_in_01_and_5_in_02() {
    let v01: &[&[u8]] = &[b"", b"MDPW01", &[0x04]];
    let v02: &[&[u8]] = &[b"MDPW02", &[0x05]];

    assert_to_broker(Version::V01, ToBroker::Heartbeat, ToBroker::Heartbeat, v01);
    assert_to_broker(Version::V02, ToBroker::Heartbeat, ToBroker::Heartbeat, v02);
    assert_from_broker(Version::V01, FromBroker::Heartbeat, v01);
    assert_from_broker(Version::V02, FromBroker::Heartbeat, v02);
}

#[test]
fn disconnect_is_command_5_in_01_and_6_in_02() {
    let v01: &[&[u8]] = &[b"", b"MDPW01", &[0x05]];
    let v02: &[&[u8]] = &[b"MDPW02", &[0x06]];

    assert_to_broker(Version::V01, ToBroker::Disconnect, ToBroker::Disconnect, v01);
    assert_to_broker(Version::V02, ToBroker::Disconnect, ToBroker::Disconnect, v02);
    assert_from_broker(Version::V01, FromBroker::Disconnect, v01);
    assert_from_broker(Version::V02, FromBroker::Disconnect, v02);
}

#[test]
fn request_from_a_worker_is_known_whatever_follows_its_command() {
    // AM-01: well-formed and never expected, so the broker must see that it is one.
    let v01 = frames(&[b"", b"MDPW01", &[0x02], b"token", b"", b"a"]);
    let v02 = frames(&[b"MDPW02", &[0x02]]);

    assert_eq!(decode(v01), Ok(from_worker(Version::V01, ToBroker::Request)));
    assert_eq!(decode(v02), Ok(from_worker(Version::V02, ToBroker::Request)));
}

#[test]
fn mmi_answer_is_a_client_reply_with_the_code_as_body() {
    let answer = |command| Reply {
        command,
        envelope: Frames::new(),
        service: name("mmi.service"),
        body: smallvec![b"200".to_vec()],
    };

    let (mut v01, mut v02) = (Frames::new(), Frames::new());
    answer(ReplyCommand::Reply).encode(&mut v01).unwrap();
    answer(ReplyCommand::Final).encode(&mut v02).unwrap();

    assert_eq!(v01, frames(&[b"", b"MDPC01", b"mmi.service", b"200"]));
    assert_eq!(v02, frames(&[b"MDPC02", &[0x03], b"mmi.service", b"200"]));
}

#[test]
fn an_empty_body_is_sent_as_one_empty_frame() {
    // Every layout has at least one body frame.
    let reply: Reply<_, Vec<u8>> = Reply {
        command: ReplyCommand::Final,
        envelope: Frames::new(),
        service: name("echo"),
        body: smallvec![],
    };

    let mut encoded = Frames::new();
    reply.encode(&mut encoded).unwrap();

    assert_eq!(encoded, frames(&[b"MDPC02", &[0x03], b"echo", b""]));
}
