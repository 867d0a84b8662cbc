//! One less than a limit, the limit, one more.

use mdp_transport::{ConnectionLimits, Ending, StreamError};

use crate::pair::{Failure, Frames, Pair, Setup, body};

/// Small ones, each side of a size at which the decoder changes its way.
const BYTES: [usize; 5] = [1, 255, 256, 16_384, 70_000];
const FRAMES: [usize; 4] = [1, 2, 7, 1_024];

/// Cut into one, two and three frames, some of them empty.
fn shapes(bytes: usize) -> [Frames; 4] {
    let half = bytes / 2;
    [
        vec![body(bytes)],
        vec![body(half), body(bytes - half)],
        vec![Vec::new(), body(bytes)],
        vec![body(bytes), Vec::new(), Vec::new()],
    ]
}

fn pieces() -> [Vec<usize>; 3] {
    [vec![usize::MAX], vec![7], vec![1_000, 1]]
}

/// What we say of a message of omq.
fn receive(limits: ConnectionLimits, pieces: Vec<usize>, message: &Frames) -> Result<(), Ending> {
    let mut pair = Pair::open(Setup { limits, pieces, ..Setup::default() });
    pair.omq_send(message);
    match pair.exchange() {
        Ok(()) => assert!(pair.messages == [message.clone()]),
        Err(Failure::Ours(ending)) => {
            assert_eq!(pair.messages.len(), 0);
            assert!(!pair.ours.is_open());
            return Err(ending);
        }
        Err(Failure::Omq(error)) => panic!("{error}"),
    }
    Ok(())
}

#[test]
fn message_of_omq_may_have_as_many_bytes_as_the_limit_says() {
    for max in BYTES {
        let limits = ConnectionLimits { message_bytes_max: max, ..Default::default() };
        for pieces in pieces() {
            for message in shapes(max - 1).iter().chain(&shapes(max)) {
                assert_eq!(receive(limits, pieces.clone(), message), Ok(()), "{max}");
            }
            for message in &shapes(max + 1) {
                let bytes = u64::try_from(max + 1).unwrap();
                let ending = Ending::Stream(StreamError::MessageTooLarge { bytes, max });
                assert_eq!(receive(limits, pieces.clone(), message), Err(ending));
            }
        }
    }
}

#[test]
fn message_of_omq_may_have_as_many_frames_as_the_limit_says() {
    for max in FRAMES {
        let limits = ConnectionLimits { message_frames_max: max, ..Default::default() };
        for size in [0, 1, 300] {
            let message = |count: usize| vec![body(size); count];
            for pieces in pieces() {
                for count in [(max - 1).max(1), max] {
                    assert_eq!(receive(limits, pieces.clone(), &message(count)), Ok(()), "{max}");
                }
                let ending = Ending::Stream(StreamError::TooManyFrames { max });
                assert_eq!(receive(limits, pieces, &message(max + 1)), Err(ending));
            }
        }
    }
}

/// Whether omq takes a message of ours. A payload's own size counts for each frame.
fn omq_takes(max: usize, pieces: Vec<usize>, message: &Frames) -> bool {
    let own = message.len() * size_of::<omq_proto::Payload>();
    let omq_max_message_size = Some(max + own);
    let mut pair = Pair::open(Setup { omq_max_message_size, pieces, ..Setup::default() });
    pair.send(message);
    match pair.exchange() {
        Ok(()) => {
            assert!(pair.omq_messages == [message.clone()]);
            true
        }
        Err(Failure::Omq(omq_proto::Error::MessageTooLarge { .. })) => false,
        Err(failure) => panic!("{failure:?}"),
    }
}

#[test]
fn omq_counts_the_bytes_of_our_messages_as_they_are() {
    for max in BYTES {
        for pieces in pieces() {
            for bytes in [max - 1, max, max + 1] {
                for message in &shapes(bytes) {
                    assert_eq!(omq_takes(max, pieces.clone(), message), bytes <= max, "{max}");
                }
            }
        }
    }
}
