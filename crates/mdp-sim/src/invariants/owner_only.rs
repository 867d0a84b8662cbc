//! A reply reaches only the client and the request that it answers, and comes from somebody who
//! executed that request.

use std::collections::BTreeSet;

use super::Invariant;
use crate::{
    observation::{Event, Observation, RegistrationId, RequestId},
    view::ClusterView,
};

#[derive(Debug, Default)]
pub(super) struct OwnerOnly {
    executed: BTreeSet<(RequestId, RegistrationId)>,
}

impl Invariant for OwnerOnly {
    fn name(&self) -> &'static str {
        "owner_only"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        match observation.event {
            Event::Executed { request, by, .. } => {
                self.executed.insert((request, by));
                Ok(())
            }
            Event::RequestAnswered { id, by } if !self.executed.contains(&(id, by)) => {
                Err(format!("{id} is answered by {by}, who never had it"))
            }
            Event::StrayReply { client, answers: Some(id) } if id.client != client => {
                Err(format!("client {client} gets the reply to {id}"))
            }
            Event::StrayReply { client, answers: None } => {
                Err(format!("client {client} gets a reply to nothing that anybody asked"))
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
    fn reply_to_another_client_is_a_violation() {
        let stray = Event::StrayReply { client: 1, answers: Some(request(2, 1)) };
        assert!(OwnerOnly::default().on_event(&at(start(), 0, stray)).is_err());
    }

    #[test]
    fn reply_of_somebody_who_never_had_the_request_is_a_violation() {
        let (mut rule, start, request) = (OwnerOnly::default(), start(), request(1, 1));
        let (one, other) = (registration(3), registration(4));
        let executed = Event::Executed { request, by: one, service: 1, node: 0 };
        rule.on_event(&at(start, 0, executed)).unwrap();
        let by = |by| at(start, 1, Event::RequestAnswered { id: request, by });
        assert!(rule.on_event(&by(one)).is_ok());
        assert!(rule.on_event(&by(other)).is_err());
    }
}
