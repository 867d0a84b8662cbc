//! [`CurveJob`]: a computation of a handshake, which any thread may do.

use std::{sync::Arc, time::Instant};

use super::{
    CurveError, ServerKeys,
    cookie::{CookieKeys, Ticket},
    entropy::Entropy,
    server::{Established, HelloJob, InitiateJob, Welcome},
    wire::Hello,
};
use crate::ConnectionId;

/// A command of the handshake that came and waits for what only the transport has: keys and randomness.
#[derive(Debug)]
pub(crate) enum PendingCommand {
    /// The first one.
    Hello(Vec<u8>),
    /// The second one.
    Initiate { body: Vec<u8>, ticket: Ticket, hello_number: u64 },
}

impl PendingCommand {
    /// The command, whose place is of no use then.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Hello(Vec::new()))
    }

    /// What its job computes.
    pub(crate) const fn kind(&self) -> JobKind {
        match self {
            Self::Hello(_) => JobKind::Hello,
            Self::Initiate { .. } => JobKind::Initiate,
        }
    }
}

/// What a job computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobKind {
    /// The answer to a HELLO.
    Hello,
    /// What an INITIATE shows.
    Initiate,
}

/// Which port a job belongs to: each port numbers its connections for itself, so that the same
/// [`ConnectionId`] is that of another peer at another port. A job keeps the mark of its port alive, so no
/// other port can have the same.
#[derive(Clone, Default)]
pub(crate) struct PortMark(Arc<()>);

impl PortMark {
    /// Whether it is the mark of the same port.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for PortMark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PortMark(..)")
    }
}

/// Where the result of a job belongs.
#[derive(Clone, Debug)]
pub(crate) struct JobPlace {
    pub(crate) port: PortMark,
    pub(crate) id: ConnectionId,
    pub(crate) kind: JobKind,
}

/// What the accepting side of a port needs for CURVE.
#[derive(Debug)]
pub(crate) struct Server {
    keys: ServerKeys,
    cookie_keys: CookieKeys,
}

/// A computation of a handshake: [`run`](Self::run) takes some 0.1 ms. It has its connection's secrets, and
/// does not print them.
#[derive(Debug)]
#[must_use = "the connection waits for its result"]
pub struct CurveJob {
    place: JobPlace,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Hello(Box<HelloJob>),
    Initiate(Box<InitiateJob>),
    /// What came is of no use, which was seen at once.
    None(CurveError),
}

/// What came out of a [`CurveJob`].
#[derive(Debug)]
#[must_use = "the connection waits for it"]
pub struct CurveJobResult {
    pub(crate) place: JobPlace,
    pub(crate) outcome: Result<CurveOutcome, CurveError>,
}

#[derive(Debug)]
pub(crate) enum CurveOutcome {
    Welcome(Welcome),
    Established(Box<Established>),
}

impl Server {
    pub(crate) fn new(keys: ServerKeys) -> Self {
        Self { keys, cookie_keys: CookieKeys::default() }
    }

    /// From now on other keys are served. Cookies that were given away stay good.
    pub(crate) fn set_keys(&mut self, keys: ServerKeys) {
        self.keys = keys;
    }

    /// Overwrites the keys whose time is over.
    pub(crate) fn forget_old_keys(&mut self, now: Instant) {
        self.cookie_keys.forget_old(now);
    }

    /// The job that a command of a peer makes.
    pub(crate) fn job(
        &mut self,
        now: Instant,
        place: JobPlace,
        entropy: &mut Entropy,
        command: PendingCommand,
    ) -> CurveJob {
        let work = self.work(now, entropy, command).unwrap_or_else(Work::None);
        CurveJob { place, work }
    }

    fn work(
        &mut self,
        now: Instant,
        entropy: &mut Entropy,
        command: PendingCommand,
    ) -> Result<Work, CurveError> {
        Ok(match command {
            PendingCommand::Hello(body) => Work::Hello(Box::new(HelloJob {
                hello: Hello::parse(&body)?,
                keys: self.keys.clone(),
                cookie_key: self.cookie_keys.sealing(now, entropy),
                random: entropy.draw(),
            })),
            PendingCommand::Initiate { body, ticket, hello_number } => {
                let cookie_key = self.cookie_keys.of(now, &ticket)?;
                let initiate = body;
                Work::Initiate(Box::new(InitiateJob { initiate, ticket, hello_number, cookie_key }))
            }
        })
    }
}

impl CurveJob {
    /// The connection that waits for it.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.place.id
    }

    /// Does it.
    pub fn run(self) -> CurveJobResult {
        let outcome = match self.work {
            Work::Hello(job) => job.run().map(CurveOutcome::Welcome),
            Work::Initiate(job) => job.run().map(Box::new).map(CurveOutcome::Established),
            Work::None(error) => Err(error),
        };
        CurveJobResult { place: self.place, outcome }
    }
}

const _: fn() = || {
    const fn is_send<T: Send>() {}
    is_send::<CurveJob>();
    is_send::<CurveJobResult>();
};
