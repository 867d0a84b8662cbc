//! Frames to messages. Nothing that arrives can stop it.

use std::time::Duration;

use thiserror::Error;

use super::{
    Capacity, Forward, ForwardId, Hello, Load, RELAY_FRAMES_MAX, Refusal, ReturnCause, ToOrigin,
    ToOwner, Welcome, WireRange,
    bytes::{Reader, Word},
};
use crate::{Body, ServiceFrame, ServiceName, ServiceNameError, codec::Kind};

/// The fewest bytes of a [`Capacity`]: a name of one byte behind its length, and two numbers.
const CAPACITY_BYTES_MIN: usize = 10;
const ID_BYTES: usize = 8;

/// What the owner of requests can receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtOwner<S, F> {
    /// The first message on a link.
    Hello(Hello),
    /// Every other.
    Message(ToOwner<S, F>),
}

/// What the origin of requests can receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtOrigin<F> {
    /// The link is there.
    Welcome(Welcome),
    /// There is none, or none any more.
    Refusal(Refusal),
    /// A message on a link.
    Message(ToOrigin<F>),
    /// A sign of life.
    Ping,
    /// Nothing follows: the owner leaves.
    Bye,
}

/// A message that no node of this version sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RelayDecodeError {
    /// The first frame is too short for a kind and a format, or there is none.
    #[error("{got} bytes are too few for a head")]
    NoHead {
        /// How many bytes there were.
        got: usize,
    },
    /// Nothing that nodes say on links.
    #[error("kind {got} is not known")]
    UnknownKind {
        /// The kind that was found.
        got: u8,
    },
    /// A format that the wire version does not have.
    #[error("format {got} of {kind:?} is not known")]
    UnknownFormat {
        /// The kind.
        kind: Kind,
        /// The format that was found.
        got: u16,
    },
    /// Something that only the other side of a link says.
    #[error("a {kind:?} comes from the wrong side")]
    WrongSide {
        /// The kind.
        kind: Kind,
    },
    /// The head ends too soon.
    #[error("a {kind:?} is cut off")]
    CutOff {
        /// The kind.
        kind: Kind,
    },
    /// Bytes follow the head.
    #[error("{count} bytes too many after a {kind:?}")]
    TrailingBytes {
        /// The kind.
        kind: Kind,
        /// How many.
        count: usize,
    },
    /// More or fewer frames than the kind has.
    #[error("a {kind:?} cannot have {got} frames")]
    FrameCount {
        /// The kind.
        kind: Kind,
        /// How many there were.
        got: usize,
    },
    /// A list is longer than [`LOAD_ENTRIES_MAX`](super::LOAD_ENTRIES_MAX).
    #[error("a list of {got} entries is too long")]
    TooManyEntries {
        /// How many there should be.
        got: usize,
    },
    /// A number stands for nothing.
    #[error("{got} stands for nothing in a {kind:?}")]
    UnknownValue {
        /// The kind.
        kind: Kind,
        /// The number.
        got: u8,
    },
    /// A text is not UTF-8.
    #[error("a {kind:?} holds text that is none")]
    NotText {
        /// The kind.
        kind: Kind,
    },
    /// A service name is none.
    #[error(transparent)]
    ServiceName(#[from] ServiceNameError),
}

impl<F: AsRef<[u8]>> AtOwner<ServiceFrame<F>, F> {
    /// Decodes what a ROUTER received, the routing id taken off. The frames are moved out; the
    /// vector is left empty, with its capacity.
    ///
    /// # Errors
    /// The message is none that an origin sends, or of a wire version that is not in the range.
    pub fn decode(wire: WireRange, frames: &mut Vec<F>) -> Result<Self, RelayDecodeError> {
        let decoded = Self::decode_frames(wire, frames);
        frames.clear();
        decoded
    }

