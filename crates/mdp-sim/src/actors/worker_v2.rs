//! What a worker of 18/MDP writes and reads, frame by frame.

use super::frames::{FromBroker, message};

const HEADER: &[u8] = b"MDPW02";

pub(super) fn ready(service: &str) -> Vec<Vec<u8>> {
    message(&[HEADER, &[1], service.as_bytes()])
}

pub(super) fn partial(address: &[u8], body: &[u8]) -> Vec<Vec<u8>> {
    message(&[HEADER, &[3], address, b"", body])
}

pub(super) fn last(address: &[u8], body: &[u8]) -> Vec<Vec<u8>> {
    message(&[HEADER, &[4], address, b"", body])
}

pub(super) fn heartbeat() -> Vec<Vec<u8>> {
    message(&[HEADER, &[5]])
}

pub(super) fn disconnect() -> Vec<Vec<u8>> {
    message(&[HEADER, &[6]])
}

/// `None`: no message of a broker.
pub(super) fn read(frames: &[Vec<u8>]) -> Option<FromBroker> {
    match frames {
        [header, rest @ ..] if header == HEADER => match rest {
            [command] if *command == [5] => Some(FromBroker::Heartbeat),
            [command] if *command == [6] => Some(FromBroker::Disconnect),
            [command, address, empty, body @ ..]
                if *command == [2] && empty.is_empty() && !body.is_empty() =>
            {
                Some(FromBroker::Request { address: address.clone(), body: body.to_vec() })
            }
            _ => None,
        },
        _ => None,
    }
}
