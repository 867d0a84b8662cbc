//! `mmi.service` is linearizable: what it says was true at an index that nobody had gone beyond when
//! the question was asked.
//!
//! The order of all changes is known: it is that of the log. So no order has to be searched for. The
//! state that an answer is about must be as new as everything that any node had applied when the
//! client asked, and no newer than what any had applied when the client was answered. Answers that
//! follow each other are then about states that follow each other, on whatever nodes.
//!
//! With `mmi.consistency = "local"` a state may be old. But it must be one that was, and what one process
//! says must not go back.

use std::collections::BTreeMap;

use mdp_replica::Consistency;

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
    consistency: Consistency,
    /// How often each node's process began.
    processes: BTreeMap<usize, u32>,
    /// The oldest state that each process's answers leave possible for the next one.
    reached: BTreeMap<Process, u64>,
}

/// A node, and which of its processes.
type Process = (usize, u32);

#[derive(Debug)]
struct Service {
    name: String,
    /// From which index on it is offered, or is not; the first state counts from zero.
    changes: Vec<(u64, bool)>,
}

/// An open question, and from which index on the state may be that its answer is about.
#[derive(Clone, Copy, Debug)]
struct Question {
    service: usize,
    from: u64,
    process: Process,
}

impl Service {
    /// The first index between these two at which it was so.
    fn first(&self, offered: bool, from: u64, to: u64) -> Option<u64> {
        let before = self.changes.partition_point(|(index, _)| *index <= from).saturating_sub(1);
        let mut changes = self.changes.iter().skip(before);
        let found = changes.find(|(index, is)| *index <= to && *is == offered);
        found.map(|(index, _)| from.max(*index))
    }
}

impl MmiLinearizable {
    pub(super) fn new(workload: &Workload, consistency: Consistency) -> Self {
        let service = |name: &String| Service { name: name.clone(), changes: vec![(0, false)] };
        Self {
            services: workload.services.iter().map(|of| service(&of.name)).collect(),
            questions: BTreeMap::new(),
            newest: 0,
            consistency,
            processes: BTreeMap::new(),
            reached: BTreeMap::new(),
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

    fn on_question(&mut self, id: QuestionId, service: usize, node: usize) {
        let process = (node, self.processes.get(&node).copied().unwrap_or(0));
        let from = match self.consistency {
            Consistency::Linearizable => self.newest,
            Consistency::Local => self.reached.get(&process).copied().unwrap_or(0),
        };
        self.questions.insert(id, Question { service, from, process });
    }

    fn on_answer(&mut self, id: QuestionId, answer: Answer) -> Result<(), String> {
        let Some(Question { service, from, process }) = self.questions.remove(&id) else {
            return Ok(());
        };
        let offered = match answer {
            Answer::Found => true,
            Answer::NotFound => false,
            Answer::Unavailable => return Ok(()),
        };
        let Some(service) = self.services.get(service) else { return Ok(()) };
        if let Some(index) = service.first(offered, from, self.newest) {
            let reached = self.reached.entry(process).or_insert(index);
            *reached = index.max(*reached);
            return Ok(());
        }
        let (name, to, changes) = (&service.name, self.newest, &service.changes);
        Err(format!(
            "{name}: {answer:?} for no index from {from} to {to}; it changed at {changes:?}"
        ))
    }
}

impl Invariant for MmiLinearizable {
    fn name(&self) -> &'static str {
        match self.consistency {
            Consistency::Linearizable => "mmi_linearizable",
            Consistency::Local => "mmi_local",
        }
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        match &observation.event {
            Event::Agreed { index, offered } => self.on_agreed(*index, offered),
            Event::NodeStarted { node } => *self.processes.entry(*node).or_default() += 1,
            Event::LookupSent { id, service, node } => self.on_question(*id, *service, *node),
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
        let consistency = Consistency::Linearizable;
        let (start, mut rule) = (start(), MmiLinearizable::new(&workload(), consistency));
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

    /// Answers of one node with local reads, after it was offered from index 5 to 7, on one process
    /// or with a new one before the second answer.
    fn ask_twice(answers: [Answer; 2], is_restarted: bool) -> Result<(), String> {
        let (start, mut rule) = (start(), MmiLinearizable::new(&workload(), Consistency::Local));
        for index in 1..=9 {
            let offered = vec![(5..8).contains(&index), false, false];
            rule.on_event(&at(start, index, Event::Agreed { index, offered }))?;
        }
        for (number, answer) in (0..).zip(answers) {
            let id = QuestionId { asker: 9, number };
            if is_restarted {
                rule.on_event(&at(start, 10, Event::NodeStarted { node: 1 }))?;
            }
            rule.on_event(&at(start, 10, Event::LookupSent { id, service: 0, node: 1 }))?;
            rule.on_event(&at(start, 11, Event::LookupAnswered { id, answer }))?;
        }
        // What it never was is no old state.
        let id = QuestionId { asker: 9, number: 9 };
        rule.on_event(&at(start, 12, Event::LookupSent { id, service: 1, node: 1 }))?;
        let never =
            rule.on_event(&at(start, 12, Event::LookupAnswered { id, answer: Answer::Found }));
        assert!(never.is_err());
        Ok(())
    }

    #[test]
    fn local_answers_may_be_old_and_do_not_go_back() {
        use Answer::{Found, NotFound};
        assert_eq!(ask_twice([NotFound, Found], false), Ok(()));
        assert_eq!(ask_twice([Found, NotFound], false), Ok(()));
        assert_eq!(ask_twice([Found, Found], true), Ok(()));
    }

    #[test]
    fn local_answers_that_go_back_are_a_violation() {
        let (start, mut rule) = (start(), MmiLinearizable::new(&workload(), Consistency::Local));
        for index in 1..=9 {
            let offered = vec![index == 5, index >= 7, false];
            rule.on_event(&at(start, index, Event::Agreed { index, offered })).unwrap();
        }
        let mut ask = |number, service, node, answer| {
            let id = QuestionId { asker: 9, number };
            rule.on_event(&at(start, 10, Event::LookupSent { id, service, node })).unwrap();
            rule.on_event(&at(start, 11, Event::LookupAnswered { id, answer }))
        };
        assert_eq!(ask(1, 1, 0, Answer::Found), Ok(()), "index 7 or later");
        assert!(ask(2, 0, 0, Answer::Found).is_err(), "index 5");
        assert_eq!(ask(3, 0, 1, Answer::Found), Ok(()), "another node may be behind");
    }
}
