//! A client that may have many questions open and knows which answer belongs to which.

use std::time::{Duration, Instant};

use crate::{Message, RawSocket, Reachable, frames, look_for};

/// How often the client of a dead node tries to connect again.
const RECONNECT_MILLISECONDS: i32 = 20;

/// How long a question may take before the client no longer waits: `mmi.read_timeout`, with a
/// margin for a busy machine.
pub const ASK_PATIENCE: Duration = Duration::from_secs(3);

/// What `mmi.service` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// 200: somebody offers the service.
    Found,
    /// 404: nobody does.
    NotFound,
    /// 503: the node can not know.
    Unavailable,
    /// 501: there is no such `mmi.*` service.
    NotImplemented,
}

impl Code {
    fn read(frame: &[u8]) -> Self {
        match frame {
            b"200" => Self::Found,
            b"404" => Self::NotFound,
            b"503" => Self::Unavailable,
            b"501" => Self::NotImplemented,
            other => panic!("no code of mmi.service: {}", other.escape_ascii()),
        }
    }

    /// Whether the node says whether somebody offers the service.
    #[must_use]
    pub const fn is_certain(self) -> bool {
        matches!(self, Self::Found | Self::NotFound)
    }
}

/// Names one question of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// An answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which.
    pub ticket: Ticket,
    /// The body.
    pub body: Message,
}

impl Answer {
    /// The body as a code.
    #[must_use]
    #[track_caller]
    pub fn code(&self) -> Code {
        Code::read(self.body.first().map(Vec::as_slice).unwrap_or_default())
    }
}

/// A DEALER that puts a number in front of each request, as REQ with correlation does.
#[expect(missing_debug_implementations, reason = "zmq::Socket has none")]
pub struct Asker {
    socket: RawSocket,
    asked: u64,
}

impl Asker {
    /// Connects; to a node that is down, too.
    #[must_use]
    pub fn connect(node: &(impl Reachable + ?Sized)) -> Self {
        let options = |socket: &zmq::Socket| socket.set_reconnect_ivl(RECONNECT_MILLISECONDS);
        let socket = RawSocket::connect(node, &zmq::Context::new(), zmq::DEALER, options);
        Self { socket, asked: 0 }
    }

    /// Sends a question.
    pub fn ask(&mut self, service: impl AsRef<[u8]>, argument: impl AsRef<[u8]>) -> Ticket {
        self.asked += 1;
        let id = self.asked.to_be_bytes();
        self.socket.send(&frames![id, b"", b"MDPC01", service, argument]);
        Ticket(self.asked)
    }

    /// The next answer to any question, if one comes in time.
    #[must_use]
    pub fn answer_within(&self, patience: Duration) -> Option<Answer> {
        let mut frames = self.socket.recv_within(patience)?.into_iter();
        let id = frames.next().and_then(|id| <[u8; 8]>::try_from(id).ok());
        let ticket = Ticket(u64::from_be_bytes(id.unwrap_or_else(|| panic!("no number in front"))));
        // Empty frame, version, service.
        Some(Answer { ticket, body: frames.skip(3).collect() })
    }

    /// Asks and waits for that very answer.
    #[must_use]
    pub fn answer_to(
        &mut self,
        service: impl AsRef<[u8]>,
        argument: impl AsRef<[u8]>,
        patience: Duration,
    ) -> Option<Message> {
        let ticket = self.ask(service, argument);
        self.take(ticket, patience)
    }

    /// The code that answers an open question, if it comes in time. Older answers are dropped.
    #[must_use]
    pub fn code_of(&self, ticket: Ticket) -> Option<Code> {
        let body = self.take(ticket, ASK_PATIENCE)?;
        Some(Answer { ticket, body }.code())
    }

    fn take(&self, ticket: Ticket, patience: Duration) -> Option<Message> {
        let deadline = Instant::now() + patience;
        loop {
            let answer = self.answer_within(deadline.saturating_duration_since(Instant::now()))?;
            if answer.ticket == ticket {
                return Some(answer.body);
            }
        }
    }

    /// What `mmi.service` says about a service, if it says anything in time.
    #[must_use]
    pub fn try_lookup(&mut self, service: impl AsRef<[u8]>) -> Option<Code> {
        let ticket = self.ask("mmi.service", service);
        self.code_of(ticket)
    }

    /// What `mmi.service` says about a service, which it must.
    #[must_use]
    #[track_caller]
    pub fn lookup(&mut self, service: impl AsRef<[u8]>) -> Code {
        self.try_lookup(service).unwrap_or_else(|| panic!("no answer within {ASK_PATIENCE:?}"))
    }

    /// Asks until the answer is this one; returns how long that took. Until then it may be any.
    #[track_caller]
    pub fn wait_for(
        &mut self,
        service: impl AsRef<[u8]>,
        code: Code,
        patience: Duration,
    ) -> Duration {
        let started_at = Instant::now();
        let mut seen = None;
        let look = || {
            seen = self.try_lookup(&service);
            (seen == Some(code)).then_some(())
        };
        if look_for(patience, look).is_none() {
            let name = service.as_ref().escape_ascii();
            panic!(
                "mmi.service never said {code:?} about {name} within {patience:?}; last {seen:?}"
            )
        }
        started_at.elapsed()
    }
}
