//! Accounts for every request of a run: each was answered once, by somebody who executed it, or its
//! loss has an explanation that the broker may have.
//!
//! Clients, workers and whoever brings the faults about write down what they did, with times of one
//! clock ([`now_ns`](crate::now_ns)). [`account`] puts it together. What is not allowed is a
//! [`Violation`] with the request's whole story; everything else is counted in a table.

mod check;
mod counted;
mod story;

use std::{collections::BTreeMap, fmt, time::Duration};

pub use check::account;

/// How often the services of a request may execute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    /// Again after a worker was lost, up to [`Rules::attempts_max`] times for each submission.
    AtLeastOnce,
    /// Never twice.
    AtMostOnce,
}

/// Names one submission of a request: what a client sent to one node once. It stands in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubmissionId {
    /// Whose.
    pub client: u32,
    /// Which of its requests.
    pub request: u32,
    /// Which time it was submitted, from 0.
    pub round: u8,
}

impl SubmissionId {
    /// As it stands in a body or record.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let id = Self {
            client: parts.next()?.parse().ok()?,
            request: parts.next()?.parse().ok()?,
            round: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(id)
    }
}

impl fmt::Display for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.client, self.request, self.round)
    }
}

/// How a submission ended for its client; times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply came.
    Answered {
        /// When.
        at: u64,
    },
    /// Nothing came until the client gave up, or the run ended.
    Silence {
        /// When that was.
        until: u64,
    },
    /// The client's connection to the node was lost, and the reply with it.
    ConnectionLost {
        /// When.
        at: u64,
    },
}

impl Outcome {
    /// When the client knew.
    #[must_use]
    pub const fn at(self) -> u64 {
        match self {
            Self::Answered { at } | Self::ConnectionLost { at } => at,
            Self::Silence { until } => until,
        }
    }
}

/// One submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Its name.
    pub id: SubmissionId,
    /// Which of [`Rules::services`].
    pub service: usize,
    /// The node that it was sent to: its origin.
    pub node: usize,
    /// When it was handed to the socket, in nanoseconds.
    pub sent_at: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// A reply that came to a client that does not wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// To which client.
    pub client: u32,
    /// From which node.
    pub node: usize,
    /// When, in nanoseconds.
    pub at: u64,
    /// What it answers; the body, if that is no name of a submission.
    pub answers: Result<SubmissionId, String>,
}

/// A worker began to execute a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Which.
    pub id: SubmissionId,
    /// The worker's number.
    pub worker: usize,
    /// The node that it was registered at.
    pub node: usize,
    /// When, in nanoseconds.
    pub at: u64,
    /// When the worker had handed its reply to the socket; none if it was killed before.
    pub answered_at: Option<u64>,
}

/// A worker left its node, or was sent away, without having been killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parting {
    /// The worker's number.
    pub worker: usize,
    /// The node that it was registered at.
    pub node: usize,
    /// When, in nanoseconds.
    pub at: u64,
}

/// What was done to a node, a link or a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// kill -9, until the node was ready again.
    NodeKilled(usize),
    /// SIGSTOP, until it was let go on.
    NodeFrozen(usize),
    /// All its connections to other nodes were held up.
    NodeCutOff(usize),
    /// The connection by which two nodes bring each other requests was held up or refused, in one
    /// direction or both.
    LinkCut(usize, usize),
    /// kill -9, until another took its place.
    WorkerKilled(usize),
    /// SIGSTOP, until it was let go on.
    WorkerFrozen(usize),
}

impl FaultKind {
    /// What it is called in a table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeKilled(_) => "node killed",
            Self::NodeFrozen(_) => "node frozen",
            Self::NodeCutOff(_) => "node cut off",
            Self::LinkCut(..) => "link cut",
            Self::WorkerKilled(_) => "worker killed",
            Self::WorkerFrozen(_) => "worker frozen",
        }
    }
}

/// A fault with its times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// From just before it was brought about.
    pub from: u64,
    /// Until just after it was repaired.
    pub until: u64,
}

/// How many requests a node says to have dropped between two looks at its counters, which stand with
/// the node that a client sent them to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drops {
    /// The node.
    pub node: usize,
    /// When it was looked at before, or was started.
    pub from: u64,
    /// When it was looked at.
    pub until: u64,
    /// How many.
    pub count: Dropped,
}

/// How many requests a node says to have dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// `expired`: they waited longer than their time to live.
    pub expired: u64,
    /// `attempts_exhausted`: as many workers as allowed were lost with them.
    pub attempts_exhausted: u64,
    /// `outcome_unknown`: at-most-once, and the worker or the link was lost.
    pub outcome_unknown: u64,
}

