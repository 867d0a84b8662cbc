//! What nodes tell each other: golden bytes of format 1, round trips, and everything that is none.

use std::time::Duration;

use mdp_wire::{
    Body, CLIENT_NETWORKS_MAX, ClientNetworks, NetworkAddress, ServiceFrame, ServiceName,
    codec::Kind,
    relay::{
        AtOrigin, AtOwner, Capacity, Forward, ForwardId, HEAD_BYTES_MAX, Hello, Load,
        RELAY_FRAMES_MAX, Refusal, RefusalReason, RelayDecodeError, ReturnCause, ToOrigin, ToOwner,
        WIRE, Welcome, WireRange, encode_bye, encode_ping,
    },
};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof, proptest},
    prop_assert_eq,
    test_runner::{Config, RngSeed},
};

use crate::support::{Frames, NameFrame, case_count, frames, name, name_frame, seed};

type FromOrigin = AtOwner<NameFrame, Vec<u8>>;
type FromOwner = AtOrigin<Vec<u8>>;

fn at_owner(mut frames: Frames) -> Result<FromOrigin, RelayDecodeError> {
    let decoded = AtOwner::decode(WIRE, &mut frames);
    assert!(frames.is_empty(), "the vector is left empty");
    decoded
}

fn at_origin(mut frames: Frames) -> Result<FromOwner, RelayDecodeError> {
    let decoded = AtOrigin::decode(WIRE, &mut frames);
    assert!(frames.is_empty(), "the vector is left empty");
    decoded
}

fn to_owner(message: ToOwner<ServiceName, Vec<u8>>) -> Frames {
    let mut encoded = Frames::new();
    message.encode(WIRE.max, &mut encoded).unwrap();
    encoded
}

fn to_origin(message: ToOrigin<Vec<u8>>) -> Frames {
    let mut encoded = Frames::new();
    message.encode(WIRE.max, &mut encoded).unwrap();
    encoded
}

fn body(parts: &[&[u8]]) -> Body<Vec<u8>> {
    frames(parts).into()
}

fn hello() -> Hello {
    Hello {
        wire: WireRange { min: 1, max: 2 },
        version: "0.3.1".to_owned(),
        cluster: "00ff".to_owned(),
        node: "node-1".to_owned(),
        epoch: 7,
        wanted: "node-2".to_owned(),
        session: 0x0102,
    }
}

fn hello_frames(hello: &Hello) -> Frames {
    let mut encoded = Frames::new();
    hello.encode::<Vec<u8>, _>(&mut encoded).unwrap();
    encoded
}

/// A greeting with these addresses by network.
fn welcome_of(networks: &[(&str, &str)]) -> Welcome {
    let entry = |(from, address): &(&str, &str)| NetworkAddress {
        from: from.parse().unwrap(),
        address: (*address).to_owned(),
    };
    Welcome {
        wire: 1,
        version: "0.3.1".to_owned(),
        node: "node-2".to_owned(),
        epoch: 7,
        networks: ClientNetworks::new(networks.iter().map(entry).collect()).unwrap(),
    }
}

fn welcome_frames(welcome: &Welcome) -> Frames {
    let mut encoded = Frames::new();
    welcome.encode::<Vec<u8>, _>(&mut encoded).unwrap();
    encoded
}

/// Every kind of message of an owner, once.
fn of_owner() -> Vec<Frames> {
    let (mut welcome, mut refusal) = (Frames::new(), Frames::new());
    let (mut ping, mut bye) = (Frames::new(), Frames::new());
    let (version, node) = ("0.3.1".to_owned(), "node-2".to_owned());
    welcome_of(&[]).encode::<Vec<u8>, _>(&mut welcome).unwrap();
    let reason = RefusalReason::WrongVersion { min: 2, max: 3 };
    Refusal { reason, version, node }.encode::<Vec<u8>, _>(&mut refusal).unwrap();
    encode_ping::<Vec<u8>, _>(WIRE.max, &mut ping).unwrap();
    encode_bye::<Vec<u8>, _>(WIRE.max, &mut bye).unwrap();
    let load = Load {
        capacity: vec![Capacity { service: name("echo"), workers: 3, share: 2 }],
        waiting: vec![ForwardId(1)],
        started: vec![ForwardId(2), ForwardId(3)],
    };
    let reply = ToOrigin::Reply { id: ForwardId(9), is_last: true, body: body(&[b"a", b""]) };
    let returned = ToOrigin::Return { id: ForwardId(9), cause: ReturnCause::NoRoom };
    let messages = [ToOrigin::Load(load), reply, returned].map(to_origin);
    [welcome, refusal, ping, bye].into_iter().chain(messages).collect()
}