    fn decode_frames(wire: WireRange, frames: &mut Vec<F>) -> Result<Self, RelayDecodeError> {
        let mut head = Reader::open(first_of(frames), wire)?;
        match head.word() {
            Word::Forward => {
                let (id, client) = (ForwardId(head.u64()?), head.u64()?);
                let ttl = Duration::from_millis(u64::from(head.u32()?));
                head.end()?;
                let got = frames.len();
                check_count(Kind::Forward, got, 3, RELAY_FRAMES_MAX)?;
                let mut rest = frames.drain(1..);
                let cut_off = RelayDecodeError::FrameCount { kind: Kind::Forward, got };
                let service = ServiceFrame::try_new(rest.next().ok_or(cut_off)?)?;
                let body: Body<F> = rest.collect();
                Ok(Self::Message(ToOwner::Forward(Forward { id, client, ttl, service, body })))
            }
            Word::Cancel => {
                let id = ForwardId(head.u64()?);
                head.end()?;
                check_count(Kind::Cancel, frames.len(), 1, 1)?;
                Ok(Self::Message(ToOwner::Cancel(id)))
            }
            Word::Hello => {
                check_count(Kind::Hello, frames.len(), 1, 1)?;
                Ok(Self::Hello(Hello::read(&mut head)?))
            }
            word @ (Word::Load
            | Word::Reply
            | Word::Return
            | Word::Welcome
            | Word::Refusal
            | Word::Ping
            | Word::Bye) => Err(RelayDecodeError::WrongSide { kind: word.kind() }),
        }
    }
}

impl<F: AsRef<[u8]>> AtOrigin<F> {
    /// Decodes what a DEALER received. The frames are moved out; the vector is left empty, with its
    /// capacity.
    ///
    /// # Errors
    /// The message is none that an owner sends, or of a wire version that is not in the range.
    pub fn decode(wire: WireRange, frames: &mut Vec<F>) -> Result<Self, RelayDecodeError> {
        let decoded = Self::decode_frames(wire, frames);
        frames.clear();
        decoded
    }

    fn decode_frames(wire: WireRange, frames: &mut Vec<F>) -> Result<Self, RelayDecodeError> {
        let mut head = Reader::open(first_of(frames), wire)?;
        let kind = head.word().kind();
        if head.word() == Word::Reply {
            let (id, last) = (ForwardId(head.u64()?), head.u8()?);
            let is_last = match last {
                0 => false,
                1 => true,
                got => return Err(RelayDecodeError::UnknownValue { kind, got }),
            };
            head.end()?;
            check_count(kind, frames.len(), 2, RELAY_FRAMES_MAX)?;
            let body: Body<F> = frames.drain(1..).collect();
            return Ok(Self::Message(ToOrigin::Reply { id, is_last, body }));
        }
        check_count(kind, frames.len(), 1, 1)?;
        Self::decode_head(&mut head)
    }

    /// Everything that is one frame.
    fn decode_head(head: &mut Reader<'_>) -> Result<Self, RelayDecodeError> {
        let decoded = match head.word() {
            // The greetings of newer versions may say more.
            Word::Welcome => return Ok(Self::Welcome(Welcome::read(head)?)),
            Word::Refusal => return Ok(Self::Refusal(Refusal::read(head)?)),
            Word::Load => Self::Message(ToOrigin::Load(read_load(head)?)),
            Word::Return => {
                let (id, code) = (ForwardId(head.u64()?), head.u8()?);
                let unknown = RelayDecodeError::UnknownValue { kind: Kind::Return, got: code };
                let cause = ReturnCause::of(code).ok_or(unknown)?;
                Self::Message(ToOrigin::Return { id, cause })
            }
            Word::Ping => Self::Ping,
            Word::Bye => Self::Bye,
            word @ (Word::Forward | Word::Cancel | Word::Reply | Word::Hello) => {
                return Err(RelayDecodeError::WrongSide { kind: word.kind() });
            }
        };
        head.end()?;
        Ok(decoded)
    }
}

fn first_of<F: AsRef<[u8]>>(frames: &[F]) -> &[u8] {
    frames.first().map(AsRef::as_ref).unwrap_or_default()
}

const fn check_count(
    kind: Kind,
    got: usize,
    min: usize,
    max: usize,
) -> Result<(), RelayDecodeError> {
    if got < min || got > max {
        return Err(RelayDecodeError::FrameCount { kind, got });
    }
    Ok(())
}

fn read_load(head: &mut Reader<'_>) -> Result<Load, RelayDecodeError> {
    let count = head.count(CAPACITY_BYTES_MIN)?;
    let mut capacity = Vec::with_capacity(count);
    for _ in 0..count {
        let service = ServiceName::try_from(head.short()?)?;
        capacity.push(Capacity { service, workers: head.u32()?, share: head.u32()? });
    }
    Ok(Load { capacity, waiting: read_ids(head)?, started: read_ids(head)? })
}

fn read_ids(head: &mut Reader<'_>) -> Result<Vec<ForwardId>, RelayDecodeError> {
    let count = head.count(ID_BYTES)?;
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(ForwardId(head.u64()?));
    }
    Ok(ids)
}
