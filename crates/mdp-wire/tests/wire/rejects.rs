//! Every reason for a rejection, with the smallest message that causes it.

use std::collections::BTreeSet;

use mdp_wire::{
    AtBroker, Body, DecodeError, DecodeLimits, Defect, SERVICE_NAME_BYTES_MAX, Token, Version,
    worker::ToBroker,
};

use crate::support::{
    bad_ready, decode, decode_from_broker, decode_reply, decode_within, frames, from_worker,
    malformed,
};

const LONG_NAME: &[u8] = &[b'x'; SERVICE_NAME_BYTES_MAX + 1];

fn assert_malformed(bytes: &[&[u8]], defect: Defect) {
    assert_eq!(decode(frames(bytes)), malformed(defect), "{bytes:?}");
}

#[test]
fn too_few_frames() {
    let messages: [&[&[u8]]; 15] = [
        &[],
        &[b""],
        &[b"", b"MDPC01"],
        &[b"", b"MDPC01", b"echo"], // AM-02: a request without body
        &[b"id", b"", b"MDPC01", b"echo"],
        &[b"", b"MDPW01"],
        &[b"", b"MDPW01", &[0x03]],
        &[b"MDPC02"],
        &[b"MDPC02", &[0x01]],
        &[b"MDPC02", &[0x01], b"echo"],
        &[b"MDPW02"],
        &[b"MDPW02", &[0x03], b"token", b""],
        &[b"MDPW02", &[0x04]],
        &[b"MDPW02", &[0x04], b"token"],
        &[b"MDPW02", &[0x04], b"token", b""], // AM-03: a reply without body
    ];
    for message in messages {
        assert_malformed(message, Defect::TooFewFrames);
    }
}

#[test]
fn too_many_frames_for_the_limit() {
    let limits = DecodeLimits { frames_max: 4, ..DecodeLimits::default() };
    let of = |count: usize| {
        let mut message = frames(&[b"", b"MDPC01", b"echo"]);
        message.resize(count, b"a".to_vec());
        message
    };

    assert!(decode_within(of(4), &limits).is_ok());
    assert_eq!(decode_within(of(5), &limits), malformed(Defect::TooManyFrames));
}

#[test]
fn too_large_counts_the_sum_of_all_frames() {
    let message = || frames(&[b"", b"MDPC01", b"echo", &[b'a'; 50], &[b'b'; 40]]);
    let limit = |message_bytes_max| DecodeLimits { message_bytes_max, ..DecodeLimits::default() };

    assert!(decode_within(message(), &limit(100)).is_ok());
    assert_eq!(decode_within(message(), &limit(99)), malformed(Defect::TooLarge));
}

#[test]
fn no_delimiter() {
    assert_malformed(&[b"x"], Defect::NoDelimiter);
    assert_malformed(&[b"MDPC01", b"echo", b"a"], Defect::NoDelimiter);
    // pyzmq-mdp's DISCONNECT lacks the empty frame.
    assert_malformed(&[b"MDPW01", &[0x05]], Defect::NoDelimiter);
    // Arbitrary TCP bytes can surface as one or two frames.
    assert_malformed(&[&[0xFF, 0x00], &[0x7F]], Defect::NoDelimiter);
}

#[test]
fn envelope_has_a_limit() {
    let limits = DecodeLimits { envelope_frames_max: 2, ..DecodeLimits::default() };
    let two = frames(&[b"1", b"2", b"", b"MDPC01", b"echo", b"a"]);
    let three = frames(&[b"1", b"2", b"3", b"", b"MDPC01", b"echo", b"a"]);

    let Ok(AtBroker::Client(request)) = decode_within(two, &limits) else { panic!("a request") };
    assert_eq!(request.envelope, frames(&[b"1", b"2"]));
    assert_eq!(decode_within(three, &limits), malformed(Defect::NoDelimiter));
}

#[test]
fn envelope_in_front_of_a_worker_command() {
    // MDP7-24: a worker is one DEALER, so nothing can stand before its delimiter.
    assert_malformed(&[b"id", b"", b"MDPW01", &[0x04]], Defect::WorkerEnvelope);
    assert_malformed(&[b"id", b"", b"MDPW01", &[0x01], b"echo"], Defect::WorkerEnvelope);
}