/// Every kind of message of an origin, once.
fn of_origin() -> Vec<Frames> {
    let forward = ToOwner::Forward(Forward {
        id: ForwardId(0x0102),
        client: 3,
        ttl: Duration::from_millis(1_500),
        service: name("echo"),
        body: body(&[b"a", b"b"]),
    });
    vec![hello_frames(&hello()), to_owner(forward), to_owner(ToOwner::Cancel(ForwardId(5)))]
}

#[test]
fn format_1_of_what_origins_say_is_as_released() {
    let [hello, forward, cancel] = <[Frames; 3]>::try_from(of_origin()).unwrap();

    let golden: &[u8] = b"\x10\x01\0\x01\0\x02\0\x07\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\
        \x050.3.1\x0400ff\x06node-1\x06node-2";
    assert_eq!(hello, frames(&[golden]));
    let head: &[u8] = b"\x0b\x01\0\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\xdc\x05\0\0";
    assert_eq!(forward, frames(&[head, b"echo", b"a", b"b"]));
    assert_eq!(cancel, frames(&[b"\x0c\x01\0\x05\0\0\0\0\0\0\0"]));
}

#[test]
fn format_1_of_what_owners_say_is_as_released() {
    let [welcome, refusal, ping, bye, load, reply, returned] =
        <[Frames; 7]>::try_from(of_owner()).unwrap();

    let golden: &[u8] = b"\x11\x01\0\x01\0\x07\0\0\0\0\0\0\0\x050.3.1\x06node-2";
    assert_eq!(welcome, frames(&[golden]));
    assert_eq!(refusal, frames(&[b"\x12\x01\0\x01\x02\0\x03\0\x050.3.1\x06node-2"]));
    assert_eq!(ping, frames(&[b"\x13\x01\0"]));
    assert_eq!(bye, frames(&[b"\x14\x01\0"]));
    let golden: &[u8] = b"\x0d\x01\0\x01\0\0\0\x04echo\x03\0\0\0\x02\0\0\0\
        \x01\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0";
    assert_eq!(load, frames(&[golden]));
    assert_eq!(reply, frames(&[b"\x0e\x01\0\x09\0\0\0\0\0\0\0\x01", b"a", b""]));
    assert_eq!(returned, frames(&[b"\x0f\x01\0\x09\0\0\0\0\0\0\0\x03"]));
}

#[test]
fn heads_of_requests_and_replies_fit_into_a_message_of_libzmq() {
    for message in of_origin().iter().skip(1).chain(of_owner().iter().skip(5)) {
        assert!(message[0].len() <= HEAD_BYTES_MAX, "{message:?}");
    }
}

