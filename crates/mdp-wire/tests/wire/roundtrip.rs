//! What is encoded is decoded to the same, and nothing that arrives can stop the decoder.

use mdp_wire::{
    AtBroker, Body, DecodeLimits, SERVICE_NAME_BYTES_MAX, ServiceFrame, ServiceName, Version,
    client::{Reply, ReplyCommand, Request},
    worker::{FromBroker, ToBroker},
};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof, proptest},
    prop_assert_eq,
    test_runner::{Config, RngSeed, TestCaseError},
};

use crate::support::{
    Frames, ToWorker, case_count, decode, decode_from_broker, decode_reply, decode_within,
    from_worker, seed,
};

const BODY_FRAMES_MAX: usize = 5;
const FRAME_BYTES_MAX: usize = 40;

fn config() -> Config {
    Config {
        cases: case_count(),
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: None,
        ..Config::default()
    }
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V01), Just(Version::V02)]
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..FRAME_BYTES_MAX)
}

fn body() -> impl Strategy<Value = Body<Vec<u8>>> {
    vec(frame(), 1..BODY_FRAMES_MAX).prop_map(Body::from)
}

fn service() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 1..FRAME_BYTES_MAX),
        1 => vec(any::<u8>(), SERVICE_NAME_BYTES_MAX),
    ]
}

fn name_of(service: &[u8]) -> ServiceName {
    ServiceName::try_from(service).unwrap()
}

fn frame_of(service: Vec<u8>) -> ServiceFrame<Vec<u8>> {
    ServiceFrame::try_new(service).unwrap()
}

/// Frames before the delimiter: never empty, and the first is no 0.2 header.
fn envelope(version: Version) -> impl Strategy<Value = Frames> {
    let count_max = match version {
        Version::V01 => DecodeLimits::default().envelope_frames_max,
        Version::V02 => 0,
    };
    vec(vec(any::<u8>(), 1..6), 0..=count_max)
}

fn command(version: Version) -> impl Strategy<Value = ReplyCommand> {
    match version {
        Version::V01 => prop_oneof![Just(ReplyCommand::Reply), Just(ReplyCommand::Reply)],
        Version::V02 => prop_oneof![Just(ReplyCommand::Partial), Just(ReplyCommand::Final)],
    }
}

/// A frame that is likely to mean something where it stands.
fn telling_frame() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&[u8]> = vec![b"", b"MDPC01", b"MDPW01", b"MDPC02", b"MDPW02", b"echo"];
    prop_oneof![
        6 => proptest::sample::select(known).prop_map(<[u8]>::to_vec),
        4 => (0_u8..8).prop_map(|command| vec![command]),
        2 => frame(),
    ]
}

/// What a worker may send, as sent and as received.
type Commands = (ToBroker<ServiceName, Vec<u8>>, ToBroker<ServiceFrame<Vec<u8>>, Vec<u8>>);

fn to_broker(version: Version) -> impl Strategy<Value = Commands> {
    let last = (frame(), body()).prop_map(|(client, body)| {
        let sent = ToBroker::Final { client: client.clone(), body: body.clone() };
        (sent, ToBroker::Final { client, body })
    });
    let partial = (frame(), body()).prop_map(move |(client, body)| match version {
        Version::V01 => (ToBroker::Heartbeat, ToBroker::Heartbeat), // 0.1 has no PARTIAL
        Version::V02 => {
            let sent = ToBroker::Partial { client: client.clone(), body: body.clone() };
            (sent, ToBroker::Partial { client, body })
        }
    });
    let ready = service().prop_map(|service| {
        let sent = ToBroker::Ready { service: name_of(&service) };
        (sent, ToBroker::Ready { service: frame_of(service) })
    });
    // 0.1 without delimiter (AM-21): its first body frame is not empty, or it is the only one.
    let bare = (frame(), body()).prop_map(move |(client, mut body)| {
        if version == Version::V02 {
            return (ToBroker::Heartbeat, ToBroker::Heartbeat);
        }
        if body.len() > 1 && body[0].is_empty() {
            body.remove(0);
        }
        body.truncate(if body[0].is_empty() { 1 } else { body.len() });
        let sent = ToBroker::Undelimited { client: client.clone(), body: body.clone() };
        (sent, ToBroker::Undelimited { client, body })
    });
    prop_oneof![
        ready,
        partial,
        last,
        bare,
        Just((ToBroker::Heartbeat, ToBroker::Heartbeat)),
        Just((ToBroker::Disconnect, ToBroker::Disconnect)),
        Just((ToBroker::Request, ToBroker::Request)),
    ]
}

