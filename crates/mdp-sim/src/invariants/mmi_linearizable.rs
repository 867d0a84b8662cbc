//! `mmi.service` is linearizable: what it says was true at an index that nobody had gone beyond when
//! the question was asked.
//!
//! The order of all changes is known: it is that of the log. So no order has to be searched for. The
//! state that an answer is about must be as new as everything that any node had applied when the
//! client asked, and no newer than what any had applied when the client was answered. Answers that
//! follow each other are then about states that follow each other, on whatever nodes.

use std::collections::BTreeMap;

use super::Invariant;
use crate::{
    actors::Workload,
    observation::{Answer, Event, Observation, QuestionId},
    view::ClusterView,
};

#[derive(Debug)]
pub(super) struct MmiLinearizable {
    services: Vec<Service>,
    questions: BTreeMap<QuestionId, Question>,
    newest: u64,
}

#[derive(Debug)]
struct Service {
    name: String,
    /// From which index on it is offered, or is not; the first state counts from zero.
    changes: Vec<(u64, bool)>,
}

/// An open question, and what anybody had applied when it was asked.
#[derive(Clone, Copy, Debug)]
struct Question {
    service: usize,
    newest: u64,
}

impl Service {
    fn was_ever(&self, offered: bool, from: u64, to: u64) -> bool {
        let before = self.changes.partition_point(|(index, _)| *index <= from).saturating_sub(1);
        self.changes.iter().skip(before).any(|(index, is)| *index <= to && *is == offered)
    }
}

impl MmiLinearizable {
    pub(super) fn new(workload: &Workload) -> Self {
        let service = |name: &String| Service { name: name.clone(), changes: vec![(0, false)] };
        Self {
            services: workload.services.iter().map(|of| service(&of.name)).collect(),
            questions: BTreeMap::new(),
            newest: 0,
        }
    }

    fn on_agreed(&mut self, index: u64, offered: &[bool]) {
        self.newest = index;
        for (service, is) in self.services.iter_mut().zip(offered) {
            if service.changes.last().is_some_and(|(_, was)| was != is) {
                service.changes.push((index, *is));
            }
        }
    }

    fn on_answer(&mut self, id: QuestionId, answer: Answer) -> Result<(), String> {
        let Some(Question { service, newest }) = self.questions.remove(&id) else { return Ok(()) };
        let offered = match answer {
            Answer::Found => true,
            Answer::NotFound => false,
            Answer::Unavailable => return Ok(()),
        };
        let Some(service) = self.services.get(service) else { return Ok(()) };
        if service.was_ever(offered, newest, self.newest) {
            return Ok(());
        }
        let (name, from, to, changes) = (&service.name, newest, self.newest, &service.changes);
        Err(format!(
            "{name}: {answer:?} for no index from {from} to {to}; it changed at {changes:?}"
        ))
    }
}

impl Invariant for MmiLinearizable {
    fn name(&self) -> &'static str {
        "mmi_linearizable"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        match &observation.event {
            Event::Agreed { index, offered } => self.on_agreed(*index, offered),
            Event::LookupSent { id, service, .. } => {
                let question = Question { service: *service, newest: self.newest };
                self.questions.insert(*id, question);
            }
            Event::LookupAnswered { id, answer } => return self.on_answer(*id, *answer),
            Event::LookupForgotten { id } => drop(self.questions.remove(id)),
            _ => {}
        }
        Ok(())
    }

    fn on_look(&mut self, _: &ClusterView<'_>) -> Result<(), String> {
        Ok(())
    }

    fn at_end(&mut self, _: &ClusterView<'_>) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up::{at, start, workload};

    /// The first service is offered from index 5 to 7. A question is asked at the first of these
    /// indices and answered at the second.
    fn ask(asked: u64, answered: u64, answer: Answer) -> Result<(), String> {
        let (start, mut rule) = (start(), MmiLinearizable::new(&workload()));
        let id = QuestionId { asker: 9, number: 0 };
        for index in 1..=9 {
            let offered = vec![(5..8).contains(&index), false, false];
            rule.on_event(&at(start, index, Event::Agreed { index, offered }))?;
            if index == asked {
                rule.on_event(&at(start, index, Event::LookupSent { id, service: 0, node: 1 }))?;
            }
            if index == answered {
                rule.on_event(&at(start, index, Event::LookupAnswered { id, answer }))?;
            }
        }
        Ok(())
    }

    #[test]
    fn answers_about_a_moment_of_the_question_are_right() {
        for (asked, answered, answer) in [
            (1, 2, Answer::NotFound),
            (4, 5, Answer::NotFound),
            (4, 5, Answer::Found),
            (6, 6, Answer::Found),
            (7, 8, Answer::Found),
            (8, 9, Answer::NotFound),
            (6, 6, Answer::Unavailable),
        ] {
            assert_eq!(ask(asked, answered, answer), Ok(()), "{asked} {answered} {answer:?}");
        }
    }

    #[test]
    fn stale_answers_and_those_from_nowhere_are_a_violation() {
        for (asked, answered, answer) in [
            (1, 3, Answer::Found),
            (5, 7, Answer::NotFound),
            (6, 6, Answer::NotFound),
            (8, 9, Answer::Found),
        ] {
            assert!(ask(asked, answered, answer).is_err(), "{asked} {answered} {answer:?}");
        }
    }
}