#[test]
fn released_bytes_mean_what_they_meant() {
    let forward = Forward {
        id: ForwardId(0x0102),
        client: 3,
        ttl: Duration::from_millis(1_500),
        service: name_frame("echo"),
        body: body(&[b"a", b"b"]),
    };
    let said: Vec<_> = of_origin().into_iter().map(|frames| at_owner(frames).unwrap()).collect();
    assert_eq!(
        said,
        [
            AtOwner::Hello(hello()),
            AtOwner::Message(ToOwner::Forward(forward)),
            AtOwner::Message(ToOwner::Cancel(ForwardId(5))),
        ]
    );

    let said = of_owner().into_iter().map(|frames| at_origin(frames).unwrap());
    let [welcome, refusal, ping, bye, load, ..] =
        <[FromOwner; 7]>::try_from(said.collect::<Vec<_>>()).unwrap();
    let (version, node) = ("0.3.1".to_owned(), "node-2".to_owned());
    assert_eq!(welcome, AtOrigin::Welcome(welcome_of(&[])));
    let reason = RefusalReason::WrongVersion { min: 2, max: 3 };
    assert_eq!(refusal, AtOrigin::Refusal(Refusal { reason, version, node }));
    assert_eq!((ping, bye), (AtOrigin::Ping, AtOrigin::Bye));
    let AtOrigin::Message(ToOrigin::Load(load)) = load else { panic!("{load:?}") };
    assert_eq!((load.capacity.len(), load.waiting.len(), load.started.len()), (1, 1, 2));
}

#[test]
fn time_to_live_is_rounded_up_to_milliseconds() {
    for (ttl, milliseconds) in [
        (Duration::ZERO, 0),
        (Duration::from_nanos(1_000), 1),
        (Duration::from_micros(1_001), 2),
        (Duration::MAX, u64::from(u32::MAX)),
    ] {
        let (id, client, service) = (ForwardId(1), 1, name("x"));
        let forward = Forward { id, client, ttl, service, body: body(&[b""]) };
        let AtOwner::Message(ToOwner::Forward(forward)) =
            at_owner(to_owner(ToOwner::Forward(forward))).unwrap()
        else {
            panic!("no request")
        };
        assert_eq!(forward.ttl, Duration::from_millis(milliseconds), "{ttl:?}");
    }
}

#[test]
fn greetings_of_newer_versions_may_say_more_and_name_unknown_reasons() {
    let mut longer = hello_frames(&hello());
    longer[0].extend_from_slice(b"more");
    assert_eq!(at_owner(longer), Ok(AtOwner::Hello(hello())));

    let refusal = frames(&[b"\x12\x01\0\xc8\0\0\0\0\x050.9.0\x06node-2more"]);
    let Ok(AtOrigin::Refusal(refusal)) = at_origin(refusal) else { panic!("no refusal") };
    assert_eq!((refusal.reason, refusal.version.as_str()), (RefusalReason::Unknown, "0.9.0"));
}

#[test]
fn welcome_tells_addresses_by_network_behind_what_the_first_release_reads() {
    let long = format!("tcp://{}:65535", "h".repeat(253));
    let welcome = welcome_of(&[("10.0.0.0/8", "tcp://a:1"), ("fd00::/16", &long)]);
    let encoded = welcome_frames(&welcome);

    let released = welcome_frames(&welcome_of(&[]));
    let added = encoded[0].strip_prefix(released[0].as_slice()).unwrap();
    let six = [b"\x02\x06\xfd".as_slice(), &[0; 15], b"\x10\x09\x01", long.as_bytes()].concat();
    let four = b"\x04\x0a\0\0\0\x08\x09\0tcp://a:1";
    assert_eq!(added, [six.as_slice(), four].concat());
    assert_eq!(at_origin(encoded.clone()), Ok(AtOrigin::Welcome(welcome.clone())));
    // As the greeting of a version that says even more.
    let mut longer = encoded;
    longer[0].extend_from_slice(b"more");
    assert_eq!(at_origin(longer), Ok(AtOrigin::Welcome(welcome)));
}

#[test]
fn more_networks_than_this_version_knows_do_not_cost_the_link() {
    let mut longer = welcome_frames(&welcome_of(&[]));
    longer[0].push(40);
    for third in 0..40 {
        longer[0].extend_from_slice(&[4, 10, 0, third, 0, 24, 1, 0, b'x']);
    }
    let Ok(AtOrigin::Welcome(welcome)) = at_origin(longer) else { panic!("no welcome") };
    assert_eq!(welcome.networks.iter().count(), CLIENT_NETWORKS_MAX);
}

