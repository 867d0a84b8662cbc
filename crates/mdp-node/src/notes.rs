//! The engine's notes as log events: service names and peers, never bodies.

use mdp_broker::{Note, WorkerEnd};

use crate::outgoing::{LossReason, LostPeer};

/// Logs what a person may want to read.
pub(crate) fn log(note: &Note) {
    match note {
        Note::ServiceUp { service } => tracing::info!(%service, "service up"),
        Note::ServiceDown { service } => tracing::info!(%service, "service down"),
        Note::WorkerUp { peer, service } => tracing::debug!(%peer, %service, "worker up"),
        Note::WorkerDown { peer, service, end } => match end {
            WorkerEnd::Expired => {
                tracing::warn!(%peer, %service, "worker expired: it was silent for too long");
            }
            WorkerEnd::Isolated => {
                tracing::warn!(%peer, %service, "worker sent away: this node is cut off");
            }
            WorkerEnd::Left
            | WorkerEnd::ConnectionLost
            | WorkerEnd::ProtocolError
            | WorkerEnd::Draining => tracing::debug!(%peer, %service, ?end, "worker down"),
        },
        Note::RegistrationRefused { peer, source, service, refusal } => {
            let source = source.map(tracing::field::display);
            let service = service.as_ref().map(tracing::field::display);
            tracing::info!(%peer, source, service, ?refusal, "registration refused");
        }
        Note::Paused { milliseconds } => {
            tracing::warn!(milliseconds, "this process stood still; deadlines were set anew");
        }
    }
}

/// Logs a peer that did not read what was meant for it; one that is gone is no news.
pub(crate) fn log_lost_peer(lost: &LostPeer) {
    let peer = &lost.peer;
    match lost.reason {
        LossReason::Gone => tracing::debug!(%peer, "peer gone"),
        LossReason::Overflow => {
            tracing::warn!(%peer, "peer given up: too much waits for it unread");
        }
        LossReason::Stalled => tracing::warn!(%peer, "peer given up: it reads nothing"),
    }
}
