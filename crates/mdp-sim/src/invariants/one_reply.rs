//! A request gets one reply at most; nothing follows its last part.

use std::collections::BTreeSet;

use super::Invariant;
use crate::{
    observation::{Event, Observation, RequestId},
    view::ClusterView,
};

#[derive(Debug, Default)]
pub(super) struct OneReply {
    answered: BTreeSet<RequestId>,
}

impl Invariant for OneReply {
    fn name(&self) -> &'static str {
        "one_reply"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        match observation.event {
            Event::RequestAnswered { id, .. } if !self.answered.insert(id) => {
                Err(format!("{id} is answered twice"))
            }
            Event::RequestPartlyAnswered { id } if self.answered.contains(&id) => {
                Err(format!("{id} gets a part after the last one"))
            }
            Event::StrayReply { client, answers: Some(id) } if id.client == client => {
                Err(format!("{id} is answered, and its client does not wait for that any more"))
            }
            _ => Ok(()),
        }
    }

    fn on_look(&mut self, _view: &ClusterView<'_>) -> Result<(), String> {
        Ok(())
    }

    fn at_end(&mut self, _view: &ClusterView<'_>) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up::{at, registration, request, start};

    #[test]
    fn second_reply_is_a_violation() {
        let mut rule = OneReply::default();
        let (start, id) = (start(), request(1, 1));
        let answered = Event::RequestAnswered { id, by: registration(2) };
        assert!(rule.on_event(&at(start, 0, answered.clone())).is_ok());
        assert!(rule.on_event(&at(start, 1, answered)).is_err());
        let stray = Event::StrayReply { client: 1, answers: Some(id) };
        assert!(rule.on_event(&at(start, 2, stray)).is_err());
    }
}