#[test]
fn networks_that_are_none_cost_the_list_and_not_the_link() {
    let long = [b"\x01\x04\x0a\0\0\0\x08\x2c\x01".as_slice(), &[b'x'; 300]].concat();
    for bytes in [
        b"\x01\x05".as_slice(),
        b"\x01\x04\x0a\0\0\0\x21\0\0",
        b"\x01\x04\x0a\0\0\x01\x08\0\0",
        b"\x02\x04\x0a\0\0\0\x08\0\0\x04\x0a\0\0\0\x08\0\0",
        b"\x01",
        b"\x01\x04\x0a",
        b"\x01\x04\x0a\0\0\0\x08\x02\0x",
        b"\x01\x04\x0a\0\0\0\x08\x01\0\xff",
        &long,
    ] {
        let mut encoded = welcome_frames(&welcome_of(&[]));
        encoded[0].extend_from_slice(bytes);
        assert_eq!(at_origin(encoded), Ok(AtOrigin::Welcome(welcome_of(&[]))), "{bytes:?}");
    }
}

#[test]
fn reasons_survive_the_way() {
    for reason in [
        RefusalReason::WrongVersion { min: 1, max: 9 },
        RefusalReason::WrongCluster,
        RefusalReason::WrongNode,
        RefusalReason::Superseded,
        RefusalReason::NotReady,
        RefusalReason::TooManyLinks,
        RefusalReason::NotLinked,
        RefusalReason::Malformed,
        RefusalReason::Unknown,
    ] {
        let refusal = Refusal { reason, version: String::new(), node: "n".to_owned() };
        let mut encoded = Frames::new();
        refusal.encode::<Vec<u8>, _>(&mut encoded).unwrap();
        assert_eq!(at_origin(encoded), Ok(AtOrigin::Refusal(refusal)));
    }
}

#[test]
fn newest_common_version_is_chosen() {
    let range = |min, max| WireRange { min, max };

    assert_eq!(WIRE.newest_common(range(1, 9)), Some(1));
    assert_eq!(range(2, 4).newest_common(range(1, 3)), Some(3));
    assert_eq!(range(2, 4).newest_common(range(5, 6)), None);
    assert_eq!(range(5, 6).newest_common(range(2, 4)), None);
    assert_eq!(range(9, 1).newest_common(range(1, 9)), None);
}

#[test]
fn texts_are_cut_off_and_stay_texts() {
    let long = Hello { node: "ä".repeat(200), ..hello() };

    let Ok(AtOwner::Hello(cut)) = at_owner(hello_frames(&long)) else { panic!("no greeting") };

    assert_eq!(cut.node, "ä".repeat(127));
}

#[test]
fn wrong_sides_kinds_formats_and_counts_are_refused() {
    for message in of_origin() {
        assert!(matches!(
            at_origin(message),
            Err(RelayDecodeError::WrongSide { .. } | RelayDecodeError::FrameCount { .. })
        ));
    }
    for message in of_owner() {
        assert!(matches!(at_owner(message), Err(RelayDecodeError::WrongSide { .. })));
    }
    assert_eq!(at_owner(frames(&[])), Err(RelayDecodeError::NoHead { got: 0 }));
    assert_eq!(at_owner(frames(&[b"\x0b\x01"])), Err(RelayDecodeError::NoHead { got: 2 }));
    assert_eq!(at_owner(frames(&[b"\x01\x01\0"])), Err(RelayDecodeError::UnknownKind { got: 1 }));
    let newer = RelayDecodeError::UnknownFormat { kind: Kind::Ping, got: 2 };
    assert_eq!(at_origin(frames(&[b"\x13\x02\0"])), Err(newer));
    let trailing = RelayDecodeError::TrailingBytes { kind: Kind::Ping, count: 1 };
    assert_eq!(at_origin(frames(&[b"\x13\x01\0x"])), Err(trailing));
    let two = RelayDecodeError::FrameCount { kind: Kind::Ping, got: 2 };
    assert_eq!(at_origin(frames(&[b"\x13\x01\0", b""])), Err(two));
    let cause = RelayDecodeError::UnknownValue { kind: Kind::Return, got: 6 };
    assert_eq!(at_origin(frames(&[b"\x0f\x01\0\x09\0\0\0\0\0\0\0\x06"])), Err(cause));
    let not_text = RelayDecodeError::NotText { kind: Kind::Welcome };
    let welcome: &[u8] = b"\x11\x01\0\x01\0\x07\0\0\0\0\0\0\0\x01\xff\x00";
    assert_eq!(at_origin(frames(&[welcome])), Err(not_text));
    let forward = &of_origin()[1];
    for count in [1, 2, RELAY_FRAMES_MAX + 1] {
        let mut frames = forward.clone();
        frames.resize(count, b"x".to_vec());
        let error = RelayDecodeError::FrameCount { kind: Kind::Forward, got: count };
        assert_eq!(at_owner(frames), Err(error));
    }
    let mut nameless = forward.clone();
    nameless[1].clear();
    assert!(matches!(at_owner(nameless), Err(RelayDecodeError::ServiceName(_))));
}

