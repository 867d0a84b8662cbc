//! One accepted request, from its arrival to its last reply.

use mdp_wire::{
    Body, Frame, RequestId, ServiceFrame, Version, client,
    relay::{Forward, ForwardId},
};

use crate::{HeldRequest, LinkId, PeerId, Subject, service::ServiceId, time::Moment};

/// What one request costs besides its frames: the request itself and its places in the queue's maps.
/// Measured at 420 to 480 bytes.
pub(crate) const REQUEST_OVERHEAD_BYTES: usize = 512;
/// How many frames of a body, and of an envelope, that overhead has room for.
const FRAMES_INCLUDED: usize = 8;
/// What an allocation costs besides its bytes, about; a frame may have one of its own.
const ALLOCATION_BYTES: usize = 32;

/// The order of arrival at this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrival(pub(crate) u64);

/// Who asks: what a node is fair to (AM-20). Clients of this node come first in the order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClientId {
    /// A client of this node.
    Here(PeerId),
    /// A client of another node.
    Elsewhere {
        /// The link to its node.
        origin: LinkId,
        /// What its node calls it.
        client: u64,
    },
}

impl ClientId {
    /// No client of this node is behind it, and none of another node before it.
    pub(crate) const FIRST_ELSEWHERE: Self = Self::Elsewhere { origin: LinkId(0), client: 0 };
}

/// Where the replies go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// To a client of this node.
    Client(PeerId),
    /// To the node that forwarded it.
    Origin {
        /// By this link, or to nobody.
        link: LinkId,
        /// What the link calls the request.
        id: ForwardId,
        /// Which of its node's clients asked.
        client: u64,
    },
}

/// One accepted request.
#[derive(Debug)]
pub(crate) struct Request<F> {
    pub(crate) arrival: Arrival,
    pub(crate) arrived_at: Moment,
    pub(crate) source: Source,
    /// Who asks; about what another node brings, that one has decided.
    pub(crate) subject: Subject,
    /// Of what it is a request; `None`: it has not been given or queued yet.
    pub(crate) service: Option<ServiceId>,
    pub(crate) version: Version,
    /// Given back in front of every reply (AM-12).
    pub(crate) envelope: Vec<F>,
    pub(crate) body: Body<F>,
    /// What it counts against the byte budget.
    pub(crate) bytes: usize,
    /// When it has waited long enough (MDP7-17).
    pub(crate) deadline: Moment,
    /// How many workers, or nodes with workers, it was handed to.
    pub(crate) attempts: u32,
    /// A part of the reply has reached the client: nobody else may answer it now.
    pub(crate) is_partly_answered: bool,
    /// Partial replies kept for a 0.1 client, which knows only one reply.
    pub(crate) kept_partials: Vec<F>,
    pub(crate) kept_partial_bytes: usize,
}

impl<F: Frame> Request<F> {
    pub(crate) fn new(
        (client, subject): (PeerId, Subject),
        message: client::Request<ServiceFrame<F>, F>,
        (arrival, arrived_at): (Arrival, Moment),
        deadline: Moment,
    ) -> Box<Self> {
        // The service's name lies in one allocation with the others, and stays as long.
        let name_bytes = message.service.as_ref().len();
        let frames = bytes_of(&message.body).saturating_add(bytes_of(&message.envelope));
        let bytes = frames.saturating_add(name_bytes);
        Box::new(Self {
            arrival,
            arrived_at,
            source: Source::Client(client),
            subject,
            service: None,
            version: message.version,
            envelope: message.envelope,
            body: message.body,
            bytes: bytes.saturating_add(REQUEST_OVERHEAD_BYTES),
            deadline,
            attempts: 0,
            is_partly_answered: false,
            kept_partials: Vec::new(),
            kept_partial_bytes: 0,
        })
    }

    /// A request of another node. What its client speaks is that node's matter: all parts of the
    /// reply go there.
    pub(crate) fn forwarded(
        link: LinkId,
        forward: Forward<ServiceFrame<F>, F>,
        (arrival, arrived_at): (Arrival, Moment),
        deadline: Moment,
    ) -> Box<Self> {
        let bytes = bytes_of(&forward.body).saturating_add(REQUEST_OVERHEAD_BYTES);
        Box::new(Self {
            arrival,
            arrived_at,
            source: Source::Origin { link, id: forward.id, client: forward.client },
            subject: Subject::Unrestricted,
            service: None,
            version: Version::V02,
            envelope: Vec::new(),
            body: forward.body,
            bytes,
            deadline,
            attempts: 0,
            is_partly_answered: false,
            kept_partials: Vec::new(),
            kept_partial_bytes: 0,
        })
    }
}

impl<F: AsRef<[u8]>> Request<F> {
    /// What a log says of it when its worker ends.
    pub(crate) fn to_held(&self) -> HeldRequest {
        HeldRequest {
            client: match &self.source {
                Source::Client(peer) => Some(peer.clone()),
                Source::Origin { .. } => None,
            },
            id: self.envelope.first().and_then(|frame| RequestId::from_frame(frame.as_ref())),
            attempt: self.attempts,
        }
    }
}

impl<F> Request<F> {
    /// Who asks.
    pub(crate) fn client_id(&self) -> ClientId {
        match &self.source {
            Source::Client(peer) => ClientId::Here(peer.clone()),
            Source::Origin { link, client, .. } => {
                ClientId::Elsewhere { origin: *link, client: *client }
            }
        }
    }

    /// Whether it may be forwarded: what came from another node never is.
    pub(crate) const fn is_own(&self) -> bool {
        match self.source {
            Source::Client(_) => true,
            Source::Origin { .. } => false,
        }
    }

    /// Whether this is what the link calls so.
    pub(crate) fn is_forward(&self, forward: ForwardId) -> bool {
        match self.source {
            Source::Client(_) => false,
            Source::Origin { id, .. } => id == forward,
        }
    }
}

/// What frames cost: their bytes, and the frames themselves where they are more than the overhead of a
/// request has room for.
fn bytes_of<F: AsRef<[u8]>>(frames: &[F]) -> usize {
    let beyond = frames
        .len()
        .saturating_sub(FRAMES_INCLUDED)
        .saturating_mul(size_of::<F>() + ALLOCATION_BYTES);
    frames.iter().fold(beyond, |sum, frame| sum.saturating_add(frame.as_ref().len()))
}
