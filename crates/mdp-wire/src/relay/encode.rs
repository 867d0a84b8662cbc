//! Messages to frames.

use std::time::Duration;

use super::{Forward, Load, ReturnCause, ToOrigin, ToOwner, bytes::Writer};
use crate::{
    FrameSink, Position, ServiceName,
    codec::Kind,
    frame::{Part, put_body, put_head},
};

/// The longest head of a request or reply: so much libzmq keeps inside a message, without memory of
/// its own.
pub const HEAD_BYTES_MAX: usize = 33;

impl<F> ToOwner<ServiceName, F> {
    /// Encodes the message as a DEALER sends it, on a link of this wire version.
    ///
    /// # Errors
    /// The sink's.
    pub fn encode<K: FrameSink<F> + ?Sized>(self, wire: u16, sink: &mut K) -> Result<(), K::Error> {
        match self {
            Self::Forward(Forward { id, client, ttl, service, body }) => {
                let mut head = Writer::message(Kind::Forward, wire);
                head.u64(id.0);
                head.u64(client);
                head.u32(whole_milliseconds(ttl));
                put_head(sink, &[head.as_bytes(), service.as_bytes()])?;
                put_body(sink, body)
            }
            Self::Cancel(id) => {
                let mut head = Writer::message(Kind::Cancel, wire);
                head.u64(id.0);
                sink.put(Part::Bytes(head.as_bytes()), Position::Last)
            }
        }
    }
}

impl<F> ToOrigin<F> {
    /// Encodes the message as a ROUTER sends it, without the routing id, on a link of this wire
    /// version.
    ///
    /// # Errors
    /// The sink's.
    pub fn encode<K: FrameSink<F> + ?Sized>(self, wire: u16, sink: &mut K) -> Result<(), K::Error> {
        match self {
            Self::Load(load) => {
                sink.put(Part::Bytes(encode_load(&load, wire).as_bytes()), Position::Last)
            }
            Self::Reply { id, is_last, body } => {
                let mut head = Writer::message(Kind::Reply, wire);
                head.u64(id.0);
                head.u8(u8::from(is_last));
                put_head(sink, &[head.as_bytes()])?;
                put_body(sink, body)
            }
            Self::Return { id, cause } => {
                let mut head = Writer::message(Kind::Return, wire);
                head.u64(id.0);
                head.u8(cause.code());
                sink.put(Part::Bytes(head.as_bytes()), Position::Last)
            }
        }
    }
}

/// Encodes a sign of life, which an owner sends when it has nothing else to say.
///
/// # Errors
/// The sink's.
pub fn encode_ping<F, K: FrameSink<F> + ?Sized>(wire: u16, sink: &mut K) -> Result<(), K::Error> {
    sink.put(Part::Bytes(Writer::message(Kind::Ping, wire).as_bytes()), Position::Last)
}

/// Encodes the last message of an owner that leaves: the origin closes the link.
///
/// # Errors
/// The sink's.
pub fn encode_bye<F, K: FrameSink<F> + ?Sized>(wire: u16, sink: &mut K) -> Result<(), K::Error> {
    sink.put(Part::Bytes(Writer::message(Kind::Bye, wire).as_bytes()), Position::Last)
}

fn encode_load(load: &Load, wire: u16) -> Writer {
    let Load { capacity, waiting, started } = load;
    let mut head = Writer::message(Kind::Load, wire);
    head.count(capacity.len());
    for entry in capacity {
        head.short(entry.service.as_bytes());
        head.u32(entry.workers);
        head.u32(entry.share);
    }
    for ids in [waiting, started] {
        head.count(ids.len());
        for id in ids {
            head.u64(id.0);
        }
    }
    head
}

/// Rounded up, so that a request with a little time left is not one without any.
fn whole_milliseconds(ttl: Duration) -> u32 {
    let milliseconds = ttl.as_micros().div_ceil(1_000);
    u32::try_from(milliseconds).unwrap_or(u32::MAX)
}

impl ReturnCause {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Cancelled => 1,
            Self::NoWorker => 2,
            Self::NoRoom => 3,
            Self::Expired => 4,
            Self::WorkerLost => 5,
        }
    }

    pub(super) const fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Cancelled,
            2 => Self::NoWorker,
            3 => Self::NoRoom,
            4 => Self::Expired,
            5 => Self::WorkerLost,
            _ => return None,
        })
    }
}
