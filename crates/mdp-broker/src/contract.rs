//! What goes in and what comes out: [`Input`] and [`Effect`].

use std::{net::IpAddr, sync::Arc, time::Instant};

use mdp_catalog::{CatalogChange, CatalogEntry};
use mdp_wire::{
    AtBroker, DecodeError, Defect, RequestId, ServiceFrame, ServiceName, Token, Version,
    client::Reply,
    relay::{ForwardId, ToOrigin, ToOwner},
    worker::FromBroker,
};

use crate::{Access, IdentityName, PeerId, Subject};

/// Names one question to the cluster; never reused within an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueryId(pub u64);

/// Names one connection with another node, in one direction; never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// What this node is on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkRole {
    /// It may forward requests: the other node is their owner.
    Origin,
    /// It is given requests: the other node is their origin.
    Owner,
}

/// What is known of a peer that says something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerSource {
    /// Where it connects from, if the transport knows: only used to tell refused peers apart.
    pub address: Option<IpAddr>,
    /// Who it has shown to be.
    pub subject: Subject,
}

/// What happened outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<F> {
    /// A local client or worker sent this.
    Received {
        /// Who.
        from: PeerId,
        /// What is known of it.
        source: PeerSource,
        /// What.
        message: AtBroker<F>,
    },
    /// A local peer sent something that is no message.
    Malformed {
        /// Who.
        from: PeerId,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The socket cannot reach the peer any more.
    PeerLost {
        /// Who.
        peer: PeerId,
        /// The request that was on its way to the peer and was certainly not handed over.
        unsent: Option<Token>,
    },
    /// The cluster agreed, and this node applied it.
    Committed(CatalogChange),
    /// The answer to [`Effect::Lookup`].
    LookedUp {
        /// Which question.
        query: QueryId,
        /// The answer.
        outcome: LookupOutcome,
    },
    /// The answer to [`Effect::Describe`].
    Described {
        /// Which question.
        query: QueryId,
        /// The page as JSON.
        json: Vec<u8>,
    },
    /// A link with another node is there. Nothing of it was said before, and no other link in this
    /// direction with that node is left.
    LinkUp {
        /// Which.
        link: LinkId,
        /// What this node is on it.
        role: LinkRole,
    },
    /// A link is gone, and everything on its way with it.
    LinkDown {
        /// Which.
        link: LinkId,
        /// Requests that were certainly not handed over.
        unsent: Vec<ForwardId>,
    },
    /// The origin of requests sent this, on a link where this node is their owner.
    FromOrigin {
        /// Which link.
        link: LinkId,
        /// What.
        message: ToOwner<ServiceFrame<F>, F>,
    },
    /// The owner of requests sent this, on a link where this node is their origin.
    FromOwner {
        /// Which link.
        link: LinkId,
        /// What.
        message: ToOrigin<F>,
    },
    /// From now on these grants count.
    Access(Arc<Access>),
    /// There has been no quorum for so long that the workers may be offered elsewhere by now.
    Isolated,
    /// Take no new work, finish the old.
    Drain {
        /// When to stop waiting.
        deadline: Instant,
    },
}

/// What a question about a service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupPurpose {
    /// A client asked `mmi.service`.
    Availability,
    /// Registrations wait for it: the answer must be about a moment after the question, whatever
    /// clients may be told.
    Proof,
}

/// Whether a service is offered, as of a moment after the question was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupOutcome {
    /// By the current incarnation of this node, and maybe by others.
    OfferedHere,
    /// Only by other nodes.
    OfferedElsewhere,
    /// By nobody.
    NotOffered,
    /// There is no quorum, or none in time: nobody knows.
    NoQuorum,
}

/// A page about the cluster, for the extensions of 8/MMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `mmi.directory`: services and the nodes that offer them.
    Directory,
    /// `mmi.endpoints`: where clients can go.
    Endpoints,
    /// `mmi.status`: this node's view of itself.
    Status,
    /// `mmi.status` for those who are not told everything: endpoints, limits and version.
    StatusInBrief,
}

/// A message to a local peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing<F> {
    /// To a client.
    Client(Reply<ServiceName, F>),
    /// To a worker, in the version of its READY.
    Worker {
        /// The version.
        version: Version,
        /// The message.
        message: FromBroker<Token, F>,
    },
}

