//! What happens in a run, as data: what actors do and see, and what is done to nodes.

use std::{fmt, time::Instant};

use mdp_broker::{Receipt, WorkerEnd};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    /// When, in true time.
    pub(crate) at: Instant,
    /// What.
    pub(crate) event: Event,
}

impl Observation {
    /// It happened now.
    pub(crate) const fn new(at: Instant, event: Event) -> Self {
        Self { at, event }
    }
}

/// Names one submission of a request: what a client sent to one node once. It stands in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId {
    /// The number of the client's actor.
    pub(crate) client: usize,
    /// Which of its requests.
    pub(crate) number: u32,
    /// Which time it was submitted, from zero.
    pub(crate) round: u8,
}

impl RequestId {
    /// As it stands in a body.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let id = Self {
            client: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
            round: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(id)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.client, self.number, self.round)
    }
}

/// Names one READY of one worker: each connection is another registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RegistrationId {
    /// The number of the worker's actor.
    pub(crate) worker: usize,
    /// Which of its registrations, from zero.
    pub(crate) number: u32,
}

impl fmt::Display for RegistrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}#{}", self.worker, self.number)
    }
}

/// Names one question of one asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QuestionId {
    /// The number of the asker's actor.
    pub(crate) asker: usize,
    /// Which of its questions, from zero.
    pub(crate) number: u32,
}

/// Why a registration is over, as its worker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// It sent DISCONNECT.
    Left,
    /// It got DISCONNECT.
    Disconnected,
    /// Its node was silent for too long.
    BrokerSilent,
    /// Its connection is gone.
    ConnectionLost,
    /// It died.
    Died,
}

/// What `mmi.service` said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `200`.
    Found,
    /// `404`.
    NotFound,
    /// `503`.
    Unavailable,
}

/// What an intruder did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trick {
    /// READY for a name of the broker's own.
    ReservedReady,
    /// HEARTBEAT or a reply without a READY before.
    Unregistered,
    /// READY, and once that counts, a reply with a token that nobody gave it.
    ForgedToken,
    /// DISCONNECT, twice.
    LeavesTwice,
    /// Frames that are no message.
    Garbage,
}

/// What was done to the cluster. No node and no actor named: all of them are hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What it is called in reports.
    pub(crate) kind: &'static str,
    /// Whom it hits: for a link, both ends.
    pub(crate) nodes: Vec<usize>,
    /// Clients or workers that it hits.
    pub(crate) actors: Vec<usize>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A client sent a request.
    RequestSent {
        /// Which.
        id: RequestId,
        /// The number of its service.
        service: usize,
        /// To which node.
        node: usize,
    },
    /// A part of a reply came.
    RequestPartlyAnswered {
        /// Which.
        id: RequestId,
    },
    /// The last part of its reply came, or all of it.
    RequestAnswered {
        /// Which.
        id: RequestId,
        /// Who executed it.
        by: RegistrationId,
    },
    /// The client gave up waiting.
    RequestTimedOut {
        /// Which.
        id: RequestId,
    },
    /// The client's connection is gone, and the reply with it.
    RequestLost {
        /// Which.
        id: RequestId,
    },
    /// A reply came to a client that does not wait for it.
    StrayReply {
        /// To whom.
        client: usize,
        /// What it answers; `None`: nothing that a client ever sent.
        answers: Option<RequestId>,
    },
    /// A worker sent READY.
    ReadySent {
        /// Which registration.
        id: RegistrationId,
        /// The number of its service.
        service: usize,
        /// To which node.
        node: usize,
    },
    /// The first frame other than DISCONNECT came: it is registered.
    Acknowledged {
        /// Which registration.
        id: RegistrationId,
    },
    /// A registration is over for its worker.
    WorkerParted {
        /// Which registration.
        id: RegistrationId,
        /// Why.
        parting: Parting,
        /// Whether everything that it had to send had been sent in time.
        was_healthy: bool,
    },
    /// A registration is over for its node. Its worker hears of it later, or never.
    WorkerEnded {
        /// Which registration.
        id: RegistrationId,
        /// Which node.
        node: usize,
        /// Why.
        end: WorkerEnd,
    },
    /// A node gave up a link: another node's workers do not have its requests any more.
    LinkEnded {
        /// Whose requests they were.
        origin: usize,
        /// Who had them.
        owner: usize,
    },
    /// A worker began to execute a request.
    Executed {
        /// Which.
        request: RequestId,
        /// Who.
        by: RegistrationId,
        /// The number of the service.
        service: usize,
        /// Where it is registered.
        node: usize,
    },
    /// A node has applied this index, and none had before.
    Agreed {
        /// The index of the log.
        index: u64,
        /// Which services are offered then, by their numbers.
        offered: Vec<bool>,
    },
    /// Somebody asked `mmi.service`.
    LookupSent {
        /// Which question.
        id: QuestionId,
        /// The number of the service.
        service: usize,
        /// Which node.
        node: usize,
    },
    /// The answer came.
    LookupAnswered {
        /// Which question.
        id: QuestionId,
        /// What.
        answer: Answer,
    },
    /// No answer came in time.
    LookupForgotten {
        /// Which question.
        id: QuestionId,
    },
    /// Another question to the broker itself was asked.
    MmiSent {
        /// Which question.
        id: QuestionId,
        /// Which node.
        node: usize,
        /// The code that it must be answered with.
        wanted: &'static str,
    },
    /// Another question to the broker itself was answered.
    MmiAnswered {
        /// Which question.
        id: QuestionId,
        /// The code that came.
        code: String,
    },
    /// An intruder began a trick.
    TrickBegun {
        /// Who.
        intruder: usize,
        /// What.
        trick: Trick,
        /// At which node.
        node: usize,
    },
    /// A trick is over; all that came is known.
    TrickEnded {
        /// Who.
        intruder: usize,
        /// What.
        trick: Trick,
        /// At which node.
        node: usize,
        /// Whether HEARTBEAT came.
        heartbeats: u32,
        /// Whether DISCONNECT came.
        disconnects: u32,
        /// Requests and everything else that came.
        others: u32,
        /// Whether the connection lasted until the end of the wait.
        has_lasted: bool,
    },
    /// An actor got what no broker may send.
    Wrong {
        /// Who.
        actor: usize,
        /// What.
        what: String,
    },
    /// A node's process began.
    NodeStarted {
        /// Which, counted from zero.
        node: usize,
    },
    /// A node's process was killed.
    NodeCrashed {
        /// Which.
        node: usize,
    },
    /// A node's process stands still.
    NodePaused {
        /// Which.
        node: usize,
    },
    /// It goes on.
    NodeResumed {
        /// Which.
        node: usize,
    },
    /// A node is no member any more, and its machine is off.
    MemberLeft {
        /// Which.
        node: usize,
    },
    /// A node was asked to leave.
    NodeDraining {
        /// Which.
        node: usize,
    },
    /// A drain ended, and with it the process.
    NodeDrained {
        /// Which.
        node: usize,
        /// What the engine says.
        receipt: Receipt,
    },
    /// A node's process ended by itself.
    NodeStopped {
        /// Which.
        node: usize,
        /// Why.
        reason: String,
    },
    /// A fault began.
    FaultBegan(Fault),
    /// The same fault is over. One that takes no time begins and ends at once.
    FaultEnded(Fault),
    /// No fault is left, and none will come.
    Healed,
}