#[test]
fn forged_counts_are_refused() {
    let load = |count: u32| {
        let mut head = b"\x0d\x01\0".to_vec();
        head.extend_from_slice(&count.to_le_bytes());
        at_origin(vec![head])
    };
    assert_eq!(load(u32::MAX), Err(RelayDecodeError::TooManyEntries { got: 0xffff_ffff }));
    assert_eq!(load(1 << 20), Err(RelayDecodeError::CutOff { kind: Kind::Load }));
}

#[test]
fn bodies_are_moved_and_never_copied() {
    let mut forward = of_origin().remove(1);
    let address = forward[2].as_ptr();
    let Ok(AtOwner::Message(ToOwner::Forward(decoded))) = AtOwner::decode(WIRE, &mut forward)
    else {
        panic!("no request")
    };
    assert_eq!(decoded.body[0].as_ptr(), address);

    let mut reply = of_owner().remove(5);
    let address = reply[1].as_ptr();
    let Ok(AtOrigin::Message(ToOrigin::Reply { body, .. })) = AtOrigin::decode(WIRE, &mut reply)
    else {
        panic!("no reply")
    };
    assert_eq!(body[0].as_ptr(), address);
}

#[test]
fn no_truncation_and_no_flipped_bit_stops_a_decoder() {
    for message in of_origin().into_iter().chain(of_owner()) {
        for length in 0..message[0].len() {
            let mut cut = message.clone();
            cut[0].truncate(length);
            assert!(at_owner(cut.clone()).is_err() && at_origin(cut).is_err(), "{message:?}");
        }
        for bit in 0..message[0].len() * 8 {
            let mut flipped = message.clone();
            flipped[0][bit / 8] ^= 1 << (bit % 8);
            // Either may be another message; neither may be both.
            let decoded = (at_owner(flipped.clone()).is_ok(), at_origin(flipped).is_ok());
            assert_ne!(decoded, (true, true));
        }
    }
}

fn config() -> Config {
    Config {
        cases: case_count(),
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: None,
        ..Config::default()
    }
}

fn any_body() -> impl Strategy<Value = Body<Vec<u8>>> {
    vec(vec(any::<u8>(), 0..40), 1..5).prop_map(Body::from)
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 1..40), 1 => vec(any::<u8>(), 255)]
}

fn any_ids() -> impl Strategy<Value = Vec<ForwardId>> {
    vec(any::<u64>().prop_map(ForwardId), 0..5)
}

fn any_capacity() -> impl Strategy<Value = Capacity> {
    (any_name(), any::<u32>(), any::<u32>()).prop_map(|(service, workers, share)| Capacity {
        service: ServiceName::try_from(service.as_slice()).unwrap(),
        workers,
        share,
    })
}

fn any_cause() -> impl Strategy<Value = ReturnCause> {
    prop_oneof![
        Just(ReturnCause::Cancelled),
        Just(ReturnCause::NoWorker),
        Just(ReturnCause::NoRoom),
        Just(ReturnCause::Expired),
        Just(ReturnCause::WorkerLost),
    ]
}

