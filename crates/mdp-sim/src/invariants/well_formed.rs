//! Nobody gets a message that no broker may send.

use super::Invariant;
use crate::{
    observation::{Event, Observation},
    view::ClusterView,
};

#[derive(Debug)]
pub(super) struct WellFormed;

impl Invariant for WellFormed {
    fn name(&self) -> &'static str {
        "well_formed"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        match &observation.event {
            Event::Wrong { actor, what } => Err(format!("actor {actor} got {what}")),
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
    use crate::invariants::made_up::{at, start};

    #[test]
    fn what_an_actor_calls_wrong_is_a_violation() {
        let event = Event::Wrong { actor: 3, what: "two requests at a time".to_owned() };
        assert!(WellFormed.on_event(&at(start(), 0, event)).is_err());
    }
}
