//! What nodes tell each other about requests.
//!
//! The *origin* of a request is the node that its client is connected to; the *owner* is the node
//! whose worker executes it. A link carries requests one way: a node that is origin and owner has
//! a link in each direction.
//!
//! | direction | type | decode | encode |
//! |---|---|---|---|
//! | origin → owner | [`ToOwner`] | [`AtOwner::decode`] | [`ToOwner::encode`] |
//! | owner → origin | [`ToOrigin`] | [`AtOrigin::decode`] | [`ToOrigin::encode`] |
//! | origin → owner | [`Hello`] | [`AtOwner::decode`] | [`Hello::encode`] |
//! | owner → origin | [`Welcome`], [`Refusal`] | [`AtOrigin::decode`] | [`Welcome::encode`], [`Refusal::encode`] |
//!
//! | owner → origin | a sign of life, the end | [`AtOrigin::decode`] | [`encode_ping`], [`encode_bye`] |
//!
//! Every message begins with a head: kind, format, and what the message says of itself. The body
//! frames of a request or reply follow it and pass unchanged.
//!
//! The formats of all kinds are one wire version, which the owner chooses in its [`Welcome`] from
//! those that both sides know. Greetings are outside of it: their format never changes. What newer
//! versions have to say in one stands behind what there is, where older ones do not look. So nodes
//! of any two versions can tell each other, by name, that they have none in common.

mod bytes;
mod decode;
mod encode;
mod greeting;
mod networks;

use std::time::Duration;

pub use self::{
    decode::{AtOrigin, AtOwner, RelayDecodeError},
    encode::{HEAD_BYTES_MAX, encode_bye, encode_ping},
    greeting::{Hello, Refusal, RefusalReason, Welcome, WireRange},
};
use crate::{Body, ServiceName};

/// The wire versions that this program knows.
pub const WIRE: WireRange = WireRange { min: 1, max: 1 };

/// Those of the program that stands in for the next version in tests.
#[cfg(feature = "test-next")]
pub const NEXT_WIRE: WireRange = WireRange { min: 1, max: 2 };

/// The most frames of one message. What a node accepts from its own peers is far below.
pub const RELAY_FRAMES_MAX: usize = 8_192;

/// The most entries of one list of a [`Load`]: far more than the engine's own limits allow.
pub const LOAD_ENTRIES_MAX: usize = 1 << 22;

/// The format of everything in wire version 1.
const FORMAT: u16 = 1;

/// Names one request on one link; it rises and is never used again there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardId(pub u64);

/// A request on its way to the node that has a worker for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward<S, F> {
    /// What the link calls it.
    pub id: ForwardId,
    /// Which of the origin's clients it comes from, so that the owner can be fair to them.
    pub client: u64,
    /// How long it may still wait for a worker; whole milliseconds on the wire.
    pub ttl: Duration,
    /// The service.
    pub service: S,
    /// The body, opaque.
    pub body: Body<F>,
}

/// What the origin of requests says. `S` is the service name: [`ServiceFrame`](crate::ServiceFrame)
/// as received, [`ServiceName`] when sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToOwner<S, F> {
    /// Give this to one of your workers.
    Forward(Forward<S, F>),
    /// If no worker has it yet, return it. The owner of one that has started says nothing.
    Cancel(ForwardId),
}

/// How much of a service an origin may use at an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The service.
    pub service: ServiceName,
    /// How many workers the owner has for it; zero: it takes no more requests.
    pub workers: u32,
    /// How many of this origin's requests workers could have at once now: those that they have, and
    /// one for each idle worker. An origin that uses a service alone does not change it by that.
    pub share: u32,
}

/// What has changed at an owner since it last said so, for one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Services whose capacity is another now.
    pub capacity: Vec<Capacity>,
    /// Requests that found no idle worker, and wait.
    pub waiting: Vec<ForwardId>,
    /// Requests that were said to wait, and that a worker has now.
    pub started: Vec<ForwardId>,
}

impl Load {
    /// Whether it says nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.capacity.is_empty() && self.waiting.is_empty() && self.started.is_empty()
    }
}

/// Why a request comes back without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReturnCause {
    /// The origin asked for it; no worker had it.
    Cancelled,
    /// The owner has no worker for the service, or leaves; no worker had it.
    NoWorker,
    /// The owner has no room; no worker had it.
    NoRoom,
    /// It waited longer than its time to live; no worker had it.
    Expired,
    /// The worker that had it is lost: it may have been executed.
    WorkerLost,
}

impl ReturnCause {
    /// Whether a worker may have executed it.
    #[must_use]
    pub const fn was_handed_over(self) -> bool {
        match self {
            Self::WorkerLost => true,
            Self::Cancelled | Self::NoWorker | Self::NoRoom | Self::Expired => false,
        }
    }
}

/// What the owner says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToOrigin<F> {
    /// What has changed.
    Load(Load),
    /// A reply, or a part of one.
    Reply {
        /// To which request.
        id: ForwardId,
        /// Whether nothing follows.
        is_last: bool,
        /// The body, opaque.
        body: Body<F>,
    },
    /// There will be no reply from here.
    Return {
        /// Which request.
        id: ForwardId,
        /// Why.
        cause: ReturnCause,
    },
}
