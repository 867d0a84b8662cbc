//! How a worker learns where else it could go: it asks its broker for `mmi.endpoints`, as a client
//! would, on the connection that it has. A broker tells workers and clients apart by their messages,
//! so one connection may carry both.

use std::time::Instant;

use super::{State, WorkerCore, WorkerEffect};
use crate::{
    client::replies,
    listing::{self, Listing, MMI_DIRECTORY, MMI_ENDPOINTS},
    worker::session::Question,
};

impl WorkerCore {
    /// Asks, and plans to ask again. A broker that has not answered since the last time may not
    /// know the question, and is left alone for a while.
    pub(super) fn ask(&mut self, now: Instant) {
        let State::Connected(session) = &mut self.state else { return };
        session.ask_at = None;
        if session.question == Question::Asked {
            // An answer that is late is taken all the same.
            session.question = Question::GivenUp;
            self.brokers.on_no_listing(now, self.broker);
        }
        let is_wanted = !self.settings.endpoints_refresh.is_zero();
        let listing_at = self.brokers.listing_at(now, self.broker).filter(|_| is_wanted);
        if listing_at.is_some_and(|at| at > now) {
            session.ask_at = listing_at;
        } else if listing_at.is_some() {
            session.question = Question::Asked;
            // Workers that came together need not all ask, and move, at the same moment.
            let wait = self.settings.endpoints_refresh.mul_f64(0.5 + self.rng.f64() / 2.0);
            session.ask_at = Some(now + wait);
            let frames = listing::question(self.settings.version, MMI_ENDPOINTS);
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

    pub(super) fn on_answer(&mut self, now: Instant, mut frames: Vec<Vec<u8>>) {
        let State::Connected(session) = &mut self.state else { return };
        let answer = replies::decode(self.settings.version, &mut frames).ok();
        let answer = answer.filter(|answer| answer.id.is_none());
        match answer {
            Some(answer)
                if session.question != Question::None
                    && answer.service == MMI_ENDPOINTS.as_bytes() =>
            {
                if session.question == Question::GivenUp {
                    // It knows the question after all.
                    session.ask_at = Some(now + self.settings.endpoints_refresh);
                }
                session.question = Question::None;
                self.on_listing(now, Listing::from_body(&answer.body));
            }
            Some(answer) if answer.service == MMI_DIRECTORY.as_bytes() => {
                self.on_directory(now, &answer.body);
            }
            Some(_) | None => {
                tracing::debug!("message for a client ignored");
                self.counters.messages_malformed += 1;
            }
        }
    }

    fn on_listing(&mut self, now: Instant, listing: Listing) {
        match listing {
            Listing::Nodes(nodes) => {
                let current = self.broker;
                let newcomers = self.brokers.learn(current, &nodes, |broker| broker == current);
                self.on_newcomers(newcomers);
            }
            Listing::NotThere => {
                self.brokers.on_no_listing(now, self.broker);
                let listing_at = self.brokers.listing_at(now, self.broker);
                if let State::Connected(session) = &mut self.state {
                    session.ask_at = listing_at;
                }
            }
            Listing::Unreadable => {}
        }
    }
}
