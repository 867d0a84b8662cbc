//! [`CurveJob`]: a computation of a handshake, which any thread may do.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

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
}

/// What the accepting side of a port needs for CURVE.
#[derive(Debug)]
pub(crate) struct Server {
    keys: ServerKeys,
    cookie_keys: CookieKeys,
    /// A number that no other port has: connections of two ports may have the same id.
    port: u64,
}

/// A computation of a handshake: [`run`](Self::run) takes some 0.1 ms. It has its connection's secrets, and
/// does not print them.
#[derive(Debug)]
#[must_use = "the connection waits for its result"]
pub struct CurveJob {
    id: ConnectionId,
    port: u64,
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
    pub(crate) id: ConnectionId,
    port: u64,
    pub(crate) outcome: Result<CurveOutcome, CurveError>,
}

#[derive(Debug)]
pub(crate) enum CurveOutcome {
    Welcome(Welcome),
    Established(Box<Established>),
}

impl Server {
    pub(crate) fn new(keys: ServerKeys) -> Self {
        static PORTS: AtomicU64 = AtomicU64::new(0);
        let port = PORTS.fetch_add(1, Ordering::Relaxed);
        Self { keys, cookie_keys: CookieKeys::default(), port }
    }

    /// Whether this is the result of a job of this port.
    pub(crate) const fn is_own(&self, result: &CurveJobResult) -> bool {
        result.port == self.port
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
        id: ConnectionId,
        entropy: &mut Entropy,
        command: PendingCommand,
    ) -> CurveJob {
        let work = self.work(now, entropy, command).unwrap_or_else(Work::None);
        CurveJob { id, port: self.port, work }
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
        self.id
    }

    /// Does it.
    pub fn run(self) -> CurveJobResult {
        let outcome = match self.work {
            Work::Hello(job) => job.run().map(CurveOutcome::Welcome),
            Work::Initiate(job) => job.run().map(Box::new).map(CurveOutcome::Established),
            Work::None(error) => Err(error),
        };
        CurveJobResult { id: self.id, port: self.port, outcome }
    }
}

const _: fn() = || {
    const fn is_send<T: Send>() {}
    is_send::<CurveJob>();
    is_send::<CurveJobResult>();
};
