//! The engine's notes as log events: service names and peers, never bodies.

use std::{net::IpAddr, time::Instant};

use mdp_broker::{HeldRequest, Note, PeerId, WorkerEnd};
use mdp_core::NodeEvent;
use mdp_rate_limiter::{RateLimiter, event};
use mdp_transport::{CurveError, Ending, Loss, Mechanism, NotZmtp3, PeerAddress};
use mdp_wire::{RequestId, ServiceName};
use tracing::field::DisplayValue;

/// Logs what a person may want to read, bounded for each source.
#[derive(Debug, Default)]
pub(crate) struct NoteLog {
    limiter: RateLimiter,
}

impl NoteLog {
    /// Logs what happened.
    pub(crate) fn log(&mut self, now: Instant, event: &NodeEvent<'_>) {
        match event {
            NodeEvent::Note { note, address } => self.log_note(now, note, *address),
            NodeEvent::Refused { address, why } => self.log_refused(now, *address, why),
            NodeEvent::Lost { peer, address, why } => self.log_lost(now, peer, *address, why),
            // The links say so themselves, with what they know of it.
            NodeEvent::LinkUp { .. } | NodeEvent::LinkDown { .. } => {}
        }
    }

    fn log_note(&mut self, now: Instant, note: &Note, peer_address: Option<PeerAddress>) {
        let address = peer_address.map(tracing::field::display);
        match note {
            Note::ServiceUp { service } => {
                let admission = self.limiter.admit(now, &("service", service));
                event!(admission, info, %service, "service up");
            }
            Note::ServiceDown { service } => {
                let admission = self.limiter.admit(now, &("service", service));
                event!(admission, info, %service, "service down");
            }
            Note::WorkerUp { peer, service } => {
                tracing::debug!(%peer, address, %service, "worker up");
            }
            Note::WorkerDown { peer, service, end, held } => {
                self.log_down(now, (peer, address), service, (*end, held.as_ref()));
            }
            Note::UndelimitedReply { peer, service } => {
                let admission = self.limiter.admit(now, &("undelimited", service));
                let text = "replies of a worker lack the empty frame behind the client address; \
                            they are taken as if it were there";
                event!(admission, info, %peer, address, %service, "{text}");
            }
            Note::BadAnswer { peer, service, defect, held } => {
                let admission = self.limiter.admit(now, &("bad answer", service));
                let text = "answer of a worker cannot be read; its request is dropped";
                let reason = defect.label();
                let (client, request, _) = fields_of(held.as_ref());
                event!(admission, warn, %peer, address, %service, reason, client, request, "{text}");
            }
            Note::RegistrationRefused { peer, source, service, refusal } => {
                // By where it comes from alone: names cost it nothing.
                let admission = self.limiter.admit(now, &("refused", source));
                let service = service.as_ref().map(tracing::field::display);
                event!(admission, info, %peer, address, service, ?refusal, "registration refused");
            }
            Note::Denied { .. } => self.log_denied(now, note, peer_address),
            Note::Paused { milliseconds } => {
                tracing::warn!(milliseconds, "this process stood still; deadlines were set anew");
            }
        }
    }

    fn log_denied(&mut self, now: Instant, note: &Note, address: Option<PeerAddress>) {
        let Note::Denied { peer, identity, denial, service, is_done } = note else { return };
        let address = address.map(tracing::field::display);
        // Each identity has its own lines, and all without one together.
        let admission = self.limiter.admit(now, &("denied", identity, denial));
        let identity = identity.as_ref().map(tracing::field::display);
        let service = service.as_ref().map(tracing::field::display);
        let kind = denial.label();
        let text = if *is_done { "not allowed, and done all the same" } else { "denied" };
        event!(admission, warn, %peer, address, identity, kind, service, "{text}");
    }

    fn log_down(
        &mut self,
        now: Instant,
        (peer, address): (&PeerId, Option<impl tracing::Value>),
        service: &ServiceName,
        (end, held): (WorkerEnd, Option<&HeldRequest>),
    ) {
        let text = match (end, held) {
            (WorkerEnd::Expired, _) => "worker expired: it was silent for too long",
            (WorkerEnd::Isolated, _) => "worker sent away: this node is cut off",
            (WorkerEnd::NotAllowed, _) => {
                "worker sent away: its identity may not register this service any more"
            }
            // A request that kills its workers shows itself here.
            (WorkerEnd::ConnectionLost, Some(_)) => "worker lost with a request",
            (WorkerEnd::ProtocolError, Some(_)) => "worker with a request broke the protocol",
            (
                WorkerEnd::Left
                | WorkerEnd::ConnectionLost
                | WorkerEnd::ProtocolError
                | WorkerEnd::Draining,
                _,
            ) => {
                tracing::debug!(%peer, address, %service, ?end, "worker down");
                return;
            }
        };
        let (client, request, attempt) = fields_of(held);
        let admission = self.limiter.admit(now, &(text, service));
        event!(admission, warn, %peer, address, %service, client, request, attempt, "{text}");
    }

