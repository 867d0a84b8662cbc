//! Messages of clients, byte by byte, and what bodies say.

use crate::observation::{RegistrationId, RequestId};

/// Which protocol an actor speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// 7/MDP.
    V1,
    /// 18/MDP.
    V2,
}

/// What a broker sends to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FromBroker {
    Request { address: Vec<u8>, body: Vec<Vec<u8>> },
    Heartbeat,
    Disconnect,
}

/// What a broker sends to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) is_last: bool,
    pub(super) service: Vec<u8>,
    pub(super) body: Vec<Vec<u8>>,
}

/// A message of these frames.
pub(super) fn message(frames: &[&[u8]]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| frame.to_vec()).collect()
}

/// A client's REQUEST.
pub(super) fn request(dialect: Dialect, service: &str, body: &[u8]) -> Vec<Vec<u8>> {
    match dialect {
        Dialect::V1 => message(&[b"", b"MDPC01", service.as_bytes(), body]),
        Dialect::V2 => message(&[b"MDPC02", &[1], service.as_bytes(), body]),
    }
}

/// Reads a reply; `None`: it is none of this dialect.
pub(super) fn reply(dialect: Dialect, frames: &[Vec<u8>]) -> Option<Reply> {
    let (is_last, rest) = match (dialect, frames) {
        (Dialect::V1, [empty, header, rest @ ..]) if empty.is_empty() && header == b"MDPC01" => {
            (true, rest)
        }
        (Dialect::V2, [header, command, rest @ ..]) if header == b"MDPC02" => {
            match command.as_slice() {
                [2] => (false, rest),
                [3] => (true, rest),
                _ => return None,
            }
        }
        _ => return None,
    };
    match rest {
        [service, body @ ..] if !body.is_empty() => {
            Some(Reply { is_last, service: service.clone(), body: body.to_vec() })
        }
        _ => None,
    }
}

/// One part of what a worker says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) request: RequestId,
    pub(super) by: RegistrationId,
    /// Which part, from zero.
    pub(super) part: u32,
    /// Whether it is the last.
    pub(super) is_last: bool,
}

impl Said {
    pub(super) fn write(&self) -> Vec<u8> {
        let Self { request, by, part, is_last } = self;
        let end = if *is_last { "end" } else { "more" };
        format!("{request} {} {} {part} {end}", by.worker, by.number).into_bytes()
    }

    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(frame).ok()?.split(' ');
        let said = Self {
            request: RequestId::parse(words.next()?)?,
            by: RegistrationId {
                worker: words.next()?.parse().ok()?,
                number: words.next()?.parse().ok()?,
            },
            part: words.next()?.parse().ok()?,
            is_last: words.next()? == "end",
        };
        words.next().is_none().then_some(said)
    }
}
