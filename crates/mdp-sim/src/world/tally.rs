//! What actors still wait for.

use std::collections::BTreeSet;

use crate::observation::{Event, QuestionId, RequestId};

/// What actors still wait for, and how much there was.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: BTreeSet<RequestId>,
    questions: BTreeSet<QuestionId>,
    tricks: BTreeSet<usize>,
    /// Requests that were answered.
    pub(super) answered: u64,
    /// Questions to `mmi.service` that were answered.
    pub(super) looked_up: u64,
}

impl Tally {
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::RequestSent { id, .. } => {
                self.requests.insert(*id);
            }
            Event::RequestAnswered { id, .. } => {
                self.answered += 1;
                self.requests.remove(id);
            }
            Event::RequestTimedOut { id } | Event::RequestLost { id } => {
                self.requests.remove(id);
            }
            Event::LookupSent { id, .. } | Event::MmiSent { id, .. } => {
                self.questions.insert(*id);
            }
            Event::LookupAnswered { id, .. } => {
                self.looked_up += 1;
                self.questions.remove(id);
            }
            Event::LookupForgotten { id } | Event::MmiAnswered { id, .. } => {
                self.questions.remove(id);
            }
            Event::TrickBegun { intruder, .. } => {
                self.tricks.insert(*intruder);
            }
            Event::TrickEnded { intruder, .. } => {
                self.tricks.remove(intruder);
            }
            Event::Agreed { .. }
            | Event::RequestPartlyAnswered { .. }
            | Event::StrayReply { .. }
            | Event::ReadySent { .. }
            | Event::Acknowledged { .. }
            | Event::WorkerParted { .. }
            | Event::WorkerEnded { .. }
            | Event::LinkEnded { .. }
            | Event::Executed { .. }
            | Event::Wrong { .. }
            | Event::NodeStarted { .. }
            | Event::NodeCrashed { .. }
            | Event::NodePaused { .. }
            | Event::NodeResumed { .. }
            | Event::NodeDraining { .. }
            | Event::NodeDrained { .. }
            | Event::NodeStopped { .. }
            | Event::MemberLeft { .. }
            | Event::FaultBegan(_)
            | Event::FaultEnded(_)
            | Event::Healed => {}
        }
    }

    /// Whether somebody waits for something that a client has asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}