fn from_broker() -> impl Strategy<Value = ToWorker> {
    prop_oneof![
        4 => (frame(), body()).prop_map(|(client, body)| FromBroker::Request { client, body }),
        1 => Just(FromBroker::Heartbeat),
        1 => Just(FromBroker::Disconnect),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn client_request_comes_back_from_its_frames(
        (version, envelope) in version().prop_flat_map(|v| (Just(v), envelope(v))),
        service in service(),
        body in body(),
    ) {
        let sent = Request {
            version,
            envelope: envelope.clone(),
            service: name_of(&service),
            body: body.clone(),
        };
        let received = Request { version, envelope, service: frame_of(service), body };

        let mut encoded = Frames::new();
        sent.encode(&mut encoded).unwrap();

        prop_assert_eq!(decode(encoded), Ok(AtBroker::Client(received)));
    }

    #[test]
    fn client_reply_comes_back_from_its_frames(
        (command, envelope) in version().prop_flat_map(|v| (command(v), envelope(v))),
        service in service(),
        body in body(),
    ) {
        let sent = Reply {
            command,
            envelope: envelope.clone(),
            service: name_of(&service),
            body: body.clone(),
        };
        let received = Reply { command, envelope, service: frame_of(service), body };

        let mut encoded = Frames::new();
        sent.encode(&mut encoded).unwrap();

        prop_assert_eq!(decode_reply(encoded), Ok(received));
    }

    #[test]
    fn worker_command_comes_back_from_its_frames(
        (version, (sent, received)) in version().prop_flat_map(|v| (Just(v), to_broker(v))),
    ) {
        let mut encoded = Frames::new();
        sent.encode(version, &mut encoded).unwrap();

        prop_assert_eq!(decode(encoded), Ok(from_worker(version, received)));
    }

    #[test]
    fn command_to_a_worker_comes_back_from_its_frames(
        version in version(),
        message in from_broker(),
    ) {
        let mut encoded = Frames::new();
        message.clone().encode(version, &mut encoded).unwrap();

        prop_assert_eq!(decode_from_broker(encoded), Ok((version, message)));
    }

    /// AM-21: whatever follows the address of a 0.1 REPLY, it is a reply to that address.
    #[test]
    fn reply_of_0_1_to_an_address_is_never_lost(client in frame(), rest in vec(frame(), 0..6)) {
        let head = [b"".to_vec(), b"MDPW01".to_vec(), vec![0x03], client.clone()];
        let decoded = decode(head.into_iter().chain(rest.clone()).collect());

        let read = |message| match message {
            ToBroker::Final { client, body } => Some((client, body, 1)),
            ToBroker::Undelimited { client, body } => Some((client, body, 0)),
            ToBroker::Ready { .. }
            | ToBroker::Partial { .. }
            | ToBroker::Heartbeat
            | ToBroker::Disconnect
            | ToBroker::Request => None,
        };
        let decoded = match decoded {
            Ok(AtBroker::Worker { version: Version::V01, message }) => read(message),
            Ok(AtBroker::Worker { .. } | AtBroker::Client(_)) | Err(_) => None,
        };
        let Some((address, body, skipped)) = decoded else {
            return Err(TestCaseError::fail("it is no reply"));
        };
        prop_assert_eq!(address, client);
        prop_assert_eq!(body.as_slice(), &rest[skipped..]);
    }

    #[test]
    fn no_frames_stop_the_decoders(
        frames in vec(telling_frame(), 0..10),
        frames_max in 0_usize..12,
        message_bytes_max in 0_usize..200,
        envelope_frames_max in 0_usize..9,
    ) {
        // The helpers also assert that the vector is left empty.
        let limits = DecodeLimits { frames_max, message_bytes_max, envelope_frames_max };
        let (count, bytes) = (frames.len(), frames.iter().map(Vec::len).sum::<usize>());

        let outcome = decode_within(frames.clone(), &limits);
        let accepted = outcome.is_ok();
        drop((decode(frames.clone()), decode_reply(frames.clone()), decode_from_broker(frames)));

        assert!(!accepted || (count <= frames_max && bytes <= message_bytes_max), "{outcome:?}");
    }
}