/// What the shell must now do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<F> {
    /// Send this to a local client or worker.
    Send {
        /// To whom.
        to: PeerId,
        /// What.
        message: Outgoing<F>,
    },
    /// Send this to another node, on a link where this node is the origin. A link that cannot take
    /// it in time is down.
    ToOwner {
        /// Which link; it may be gone.
        link: LinkId,
        /// What.
        message: ToOwner<ServiceName, F>,
    },
    /// Send this to another node, on a link where this node is the owner.
    ToOrigin {
        /// Which link; it may be gone.
        link: LinkId,
        /// What.
        message: ToOrigin<F>,
    },
    /// Make this true in the cluster. Losing or repeating it is harmless.
    Propose(CatalogEntry),
    /// Is this offered anywhere, as of a moment after this effect?
    Lookup {
        /// Names the answer.
        query: QueryId,
        /// The service.
        service: ServiceName,
        /// What the answer is for.
        purpose: LookupPurpose,
    },
    /// Write this page.
    Describe {
        /// Names the answer.
        query: QueryId,
        /// Which page.
        page: Page,
        /// For whom: nodes may have other addresses for the clients of another network.
        asker: PeerId,
        /// Who that has shown to be: it is told of what it may see.
        subject: Subject,
    },
    /// Something that a person may want to read in the log.
    Note(Note),
    /// Nothing is left to do; the process may stop.
    Drained(Receipt),
}

/// Why a worker is no longer registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// It sent DISCONNECT.
    Left,
    /// It was silent for too long.
    Expired,
    /// Its connection is gone.
    ConnectionLost,
    /// It broke the protocol (AM-01).
    ProtocolError,
    /// This node drains.
    Draining,
    /// This node has had no quorum for too long (`cluster.minority`).
    Isolated,
    /// Its identity may not register the service any more.
    NotAllowed,
}

/// Why a READY was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationRefusal {
    /// The name is the broker's own (MMI8-03).
    ReservedName,
    /// `max_workers` are registered.
    TooManyWorkers,
    /// `max_services` are known.
    TooManyServices,
    /// This node drains.
    Draining,
    /// The READY's layout or name is wrong.
    BadReady,
    /// Its identity may not register the service.
    NotAllowed,
    /// Its identity has as many workers as it may.
    OverQuota,
}

/// What a peer was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Denial {
    /// A request.
    Call,
    /// A registration.
    Register,
    /// A question of the management interface.
    Question,
    /// A request or a registration beyond a quota.
    Quota,
}

impl Denial {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Call, Self::Register, Self::Question, Self::Quota];

    /// The value of the metric label `kind`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Register => "register",
            Self::Question => "question",
            Self::Quota => "quota",
        }
    }
}

/// Something that a person may want to read in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The first worker of a service registered.
    ServiceUp {
        /// The service.
        service: ServiceName,
    },
    /// The last worker of a service is gone.
    ServiceDown {
        /// The service.
        service: ServiceName,
    },
    /// A worker's registration is proven.
    WorkerUp {
        /// The worker.
        peer: PeerId,
        /// Its service.
        service: ServiceName,
    },
    /// A worker is no longer registered.
    WorkerDown {
        /// The worker.
        peer: PeerId,
        /// Its service.
        service: ServiceName,
        /// Why.
        end: WorkerEnd,
        /// The request that it had.
        held: Option<HeldRequest>,
    },
    /// A worker's replies lack the empty frame behind the address (AM-21): the first of its
    /// registration.
    UndelimitedReply {
        /// The worker.
        peer: PeerId,
        /// Its service.
        service: ServiceName,
    },
    /// A worker answered its request with a message that cannot be read. The request is dropped,
    /// and the worker disconnected (AM-21).
    BadAnswer {
        /// The worker.
        peer: PeerId,
        /// Its service.
        service: ServiceName,
        /// What is wrong with the message.
        defect: Defect,
        /// The request.
        held: Option<HeldRequest>,
    },
    /// A READY was refused: the first of an offender, however often it tries.
    RegistrationRefused {
        /// Who.
        peer: PeerId,
        /// Where it connects from.
        source: Option<IpAddr>,
        /// What it wanted to offer, if that is a name.
        service: Option<ServiceName>,
        /// Why.
        refusal: RegistrationRefusal,
    },
    /// A peer was denied something: the first of a kind in a while, however often it tries.
    Denied {
        /// Who.
        peer: PeerId,
        /// Its identity, if it has shown one.
        identity: Option<IdentityName>,
        /// What.
        denial: Denial,
        /// Of which service, if of one.
        service: Option<ServiceName>,
        /// Whether it was done all the same (`security.access = "report"`).
        is_done: bool,
    },
    /// The process stood still; no deadline counted meanwhile.
    Paused {
        /// For about this long, in milliseconds.
        milliseconds: u64,
    },
}

/// A request that a worker had when it ended, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRequest {
    /// The client's connection; `None`: it is one of another node.
    pub client: Option<PeerId>,
    /// Its id, if its client put one into the envelope.
    pub id: Option<RequestId>,
    /// How many workers it was handed to, this one included, as far as this node knows.
    pub attempt: u32,
}

/// What a drain did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Requests answered by this node's workers since the drain began.
    pub finished: u64,
    /// Requests given to other nodes: answered there, or returned to where they came from.
    pub handed_over: u64,
    /// Requests that were accepted and got no reply: nobody could serve them in time, their client
    /// went, or the worker that had them was lost.
    pub dropped: u64,
}
