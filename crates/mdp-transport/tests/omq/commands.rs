//! READY, ERROR, PING and PONG as both understand them.

use std::time::Duration;

use mdp_transport::{ConnectionLimits, Ending, Side, SocketType};
use omq_proto::{Error, SocketType as OmqType, proto::Command};

use crate::pair::{Failure, Pair, Setup, body};

#[test]
fn wrong_kind_of_socket_is_refused_and_omq_is_told_so() {
    for theirs in [OmqType::Push, OmqType::Pub, OmqType::Sub, OmqType::Pair, OmqType::Rep] {
        for side in [Side::Accepting, Side::Dialling] {
            // As a DEALER we are a peer for a REP of omq; we have no use for one.
            let mut pair =
                Pair::new(Setup { side, ours: SocketType::Dealer, theirs, ..Setup::default() });
            // omq itself may see first that the two do not fit.
            match pair.exchange() {
                Err(Failure::Ours(ending)) => {
                    assert_eq!(ending, Ending::SocketType);
                    let outcome = drain(&mut pair);
                    assert!(outcome.is_err(), "{theirs:?} learns nothing: {outcome:?}");
                }
                Err(Failure::Omq(Error::HandshakeFailed(_) | Error::HandshakeRefused(_))) => {}
                other => panic!("{theirs:?}: {other:?}"),
            }
            assert!(!pair.ours.is_open());
        }
    }
}

/// Gives omq all that an ended connection still has to say.
fn drain(pair: &mut Pair) -> Result<(), Failure> {
    while pair.ours.output_bytes() > 0 {
        pair.pass_to_omq()?;
    }
    Ok(())
}

#[test]
fn ping_of_omq_is_answered_also_between_the_pieces_of_a_message() {
    for minor in [0, 1] {
        for pieces in [vec![usize::MAX], vec![1], vec![5, 100]] {
            let mut pair = Pair::open(Setup { minor, pieces, ..Setup::default() });
            for context in [0, 1, 16] {
                pair.omq_send(&[body(300)]);
                let context = body(context).into();
                pair.omq.send_command(&Command::Ping { ttl_deciseconds: 30, context }).unwrap();
                pair.omq_send(&[Vec::new(), body(20_000)]);
                pair.exchange().unwrap();
            }
            assert_eq!(pair.messages.len(), 6);
            assert_eq!(pair.omq_messages.len(), 0);
            // The TTL counts from the last byte.
            let at = pair.now + Duration::from_secs(3);
            assert_eq!(pair.ours.poll_timeout(), Some(at));
            let outcome = pair.ours.handle_timeout(at, &mut pair.pool);
            assert_eq!(outcome, Err(Ending::TtlExpired));
        }
    }
}

#[test]
fn pong_of_ours_is_the_bytes_of_one_of_omq() {
    let mut pair = Pair::open(Setup::default());
    for context in 0..=16 {
        let context = body(context);
        let ping = Command::Ping { ttl_deciseconds: 0, context: context.clone().into() };
        pair.omq.send_command(&ping).unwrap();
        pair.pass_to_us().unwrap();
        let pong = Command::Pong { context: context.into() };
        pair.omq.send_command(&pong).unwrap();
        assert_eq!(pair.our_bytes(), pair.omq_bytes());
    }
}

#[test]
fn ping_of_ours_is_answered_by_omq() {
    let limits = ConnectionLimits::default();
    let mut pair = Pair::open(Setup::default());
    let ping = |pair: &mut Pair| {
        pair.now += limits.ping_interval;
        pair.ours.handle_timeout(pair.now, &mut pair.pool)
    };
    for _ in 0..5 {
        assert_eq!(ping(&mut pair), Ok(()));
        assert!(pair.ours.output_bytes() > 0);
        pair.exchange().unwrap();
    }
    // It answered, so it has to go on: the next PING is written and does not reach it.
    assert_eq!(ping(&mut pair), Ok(()));
    assert!(!pair.our_bytes().is_empty());
    pair.now += limits.pong_timeout;
    let outcome = pair.ours.handle_timeout(pair.now, &mut pair.pool);
    assert_eq!(outcome, Err(Ending::PongTimeout));
}

#[test]
fn omq_that_speaks_3_0_is_never_pinged() {
    let pair = Pair::open(Setup { minor: 0, ..Setup::default() });
    assert_eq!(pair.ours.poll_timeout(), None);
}

#[test]
fn unknown_command_of_omq_is_ignored() {
    let mut pair = Pair::open(Setup::default());
    for command in [
        Command::Subscribe(body(3).into()),
        Command::Join(body(3).into()),
        Command::Unknown { name: "NEW".into(), body: body(300).into() },
    ] {
        pair.omq.send_command(&command).unwrap();
    }
    pair.omq_send(&[body(5)]);
    pair.exchange().unwrap();
    assert_eq!(pair.messages, [[body(5)]]);
}

#[test]
fn error_of_omq_ends_the_connection_with_its_reason() {
    let mut pair = Pair::open(Setup::default());
    pair.omq.send_command(&Command::Error { reason: "no\n".into() }).unwrap();
    let Err(Failure::Ours(ending)) = pair.exchange() else { panic!("still open") };
    assert_eq!(ending, Ending::PeerError("no\\n".into()));
}
