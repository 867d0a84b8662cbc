//! How a worker learns where else it could go: it asks its broker for `mmi.endpoints`, as a client
//! would, on the connection that it has. A broker tells workers and clients apart by their messages,
//! so one connection may carry both.

use std::time::Instant;

use super::{State, WorkerCore, WorkerEffect};
use crate::{
    client::replies,
    listing::{self, Listing, MMI_ENDPOINTS},
};

impl WorkerCore {
    /// Asks, and plans to ask again. A broker that has not answered since the last time does not
    /// know the question.
    pub(super) fn ask(&mut self, now: Instant) {
        let State::Connected(session) = &mut self.state else { return };
        session.ask_at = None;
        if session.is_asked {
            self.brokers.on_no_listing(self.broker);
        }
        let is_wanted = !self.settings.endpoints_refresh.is_zero();
        if is_wanted && self.brokers.has_listing(self.broker) {
            session.is_asked = true;
            session.ask_at = Some(now + self.settings.endpoints_refresh);
            let frames = listing::question(self.settings.version);
            self.effects.push_back(WorkerEffect::Send { frames });
        }
    }

    /// Whether a message is for a client rather than for a worker.
    pub(super) fn is_for_client(&self, frames: &[Vec<u8>]) -> bool {
        let header = self.settings.version.client_header();
        let is_header = |frame: &Vec<u8>| frame == header;
        match frames {
            [first, second, ..] if first.is_empty() => is_header(second),
            [first, ..] => is_header(first),
            [] => false,
        }
    }

    pub(super) fn on_answer(&mut self, mut frames: Vec<Vec<u8>>) {
        let State::Connected(session) = &mut self.state else { return };
        let answer = replies::decode(self.settings.version, &mut frames).ok();
        let is_ours = answer.as_ref().is_some_and(|answer| {
            answer.id.is_none() && answer.service == MMI_ENDPOINTS.as_bytes()
        });
        let Some(answer) = answer.filter(|_| is_ours && session.is_asked) else {
            tracing::debug!("message for a client ignored");
            self.counters.messages_malformed += 1;
            return;
        };
        session.is_asked = false;
        match Listing::from_body(&answer.body) {
            Listing::Nodes(nodes) => {
                let current = self.broker;
                self.brokers.learn(current, &nodes, |broker| broker == current);
            }
            Listing::NotThere => {
                session.ask_at = None;
                self.brokers.on_no_listing(self.broker);
            }
            Listing::Unreadable => {}
        }
    }
}
