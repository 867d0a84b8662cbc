//! One less than a limit, the limit, one more.

use std::time::Instant;

use mdp_transport::{ConnectionLimits, Ending, SharedFrame, StreamError};

use crate::peer::{PATIENCE, Peer, Turn, body, listen, socket};

/// Each side of a size at which the decoder changes its way.
const BYTES: [usize; 5] = [1, 255, 256, 16_384, 70_000];

/// What becomes of a message that a DEALER of libzmq sends.
fn receive(limits: ConnectionLimits, message: &[Vec<u8>]) -> Turn {
    let context = zmq::Context::new();
    let client = socket(&context, zmq::DEALER);
    let (listener, address) = listen();
    client.connect(&format!("tcp://{address}")).unwrap();
    let mut peer = Peer::accept_with(&listener, limits);
    peer.until(|peer| peer.introduction.is_some());
    client.send_multipart(message, 0).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "it took too long");
        match peer.turn() {
            Turn::Open => {}
            end @ (Turn::Closed | Turn::Ended(_)) => return end,
        }
        if let Some(came) = peer.messages.first() {
            let came: Vec<&[u8]> = came.frames.iter().map(AsRef::as_ref).collect();
            assert!(came == message);
            return Turn::Open;
        }
    }
}

#[test]
fn message_of_libzmq_may_have_as_many_bytes_as_the_limit_says() {
    for max in BYTES {
        let limits = ConnectionLimits { message_bytes_max: max, ..Default::default() };
        let shapes = |bytes| [vec![body(bytes)], vec![body(bytes / 2), body(bytes.div_ceil(2))]];
        for message in shapes(max - 1).iter().chain(&shapes(max)) {
            assert_eq!(receive(limits, message), Turn::Open, "{max}");
        }
        for message in &shapes(max + 1) {
            let bytes = u64::try_from(max + 1).unwrap();
            let ending = Ending::Stream(StreamError::MessageTooLarge { bytes, max });
            assert_eq!(receive(limits, message), Turn::Ended(ending));
        }
    }
}

#[test]
fn message_of_libzmq_may_have_as_many_frames_as_the_limit_says() {
    for max in [2, 7, 1_024] {
        let limits = ConnectionLimits { message_frames_max: max, ..Default::default() };
        for count in [max - 1, max] {
            assert_eq!(receive(limits, &vec![Vec::new(); count]), Turn::Open, "{max}");
        }
        let ending = Ending::Stream(StreamError::TooManyFrames { max });
        assert_eq!(receive(limits, &vec![Vec::new(); max + 1]), Turn::Ended(ending));
    }
}

#[test]
fn libzmq_counts_the_bytes_of_our_frames_as_they_are() {
    // The limit is one for commands, too: with 1 the READY would not come through.
    for max in &BYTES[1..] {
        let max = *max;
        for bytes in [max - 1, max, max + 1] {
            let context = zmq::Context::new();
            let client = socket(&context, zmq::DEALER);
            // It must not come back: nothing accepts it.
            client.set_reconnect_ivl(-1).unwrap();
            client.set_maxmsgsize(i64::try_from(max).unwrap()).unwrap();
            let (listener, address) = listen();
            client.connect(&format!("tcp://{address}")).unwrap();
            let mut peer = Peer::accept(&listener);
            peer.until(|peer| peer.introduction.is_some());
            peer.send(&[SharedFrame::from(body(bytes))]);
            if bytes > max {
                assert_eq!(peer.ending(), Turn::Closed, "{max}");
            } else {
                peer.turn();
                assert_eq!(client.recv_bytes(0).unwrap(), body(bytes));
            }
        }
    }
}
