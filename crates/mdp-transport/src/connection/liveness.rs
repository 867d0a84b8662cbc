//! Whether the peer is still there (37/ZMTP).

use std::time::{Duration, Instant};

use super::Ending;
use crate::{ADMISSION_HELD_FOR, ConnectionLimits, OWNER_ANSWERS_WITHIN, PongRule};

/// How long a peer like this one takes to refuse a key.
const PEER_DECIDES_FOR: Duration = ADMISSION_HELD_FOR.saturating_add(OWNER_ANSWERS_WITHIN);

/// A PING is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SendPing {
    pub(super) ttl_deciseconds: u16,
}

/// The deadlines of one connection.
#[derive(Debug)]
pub(super) struct Liveness {
    handshake_timeout: Duration,
    ping_interval: Duration,
    pong_timeout: Duration,
    pong_rule: PongRule,
    ping_ttl_deciseconds: u16,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Handshake {
        deadline: Instant,
    },
    /// The owner decides on the peer's key, and sees to it that this has an end.
    Admission,
    Open(Open),
}

#[derive(Debug)]
struct Open {
    /// `None`: the peer speaks ZMTP 3.0, which has no PING.
    ping_at: Option<Instant>,
    /// Whether the peer has answered a PING, or is known to. One that never did may be a library that
    /// can not.
    has_answered: bool,
    /// Whether silence ends the connection at all.
    is_pong_required: bool,
    /// When the answer to a PING is overdue, if one was written since the peer was heard.
    pong_deadline: Option<Instant>,
    /// What the peer's last PING promised: how long it is silent at most.
    ttl: Duration,
    ttl_deadline: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(now: Instant, limits: &ConnectionLimits) -> Self {
        Self {
            handshake_timeout: limits.handshake_timeout,
            ping_interval: limits.ping_interval,
            pong_timeout: limits.pong_timeout,
            pong_rule: limits.pong_rule,
            ping_ttl_deciseconds: u16::try_from(limits.ping_ttl.as_millis() / 100)
                .unwrap_or(u16::MAX),
            phase: Phase::Handshake { deadline: now + limits.handshake_timeout },
        }
    }

    pub(super) fn on_opened(&mut self, now: Instant, minor: u8) {
        self.phase = Phase::Open(Open {
            ping_at: (minor >= 1).then_some(now + self.ping_interval),
            has_answered: self.pong_rule == PongRule::Always,
            is_pong_required: true,
            pong_deadline: None,
            ttl: Duration::ZERO,
            ttl_deadline: None,
        });
    }

    /// This side has shown its key: the peer may take its time to decide.
    pub(super) fn on_shown(&mut self, now: Instant) {
        self.phase = Phase::Handshake { deadline: now + self.handshake_timeout + PEER_DECIDES_FOR };
    }

    /// The peer has shown its key, and has to wait.
    pub(super) const fn on_awaits_admission(&mut self) {
        self.phase = Phase::Admission;
    }

    /// Any byte is a sign of life.
    pub(super) fn on_received(&mut self, now: Instant) {
        let Phase::Open(open) = &mut self.phase else { return };
        // A TTL is a promise about this side: it is kept by PINGs, however much the peer says.
        if self.ping_ttl_deciseconds == 0 {
            open.ping_at = open.ping_at.map(|_| now + self.ping_interval);
        }
        open.pong_deadline = None;
        open.ttl_deadline = (!open.ttl.is_zero()).then_some(now + open.ttl);
    }

    /// A TTL of zero promises nothing.
    pub(super) fn on_ping(&mut self, now: Instant, ttl_deciseconds: u16) {
        let Phase::Open(open) = &mut self.phase else { return };
        open.ttl = Duration::from_millis(100) * u32::from(ttl_deciseconds);
        open.ttl_deadline = (!open.ttl.is_zero()).then_some(now + open.ttl);
    }

    pub(super) const fn on_pong(&mut self) {
        if let Phase::Open(open) = &mut self.phase {
            open.has_answered = true;
        }
    }

    /// This process stood still, and may not have read what the peer said: it is asked again.
    pub(super) fn rearm(&mut self, now: Instant) {
        let Phase::Open(open) = &mut self.phase else { return };
        open.ping_at = open.ping_at.map(|_| now);
        open.pong_deadline = None;
        open.ttl_deadline = (!open.ttl.is_zero()).then_some(now + open.ttl);
    }

    /// The first PING since the peer was heard was written: the peer can not have answered it before.
    pub(super) fn on_ping_written(&mut self, now: Instant) {
        let Phase::Open(open) = &mut self.phase else { return };
        if open.has_answered && open.is_pong_required && open.pong_deadline.is_none() {
            open.pong_deadline = Some(now + self.pong_timeout);
        }
    }

    pub(super) const fn set_pong_required(&mut self, is_required: bool) {
        if let Phase::Open(open) = &mut self.phase {
            open.is_pong_required = is_required;
            if !is_required {
                open.pong_deadline = None;
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Handshake { deadline } => Some(*deadline),
            Phase::Admission => None,
            Phase::Open(open) => {
                [open.ping_at, open.pong_deadline, open.ttl_deadline].into_iter().flatten().min()
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<Option<SendPing>, Ending> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let open = match &mut self.phase {
            Phase::Handshake { deadline } if *deadline <= now => {
                return Err(Ending::HandshakeTimeout);
            }
            Phase::Handshake { .. } | Phase::Admission => return Ok(None),
            Phase::Open(open) => open,
        };
        if is_due(open.ttl_deadline) {
            return Err(Ending::TtlExpired);
        }
        if is_due(open.pong_deadline) {
            return Err(Ending::PongTimeout);
        }
        Ok(self.poll_ping(now))
    }

    /// The PING that is due because this side promised to say something.
    pub(super) fn poll_promised_ping(&mut self, now: Instant) -> Option<SendPing> {
        if self.ping_ttl_deciseconds == 0 {
            return None;
        }
        self.poll_ping(now)
    }

    fn poll_ping(&mut self, now: Instant) -> Option<SendPing> {
        let Phase::Open(open) = &mut self.phase else { return None };
        open.ping_at.filter(|at| *at <= now)?;
        open.ping_at = Some(now + self.ping_interval);
        Some(SendPing { ttl_deciseconds: self.ping_ttl_deciseconds })
    }
}
