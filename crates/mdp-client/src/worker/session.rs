//! What a worker knows about its connection and its handler.

use std::time::{Duration, Instant};

use mdp_wire::worker::FromBroker;

use crate::worker::executor::JobId;

/// The time from one READY to the end of its connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) opened_at: Instant,
    /// Something other than DISCONNECT came after READY.
    pub(crate) acknowledged: bool,
    /// When.
    pub(crate) acknowledged_at: Option<Instant>,
    /// When the next heartbeat is due.
    pub(crate) heartbeat_at: Instant,
    /// When the broker counts as lost.
    pub(crate) expires_at: Instant,
    /// When `mmi.endpoints` is asked again; `None`: not at all.
    pub(crate) ask_at: Option<Instant>,
    /// What became of the last question.
    pub(crate) question: Question,
    /// When the last message came, if that was a heartbeat.
    pub(crate) last_heartbeat_at: Option<Instant>,
    /// Where the worker would rather be.
    pub(crate) goal: Goal,
}

impl Session {
    /// The time between two heartbeats of the broker with no other message between them, which is
    /// about its interval: a message that is due later comes in the place of a heartbeat.
    pub(crate) fn heartbeat_gap(
        &mut self,
        now: Instant,
        message: &FromBroker<Vec<u8>, Vec<u8>>,
    ) -> Option<Duration> {
        let is_heartbeat = *message == FromBroker::Heartbeat;
        let last = std::mem::replace(&mut self.last_heartbeat_at, is_heartbeat.then_some(now));
        last.filter(|_| is_heartbeat).map(|last| now.saturating_duration_since(last))
    }
}

/// A question for `mmi.endpoints`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// None was asked, or it was answered.
    None,
    /// It has no answer yet.
    Asked,
    /// It had none when the next one was due.
    GivenUp,
}

/// Whether a registered worker goes to another broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Stay,
    /// It goes there if the service has another worker, which the broker was asked.
    MoveIfNotAlone {
        to: usize,
    },
    /// It goes there as soon as the handler is idle.
    Move {
        to: usize,
    },
}

/// A request that came.
#[derive(Debug)]
pub(crate) struct Held {
    /// The client address, to be given back unchanged.
    pub(crate) client: Vec<u8>,
    pub(crate) body: Vec<Vec<u8>>,
}

/// What the handler does.
#[derive(Debug)]
pub(crate) enum Handler {
    Idle,
    Busy {
        job: JobId,
        /// Where the reply goes; `None` when the connection of the request is gone.
        client: Option<Vec<u8>>,
    },
}

impl Handler {
    /// Where a part of this job's reply goes.
    pub(crate) fn client_of(&self, asked: JobId) -> Option<&Vec<u8>> {
        match self {
            Self::Busy { job, client } if *job == asked => client.as_ref(),
            Self::Busy { .. } | Self::Idle => None,
        }
    }

    /// The job is over. Returns where its reply goes.
    pub(crate) fn finish(&mut self, finished: JobId) -> Option<Vec<u8>> {
        match self {
            Self::Busy { job, client } if *job == finished => {
                let client = client.take();
                *self = Self::Idle;
                client
            }
            Self::Busy { .. } | Self::Idle => None,
        }
    }

    /// The connection of its request is gone.
    pub(crate) fn disconnect(&mut self) {
        match self {
            Self::Busy { client, .. } => *client = None,
            Self::Idle => {}
        }
    }

    /// Whether it works on something that can still be answered.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self, Self::Busy { client: Some(_), .. })
    }
}