impl Dropped {
    /// What was counted after `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            expired: self.expired - before.expired,
            attempts_exhausted: self.attempts_exhausted - before.attempts_exhausted,
            outcome_unknown: self.outcome_unknown - before.outcome_unknown,
        }
    }
}

/// Everything that was written down.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By clients.
    pub submissions: Vec<Submission>,
    /// By clients.
    pub strays: Vec<Stray>,
    /// By workers.
    pub executions: Vec<Execution>,
    /// By workers.
    pub partings: Vec<Parting>,
    /// By whoever brought them about.
    pub faults: Vec<Fault>,
    /// By nodes.
    pub drops: Vec<Drops>,
}

/// What holds for a run.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How each service is delivered.
    pub services: Vec<Delivery>,
    /// The service of each worker.
    pub worker_services: Vec<usize>,
    /// `broker.max_attempts`.
    pub attempts_max: usize,
    /// `broker.request_ttl`.
    pub ttl: Duration,
    /// For how long after a fault was repaired requests may still be lost by it: until links and connections
    /// are made again.
    pub reach: Duration,
    /// For how long after it was repaired workers may still leave: until they and their nodes have noticed
    /// what they missed.
    pub parting_reach: Duration,
    /// How long a request that nothing holds up takes to its worker, and a reply to its client, at most. A
    /// fault that begins later than this after a worker has answered explains no lost reply.
    pub under_way: Duration,
}

/// Why a submission may have got no reply, or what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Explanation {
    /// It was answered, after one execution.
    Answered,
    /// It was answered, after more than one execution.
    AnsweredAgain,
    /// The node that it was sent to was killed.
    OriginKilled,
    /// The node that it was sent to was frozen and lost the client's connection.
    ClientLost,
    /// At-most-once: it was given to a worker that was lost, or over a link that was.
    OutcomeUnknown,
    /// A fault held it up until its time to live was over.
    Expired,
    /// It was given to as many workers as allowed, and all were lost.
    AttemptsExhausted,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answered => "answered",
            Self::AnsweredAgain => "answered, executed again after a loss",
            Self::OriginKilled => "lost: its origin was killed",
            Self::ClientLost => "lost: its origin was frozen and the client's connection broke",
            Self::OutcomeUnknown => "lost: at-most-once, with a lost worker, node or link",
            Self::Expired => "lost: its time to live ran out",
            Self::AttemptsExhausted => "lost: its attempts ran out",
        })
    }
}

/// Something that may not happen, with the whole story of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What kind.
    pub kind: Wrong,
    /// Everything that is known about it.
    pub story: String,
}

/// What may not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// A client got a reply that another one asked for, or nobody.
    WrongClient,
    /// A client got a second reply.
    SecondReply,
    /// A reply came without an execution.
    Invented,
    /// Something was executed that nobody sent.
    NeverSent,
    /// At-most-once, and executed twice.
    ExecutedTwice,
    /// Executed more often than attempts are allowed.
    TooManyAttempts,
    /// Executed again without a fault.
    ExecutedAgainUnforced,
    /// No reply, and no fault explains it.
    Unexplained,
    /// More requests are missing than nodes say to have dropped.
    Uncounted,
    /// A worker was sent away or left alone without a fault.
    WorkerLostUnforced,
}

/// The outcome of [`account`].
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// How many submissions have each explanation, by delivery.
    pub explained: BTreeMap<(Explanation, Delivery), usize>,
    /// How many faults of each kind there were.
    pub faults: BTreeMap<&'static str, usize>,
    /// Executions at another node than the origin.
    pub relayed: usize,
    /// All executions.
    pub executed: usize,
    /// How often each thing happened that may not have.
    pub wrong: BTreeMap<Wrong, usize>,
    /// Some of them, with their stories.
    pub violations: Vec<Violation>,
}

impl Account {
    /// How many submissions of any delivery have this explanation.
    #[must_use]
    pub fn count(&self, explanation: Explanation) -> usize {
        let of = self.explained.iter().filter(|((other, _), _)| *other == explanation);
        of.map(|(_, count)| count).sum()
    }

    /// How often something of this kind happened that may not have.
    #[must_use]
    pub fn wrong_count(&self, kind: Wrong) -> usize {
        self.wrong.get(&kind).copied().unwrap_or_default()
    }

    /// How many faults of a kind there were, by their name.
    #[must_use]
    pub fn fault_count(&self, name: &str) -> usize {
        self.faults.get(name).copied().unwrap_or_default()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.faults {
            writeln!(f, "{count:>9}  {name}")?;
        }
        for ((explanation, delivery), count) in &self.explained {
            writeln!(f, "{count:>9}  {explanation} ({delivery:?})")?;
        }
        write!(f, "{:>9}  executions, {} of them relayed", self.executed, self.relayed)
    }
}

#[cfg(test)]
mod tests;