#[test]
fn unknown_header() {
    let headers: [&[u8]; 9] = [
        b"",
        b"MDPC0",
        b"MDPC011",
        b"mdpc01",
        b"MDPC03",
        b"MDPW03",
        b"MDPX01",
        b"MDPC01\0",
        b"MDPW01 ",
    ];
    for header in headers {
        assert_malformed(&[b"", header, b"echo", b"a"], Defect::UnknownHeader);
    }
}

#[test]
fn unknown_command() {
    for command in [&[0x00][..], &[0x06], &[0xFF], &[], &[0x01, 0x01], b"READY"] {
        assert_malformed(&[b"", b"MDPW01", command, b"token", b"", b"a"], Defect::UnknownCommand);
    }
    for command in [&[0x00][..], &[0x07], &[0xFF], &[], &[0x04, 0x00]] {
        assert_malformed(&[b"MDPW02", command, b"token", b"", b"a"], Defect::UnknownCommand);
    }
    for command in [&[0x00][..], &[0x02], &[0x03], &[0x04], &[], &[0x01, 0x00]] {
        assert_malformed(&[b"MDPC02", command, b"echo", b"a"], Defect::UnknownCommand);
    }
}

#[test]
fn no_empty_frame_after_the_client_address() {
    // 0.1 takes it as meant (AM-21).
    let partial: &[&[u8]] = &[b"MDPW02", &[0x03], b"token", b"x", b"a"];
    let last: &[&[u8]] = &[b"MDPW02", &[0x04], b"token", b"more", b"", b"a"];

    for message in [partial, last] {
        assert_malformed(message, Defect::NoAddressDelimiter);
    }
}

#[test]
fn reply_of_0_1_is_taken_as_meant_whatever_it_lacks_behind_the_address() {
    // AM-21. What the Guide's PHP worker sends is the first; the last lacks nothing.
    let undelimited = |body: &[&[u8]]| ToBroker::Undelimited {
        client: b"token".to_vec(),
        body: Body::from(frames(body)),
    };
    let delimited = |body: &[&[u8]]| ToBroker::Final {
        client: b"token".to_vec(),
        body: Body::from(frames(body)),
    };
    let cases: [(&[&[u8]], _); 6] = [
        (&[b"a"], undelimited(&[b"a"])),
        (&[b"a", b"", b"b"], undelimited(&[b"a", b"", b"b"])),
        (&[b""], undelimited(&[b""])),
        (&[], undelimited(&[])),
        (&[b"", b""], delimited(&[b""])),
        (&[b"", b"a", b"b"], delimited(&[b"a", b"b"])),
    ];
    for (rest, expected) in cases {
        let message = [&[b"".as_slice(), b"MDPW01", &[0x03], b"token"], rest].concat();
        assert_eq!(decode(frames(&message)), Ok(from_worker(Version::V01, expected)), "{rest:?}");
    }
}

#[test]
fn answer_that_cannot_be_read_names_its_request() {
    // AM-21: an address of 16 bytes may be the token of the request that the worker has.
    const TOKEN: &[u8] = b"sixteen bytes ok";
    let address = Token::from_frame(TOKEN).unwrap();
    let limits = DecodeLimits { frames_max: 6, message_bytes_max: 64, ..DecodeLimits::default() };
    let large: &[u8] = &[b'x'; 65];
    let cases: [(&[&[u8]], Defect); 9] = [
        (&[b"MDPW02", &[0x04], TOKEN], Defect::TooFewFrames),
        (&[b"MDPW02", &[0x04], TOKEN, b""], Defect::TooFewFrames),
        (&[b"MDPW02", &[0x03], TOKEN, b"x"], Defect::TooFewFrames),
        (&[b"MDPW02", &[0x03], TOKEN, b"x", b"a"], Defect::NoAddressDelimiter),
        (&[b"MDPW02", &[0x04], TOKEN, b"x", b"a"], Defect::NoAddressDelimiter),
        (&[b"MDPW02", &[0x04], TOKEN, b"", large], Defect::TooLarge),
        (&[b"", b"MDPW01", &[0x03], TOKEN, b"", large], Defect::TooLarge),
        (&[b"", b"MDPW01", &[0x03], TOKEN, b"", b"a", b"b"], Defect::TooManyFrames),
        (&[b"MDPW02", &[0x03], TOKEN, b"", b"a", b"b", b"c"], Defect::TooManyFrames),
    ];
    for (message, defect) in cases {
        let expected = Err(DecodeError::BadAnswer { address, defect });
        assert_eq!(decode_within(frames(message), &limits), expected, "{message:?}");
    }
    // What is no answer, or names no request, is malformed and nothing else.
    let others: [&[&[u8]]; 5] = [
        &[b"MDPC02", &[0x01], TOKEN, large],
        &[b"", b"MDPC01", TOKEN, TOKEN, large],
        &[b"MDPW02", &[0x05], TOKEN, large],
        &[b"MDPW02", &[0x04], b"token", large],
        &[b"x", b"MDPW01", &[0x03], TOKEN, large],
    ];
    for message in others {
        assert_eq!(decode_within(frames(message), &limits), malformed(Defect::TooLarge));
    }
}