    /// Logs a connection that ended before its peer had introduced itself. Ports are scanned and probed
    /// all the time: a peer that only closes is no news.
    fn log_refused(&mut self, now: Instant, address: PeerAddress, why: &Loss) {
        if *why == Loss::Closed {
            tracing::debug!(%address, "connection closed before a word");
            return;
        }
        let admission = self.limiter.admit(now, &("refused", network_of(address), why.label()));
        let advice = advice(why);
        event!(admission, warn, %address, reason = why.label(), advice, "connection refused: {why}");
    }

    /// Logs a peer that is lost; one that closed its connection is no news.
    fn log_lost(&mut self, now: Instant, peer: &PeerId, address: PeerAddress, why: &Loss) {
        match why {
            Loss::Closed => tracing::debug!(%peer, %address, "peer gone"),
            Loss::Overflow => {
                let text = "peer given up: too much waits for it unread";
                event!(self.limiter.admit(now, &"overflow"), warn, %peer, %address, "{text}");
            }
            Loss::Stalled => {
                let text = "peer given up: it reads nothing";
                event!(self.limiter.admit(now, &"stalled"), warn, %peer, %address, "{text}");
            }
            Loss::Revoked => {
                let admission = self.limiter.admit(now, &"revoked");
                event!(admission, info, %peer, %address, "connection closed: {why}");
            }
            Loss::Kicked => tracing::info!(%peer, %address, "connection closed by an operator"),
            Loss::Ended(_) | Loss::Greedy | Loss::Crowded => {
                let source = ("lost", network_of(address), why.label());
                let admission = self.limiter.admit(now, &source);
                let reason = why.label();
                event!(admission, warn, %peer, %address, reason, "connection closed: {why}");
            }
        }
    }
}

/// The connection of the client, the id of the request, and how many workers it was handed to.
fn fields_of(
    held: Option<&HeldRequest>,
) -> (Option<DisplayValue<&PeerId>>, Option<DisplayValue<RequestId>>, Option<u32>) {
    let client = held.and_then(|held| held.client.as_ref()).map(tracing::field::display);
    let request = held.and_then(|held| held.id).map(tracing::field::display);
    (client, request, held.map(|held| held.attempt))
}

/// What one network may have lines for: an address of version 4, the upper half of one of version 6.
fn network_of(address: PeerAddress) -> Option<u64> {
    match address.ip()? {
        IpAddr::V4(v4) => Some(u64::from(v4.to_bits())),
        IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).ok(),
    }
}

/// What to do about a refused connection.
const fn advice(why: &Loss) -> Option<&'static str> {
    let Loss::Ended(ending) = why else { return None };
    match ending {
        Ending::NotZmtp3(NotZmtp3::OlderZmtp) => Some("update the peer's ZeroMQ library"),
        Ending::NotZmtp3(NotZmtp3::Http) => Some("HTTP is spoken at admin.bind"),
        Ending::NotZmtp3(NotZmtp3::Tls) => Some("connect without TLS"),
        Ending::NotZmtp3(NotZmtp3::ProxyLine) => Some("turn the PROXY protocol off in the proxy"),
        Ending::NotZmtp3(NotZmtp3::Unknown) => Some("look which program connects from there"),
        Ending::Mechanism(Some(Mechanism::Curve)) => {
            Some("this port speaks no CURVE: connect without keys, or see security.mode")
        }
        Ending::Mechanism(Some(Mechanism::Plain)) => {
            Some("connect without a user name and a password")
        }
        Ending::Mechanism(_) => Some("use a mechanism of security.mode"),
        Ending::SocketType => Some("clients are REQ or DEALER sockets, workers DEALER"),
        Ending::Curve(CurveError::ServerKey) => Some("give the peer this server's public key"),
        Ending::KeyRefused => Some("add the peer's public key to the identities"),
        Ending::RoutingIdTooLong { .. }
        | Ending::Curve(_)
        | Ending::NotAdmitted
        | Ending::AdmissionTimeout
        | Ending::MessageBeforeReady
        | Ending::HandshakeTooLong { .. }
        | Ending::HandshakeTimeout
        | Ending::BadCommand
        | Ending::Stream(_)
        | Ending::PeerError(_)
        | Ending::TtlExpired
        | Ending::PongTimeout
        | Ending::AlreadyEnded => None,
    }
}