fn any_to_origin() -> impl Strategy<Value = ToOrigin<Vec<u8>>> {
    let id = || any::<u64>().prop_map(ForwardId);
    prop_oneof![
        (vec(any_capacity(), 0..5), any_ids(), any_ids()).prop_map(
            |(capacity, waiting, started)| ToOrigin::Load(Load { capacity, waiting, started })
        ),
        (id(), any::<bool>(), any_body()).prop_map(|(id, is_last, body)| ToOrigin::Reply {
            id,
            is_last,
            body
        }),
        (id(), any_cause()).prop_map(|(id, cause)| ToOrigin::Return { id, cause }),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn forwards_survive_the_way(
        (id, client, ttl) in (any::<u64>(), any::<u64>(), any::<u32>()),
        (service, body) in (any_name(), any_body()),
    ) {
        let (id, ttl) = (ForwardId(id), Duration::from_millis(ttl.into()));
        let sent = ServiceName::try_from(service.as_slice()).unwrap();
        let sent = Forward { id, client, ttl, service: sent, body: body.clone() };
        let service = ServiceFrame::try_new(service).unwrap();
        let received = Forward { id, client, ttl, service, body };

        let decoded = at_owner(to_owner(ToOwner::Forward(sent)));

        prop_assert_eq!(decoded, Ok(AtOwner::Message(ToOwner::Forward(received))));
    }

    #[test]
    fn what_owners_say_survives_the_way(message in any_to_origin()) {
        let decoded = at_origin(to_origin(message.clone()));

        prop_assert_eq!(decoded, Ok(AtOrigin::Message(message)));
    }

    #[test]
    fn arbitrary_heads_never_stop_a_decoder(
        kind in 9_u8..22,
        head in vec(any::<u8>(), 0..60),
        others in vec(vec(any::<u8>(), 0..4), 0..4),
    ) {
        let head = [&[kind, 1, 0], head.as_slice()].concat();
        let frames: Frames = [head].into_iter().chain(others).collect();
        let decoded = (at_owner(frames.clone()), at_origin(frames));

        assert!(decoded.0.is_err() || decoded.1.is_err(), "{decoded:?}");
    }
}

/// The stand-in for the next wire version.
#[cfg(feature = "test-next")]
mod next_version {
    use mdp_wire::relay::NEXT_WIRE;

    use super::*;

    fn cancel(wire: u16) -> Frames {
        let mut frames = Frames::new();
        let message = ToOwner::<ServiceName, Vec<u8>>::Cancel(ForwardId(7));
        message.encode(wire, &mut frames).unwrap();
        frames
    }

    #[test]
    fn message_is_read_in_its_own_version_and_refused_in_every_other() {
        let cancelled = Ok(AtOwner::Message(ToOwner::Cancel(ForwardId(7))));
        for wire in [1, 2] {
            assert_eq!(AtOwner::decode(WireRange::only(wire), &mut cancel(wire)), cancelled);
            assert_eq!(AtOwner::decode(NEXT_WIRE, &mut cancel(wire)), cancelled);
            let other = AtOwner::decode(WireRange::only(3 - wire), &mut cancel(wire));
            assert!(matches!(other, Err(RelayDecodeError::UnknownFormat { .. })), "{other:?}");
        }
        assert_ne!(cancel(1), cancel(2));
    }

    #[test]
    fn greetings_are_the_same_in_every_version() {
        let mut frames = Frames::new();
        let refusal = Refusal {
            reason: RefusalReason::WrongVersion { min: 1, max: 2 },
            version: "0.2.0".to_owned(),
            node: "node-1".to_owned(),
        };
        refusal.encode::<Vec<u8>, _>(&mut frames).unwrap();

        let said = AtOrigin::decode(WireRange::only(2), &mut frames);

        assert_eq!(said, Ok(AtOrigin::Refusal(refusal)));
    }
}