#[test]
fn service_name_of_a_request_is_1_to_255_bytes() {
    for (name, defect) in
        [(b"".as_slice(), Defect::EmptyServiceName), (LONG_NAME, Defect::ServiceNameTooLong)]
    {
        assert_malformed(&[b"", b"MDPC01", name, b"a"], defect);
        assert_malformed(&[b"MDPC02", &[0x01], name, b"a"], defect);
    }
    assert!(decode(frames(&[b"", b"MDPC01", &LONG_NAME[1..], b"a"])).is_ok());
}

#[test]
fn ready_is_exact_and_says_its_version_when_it_cannot_register() {
    // AM-16, and AM-01's exception: it is always answered by DISCONNECT, in its own version.
    let cases: [(&[&[u8]], Defect); 4] = [
        (&[], Defect::TooFewFrames),
        (&[b"echo", b"more"], Defect::TooManyFrames),
        (&[b""], Defect::EmptyServiceName),
        (&[LONG_NAME], Defect::ServiceNameTooLong),
    ];
    for (rest, defect) in cases {
        let v01 = [&[b"".as_slice(), b"MDPW01", &[0x01]], rest].concat();
        let v02 = [&[b"MDPW02".as_slice(), &[0x01]], rest].concat();

        assert_eq!(decode(frames(&v01)), bad_ready(Version::V01, defect));
        assert_eq!(decode(frames(&v02)), bad_ready(Version::V02, defect));
    }
}

#[test]
fn every_defect_can_be_caused() {
    let messages: [&[&[u8]]; 8] = [
        &[],
        &[b"x"],
        &[b"x", b"", b"MDPW01"],
        &[b"", b"x"],
        &[b"MDPC02", b"x"],
        &[b"MDPW02", &[0x04], b"t", b"x", b"a"],
        &[b"MDPW02", &[0x01], b""],
        &[b"MDPW02", &[0x01], LONG_NAME],
    ];
    let mut seen: BTreeSet<Defect> =
        messages.iter().map(|bytes| decode(frames(bytes)).unwrap_err().defect()).collect();

    let limits = DecodeLimits { frames_max: 2, message_bytes_max: 2, envelope_frames_max: 0 };
    for bytes in [&[b"".as_slice(); 3][..], &[b"xyz".as_slice()]] {
        seen.insert(decode_within(frames(bytes), &limits).unwrap_err().defect());
    }

    assert_eq!(seen, BTreeSet::from(Defect::ALL));
}

#[test]
fn heartbeat_and_disconnect_tolerate_extra_frames() {
    // AM-16.
    let v01 = |command: u8| frames(&[b"", b"MDPW01", &[command], b"more", b""]);
    let v02 = |command: u8| frames(&[b"MDPW02", &[command], b"more", b""]);

    assert_eq!(decode(v01(4)), Ok(from_worker(Version::V01, ToBroker::Heartbeat)));
    assert_eq!(decode(v02(5)), Ok(from_worker(Version::V02, ToBroker::Heartbeat)));
    assert_eq!(decode(v01(5)), Ok(from_worker(Version::V01, ToBroker::Disconnect)));
    assert_eq!(decode(v02(6)), Ok(from_worker(Version::V02, ToBroker::Disconnect)));
}

