//! What the client does with a message.

use std::time::Instant;

use super::{ClientCore, ClientEffect, Notice};
use crate::{
    Reply, RequestId,
    client::{
        connections::{Connection, ConnectionId, Question},
        outstanding::Place,
        replies::{self, Answer, Part},
    },
    listing::{Listing, MMI_ENDPOINTS},
};

impl ClientCore {
    pub(super) fn on_received(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        mut frames: Vec<Vec<u8>>,
    ) {
        // A message may be read before the event that says the same.
        self.on_up(now, connection);
        let Some(open) = self.connections.get_mut(connection) else { return };
        let answer = match replies::decode(self.settings.version, &mut frames) {
            Ok(answer) => answer,
            Err(defect) => {
                tracing::debug!(%defect, "message ignored");
                self.counters.replies_malformed += 1;
                return;
            }
        };
        let is_ours = answer.id.is_none() && answer.service == MMI_ENDPOINTS.as_bytes();
        match (&mut open.question, is_ours) {
            (Question::Asked { .. }, true) => {
                open.question = Question::None;
                self.on_listing(now, connection, Listing::from_body(&answer.body));
            }
            (Question::Asked { is_passed_over, .. }, false) => {
                *is_passed_over = true;
                self.on_answer(now, connection, answer);
            }
            (Question::None, _) => self.on_answer(now, connection, answer),
        }
    }

    fn on_answer(&mut self, now: Instant, connection: ConnectionId, answer: Answer) {
        let Some(open) = self.connections.find(connection) else { return };
        let broker = open.broker;
        let asked = answer.id.or_else(|| open.exclusive());
        let request = asked.and_then(|id| Some((id, self.request_by_id.get_mut(&id)?)));
        let Some((id, request)) = request.filter(|(_, request)| request.is_answered_by(&answer))
        else {
            tracing::debug!("reply ignored: no request waits for it");
            self.counters.replies_unmatched += 1;
            return self.leave_if_unasked(connection);
        };
        match answer.part {
            Part::Partial => {
                request.partial_count += 1;
                request.attempt_ends_at = now + request.timeout;
                let until = request.attempt_ends_at;
                self.counters.partials += 1;
                self.set_timer(id, until);
                self.notify(Notice::Partial { id, frames: answer.body });
            }
            Part::Last => {
                let reply = Reply {
                    request_id: id,
                    frames: answer.body,
                    endpoint: self.brokers.endpoint(broker).to_owned(),
                    attempts: request.attempt,
                    elapsed: now.saturating_duration_since(request.submitted_at),
                };
                tracing::debug!(
                    request = %id, service = %request.asked.service, endpoint = reply.endpoint,
                    attempts = reply.attempts, elapsed = ?reply.elapsed, "replied"
                );
                self.counters.replies += 1;
                self.on_replied(now, id, broker, reply);
            }
        }
    }

    /// A reply that no request waits for, on a connection where the next reply is taken for that to
    /// the next request: what else may follow must not be, so that request gets another connection.
    fn leave_if_unasked(&mut self, connection: ConnectionId) {
        let is_unasked = self.connections.find(connection).is_some_and(Connection::is_confusable);
        if is_unasked && self.connections.remove(connection).is_some() {
            self.effects.push_back(ClientEffect::Close { connection });
        }
    }

    fn on_replied(&mut self, now: Instant, id: RequestId, broker: usize, reply: Reply) {
        let Some(request) = self.request_by_id.get(&id) else { return };
        let (failed_at, unanswered) = (request.tried, request.unanswered);
        match request.place {
            Place::Sent(connection) => self.connections.release(connection, id),
            // A late reply to an earlier attempt: this one need not be made.
            Place::Unsent(_) | Place::Waiting => self.leave_connection(id),
        }
        if failed_at.contains(self.steering.current) {
            self.move_to(now, broker);
        }
        if !unanswered.is_empty() {
            self.hold(now, unanswered, broker);
        }
        self.finish(now, id, Ok(reply));
        self.close_unneeded();
    }
}
