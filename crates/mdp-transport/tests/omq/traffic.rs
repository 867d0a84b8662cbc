//! Messages of every shape, both ways.

use mdp_transport::{Mechanism, Side, SocketType};
use omq_proto::{SocketType as OmqType, proto::connection::Event as OmqEvent};
use proptest::{
    collection::vec,
    prelude::{ProptestConfig, any},
    prop_assert_eq, proptest,
    sample::select,
};

use crate::pair::{Frames, Pair, Setup, body};

/// How often the properties are tried.
const CASES: u32 = 96;

/// Around each size at which something changes.
const SIZES: [usize; 15] =
    [0, 1, 254, 255, 256, 257, 4_095, 4_096, 4_097, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537];

/// Ours, omq's: all that may talk to each other.
const SOCKETS: [(SocketType, OmqType); 8] = [
    (SocketType::Router, OmqType::Req),
    (SocketType::Router, OmqType::Dealer),
    (SocketType::Router, OmqType::Router),
    (SocketType::Dealer, OmqType::Req),
    (SocketType::Dealer, OmqType::Dealer),
    (SocketType::Dealer, OmqType::Router),
    (SocketType::Req, OmqType::Dealer),
    (SocketType::Req, OmqType::Router),
];

const SIDES: [Side; 2] = [Side::Accepting, Side::Dialling];

fn setups() -> impl Iterator<Item = Setup> {
    SOCKETS.into_iter().flat_map(|(ours, theirs)| {
        SIDES.into_iter().flat_map(move |side| {
            [0, 1].map(|minor| Setup { side, ours, theirs, minor, ..Setup::default() })
        })
    })
}

fn shapes() -> Vec<Vec<usize>> {
    let alone = SIZES.iter().map(|size| vec![*size]);
    let beside_empty =
        SIZES.iter().flat_map(|&size| [vec![0, size], vec![size, 0], vec![0, size, 0]]);
    let mut shapes: Vec<Vec<usize>> = alone.chain(beside_empty).collect();
    shapes.push(SIZES.to_vec());
    shapes.push(vec![0; 3]);
    shapes.push(vec![0; 1_000]);
    shapes.push(vec![0, 6, 4, 64]);
    shapes
}

fn frames(shape: &[usize]) -> Frames {
    shape.iter().map(|size| body(*size)).collect()
}

/// Sends everything at once in both directions, and compares what came.
fn send_both_ways(pair: &mut Pair, messages: &[Frames]) {
    for message in messages {
        pair.send(message);
        pair.omq_send(message);
    }
    pair.exchange().unwrap();
    assert_eq!(pair.messages.len(), messages.len());
    assert!(pair.messages == messages && pair.omq_messages == messages);
    assert_eq!((pair.ours.input_bytes(), pair.ours.output_bytes()), (0, 0));
    pair.messages.clear();
    pair.omq_messages.clear();
}

#[test]
fn each_side_learns_what_the_other_is_however_the_bytes_are_cut() {
    for setup in setups() {
        for pieces in [vec![usize::MAX], vec![1], vec![11, 1, 20], vec![63, 2]] {
            for routing_ids in [("".as_bytes(), "".as_bytes()), (b"ours", b"theirs")] {
                let setup = Setup { pieces: pieces.clone(), routing_ids, ..setup.clone() };
                let mut pair = Pair::open(setup.clone());
                let peer = pair.introduction.unwrap();
                assert_eq!(peer.socket_type.name(), setup.theirs.as_str());
                assert_eq!(&*peer.routing_id, routing_ids.1);
                assert_eq!((peer.minor, peer.mechanism), (setup.minor, Mechanism::Null));
                let event = pair.omq_events.swap_remove(0);
                let OmqEvent::HandshakeSucceeded { peer_minor, peer_properties } = event else {
                    panic!("{event:?}");
                };
                assert_eq!(peer_minor, setup.minor);
                assert_eq!(peer_properties.socket_type.unwrap().as_str(), setup.ours.name());
                assert_eq!(peer_properties.identity.as_deref().unwrap_or_default(), routing_ids.0);
            }
        }
    }
}

#[test]
fn messages_of_every_shape_are_the_same_to_both() {
    let messages: Vec<Frames> = shapes().iter().map(|shape| frames(shape)).collect();
    for setup in setups() {
        for pieces in [vec![usize::MAX], vec![1_000]] {
            let mut pair = Pair::open(Setup { pieces, ..setup.clone() });
            send_both_ways(&mut pair, &messages);
        }
    }
}

#[test]
fn messages_of_every_shape_are_the_same_bytes() {
    let mut pair = Pair::open(Setup::default());
    for message in shapes().iter().map(|shape| frames(shape)) {
        pair.send(&message);
        pair.omq_send(&message);
        assert!(pair.our_bytes() == pair.omq_bytes());
    }
}

#[test]
fn messages_in_pieces_of_a_few_bytes_are_the_same_to_both() {
    let small = shapes().into_iter().filter(|shape| shape.iter().sum::<usize>() < 600);
    let messages: Vec<Frames> = small.map(|shape| frames(&shape)).collect();
    for setup in setups() {
        for pieces in [vec![1], vec![2, 1, 9, 1, 255, 3]] {
            let mut pair = Pair::open(Setup { pieces, ..setup.clone() });
            send_both_ways(&mut pair, &messages);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn any_messages_cut_anywhere_are_the_same_to_both(
        (ours, theirs) in select(SOCKETS.to_vec()),
        side in select(SIDES.to_vec()),
        minor in 0_u8..2,
        messages in vec((any::<bool>(), vec(select(SIZES.to_vec()), 1..6)), 1..8),
        pieces in vec(select(vec![1_usize, 2, 3, 9, 64, 255, 1_000, 4_097, 20_000, 70_000]), 1..20),
    ) {
        // The greeting is cut, too.
        let mut pair = Pair::open(Setup { side, ours, theirs, minor, pieces, ..Setup::default() });
        let mut expected = (Vec::new(), Vec::new());
        for (at, (is_ours, shape)) in messages.iter().enumerate() {
            let message = frames(shape);
            if *is_ours {
                pair.send(&message);
                expected.1.push(message);
            } else {
                pair.omq_send(&message);
                expected.0.push(message);
            }
            // Some bytes pass before the next one is sent.
            if at % 2 == 0 {
                pair.pass_to_omq().unwrap();
            }
        }
        pair.exchange().unwrap();
        prop_assert_eq!(pair.messages == expected.0, true);
        prop_assert_eq!(pair.omq_messages == expected.1, true);
    }
}
