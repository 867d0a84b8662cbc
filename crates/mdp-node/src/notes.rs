//! The engine's notes as log events: service names and peers, never bodies.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mdp_broker::{DropReason, Note, WorkerEnd};

use crate::outgoing::{LossReason, LostPeer};

/// How often it is said that messages were dropped.
const DROPS_INTERVAL: Duration = Duration::from_secs(10);

/// What was dropped, as far as it was said: one line for each reason now and then, however much it is.
#[derive(Debug, Default)]
pub(crate) struct DropLog {
    looked_at: Option<Instant>,
    said: BTreeMap<DropReason, u64>,
}

impl DropLog {
    /// Says what was dropped since the last time, unless that was a moment ago.
    pub(crate) fn look(&mut self, now: Instant, dropped: &BTreeMap<DropReason, u64>) {
        for (reason, count) in self.news(now, dropped) {
            tracing::warn!(reason = reason.label(), count, "messages dropped");
        }
    }

    fn news(
        &mut self,
        now: Instant,
        dropped: &BTreeMap<DropReason, u64>,
    ) -> Vec<(DropReason, u64)> {
        let is_due =
            self.looked_at.is_none_or(|at| now.saturating_duration_since(at) >= DROPS_INTERVAL);
        if !is_due {
            return Vec::new();
        }
        self.looked_at = Some(now);
        let mut news = Vec::new();
        for (reason, count) in dropped {
            let said = self.said.entry(*reason).or_default();
            if *count > *said {
                news.push((*reason, *count - *said));
                *said = *count;
            }
        }
        news
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_told_once_and_not_all_the_time() {
        let (mut log, now) = (DropLog::default(), Instant::now());
        let dropped = |count| BTreeMap::from([(DropReason::Expired, count)]);

        assert_eq!(log.news(now, &dropped(0)), []);
        assert_eq!(log.news(now + DROPS_INTERVAL / 2, &dropped(5)), []);
        assert_eq!(log.news(now + DROPS_INTERVAL, &dropped(7)), [(DropReason::Expired, 7)]);
        assert_eq!(log.news(now + DROPS_INTERVAL * 2, &dropped(7)), []);
        assert_eq!(log.news(now + DROPS_INTERVAL * 3, &dropped(8)), [(DropReason::Expired, 1)]);
    }
}