#[test]
fn dialects_are_malformed() {
    // protocol.md section 8: strict 18/MDP only.
    let dialects: [(&[&[u8]], Defect); 9] = [
        // zeromq/majordomo 0.2, pyzmq-mdp2: an empty frame, no client command.
        (&[b"", b"MDPC02", b"echo", b"a"], Defect::UnknownHeader),
        (&[b"", b"MDPW02", &[0x01], b"echo"], Defect::UnknownHeader),
        // The same without the empty frame.
        (&[b"MDPC02", b"echo", b"a"], Defect::UnknownCommand),
        // zeromq/majordomo HEAD: a binary header frame.
        (&[&[0xAA, 0xA4, 0x01, 0x04], b"echo"], Defect::NoDelimiter),
        // majortomo: an empty frame, REQUEST is 02.
        (&[b"", b"MDPC02", &[0x02], b"echo", b"a"], Defect::UnknownHeader),
        (&[b"MDPC02", &[0x02], b"echo", b"a"], Defect::UnknownCommand),
        // plantd, zmws: commands as text.
        (&[b"", b"MDPW01", b"READY", b"echo"], Defect::UnknownCommand),
        // OpenCMW: MDPC03 with eight frames.
        (&[b"MDPC03", &[1], b"s", b"", b"", b"", b"", b""], Defect::UnknownHeader),
        // pigato, zmq-omdp.
        (&[b"C", b"{}"], Defect::NoDelimiter),
    ];
    for (message, defect) in dialects {
        assert_malformed(message, defect);
    }
}

#[test]
fn client_library_rejects_what_is_no_reply() {
    let cases: [(&[&[u8]], Defect); 12] = [
        (&[], Defect::TooFewFrames),
        (&[b""], Defect::TooFewFrames),
        (&[b"", b"MDPC01"], Defect::TooFewFrames),
        (&[b"", b"MDPC01", b"echo"], Defect::TooFewFrames),
        (&[b"MDPC02"], Defect::TooFewFrames),
        (&[b"MDPC02", &[0x03]], Defect::TooFewFrames),
        (&[b"MDPC02", &[0x03], b"echo"], Defect::TooFewFrames),
        (&[b"MDPC02", &[0x01], b"echo", b"a"], Defect::UnknownCommand),
        (&[b"MDPC01", b"echo", b"a"], Defect::NoDelimiter),
        (&[b"", b"MDPW01", &[0x04]], Defect::UnknownHeader),
        (&[b"", b"MDPC01", b"", b"a"], Defect::EmptyServiceName),
        (&[b"MDPC02", &[0x02], LONG_NAME, b"a"], Defect::ServiceNameTooLong),
    ];
    for (message, defect) in cases {
        assert_eq!(decode_reply(frames(message)), Err(defect), "{message:?}");
    }
}

#[test]
fn worker_library_rejects_what_a_broker_may_not_send() {
    let cases: [(&[&[u8]], Defect); 12] = [
        (&[], Defect::TooFewFrames),
        (&[b""], Defect::TooFewFrames),
        (&[b"", b"MDPW01"], Defect::TooFewFrames),
        (&[b"MDPW02"], Defect::TooFewFrames),
        (&[b"x"], Defect::UnknownHeader),
        (&[b"", b"MDPC01", &[0x02]], Defect::UnknownHeader),
        (&[b"", b"MDPW01", &[0x01], b"echo"], Defect::UnknownCommand),
        (&[b"", b"MDPW01", &[0x03], b"t", b"", b"a"], Defect::UnknownCommand),
        (&[b"MDPW02", &[0x04], b"t", b"", b"a"], Defect::UnknownCommand),
        (&[b"MDPW02", &[0x07]], Defect::UnknownCommand),
        (&[b"MDPW02", &[0x02], b"t", b""], Defect::TooFewFrames),
        (&[b"MDPW02", &[0x02], b"t", b"x", b"a"], Defect::NoAddressDelimiter),
    ];
    for (message, defect) in cases {
        assert_eq!(decode_from_broker(frames(message)), Err(defect), "{message:?}");
    }
}

#[test]
fn every_defect_has_its_own_label() {
    let labels: BTreeSet<&str> = Defect::ALL.iter().map(|defect| defect.label()).collect();

    assert_eq!(labels.len(), Defect::ALL.len());
}
