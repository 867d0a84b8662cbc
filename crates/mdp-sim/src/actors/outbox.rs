//! What an actor wants to be done, in order.

use std::{collections::VecDeque, time::Instant};

use crate::{
    actor::ActorAction,
    observation::{Event, Observation},
};

/// Actions that the world has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Outbox(VecDeque<ActorAction>);

impl Outbox {
    pub(super) fn connect(&mut self, node: usize) {
        self.0.push_back(ActorAction::Connect { node });
    }

    pub(super) fn close(&mut self) {
        self.0.push_back(ActorAction::Close);
    }

    pub(super) fn send(&mut self, frames: Vec<Vec<u8>>) {
        self.0.push_back(ActorAction::Send(frames));
    }

    pub(super) fn saw(&mut self, at: Instant, event: Event) {
        self.0.push_back(ActorAction::Observe(Observation::new(at, event)));
    }

    /// Forgets what its process had not said yet; what it saw it saw.
    pub(super) fn die(&mut self) {
        self.0.retain(|action| matches!(action, ActorAction::Observe(_)));
    }

    pub(super) fn pop(&mut self) -> Option<ActorAction> {
        self.0.pop_front()
    }
}
