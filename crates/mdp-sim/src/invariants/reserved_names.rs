//! What begins with `mmi.` is the broker's own, with or without a quorum: what does not exist is
//! answered 501, nobody registers it; and peers that break the rules get what the rules say.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Invariant,
    troubles::{Troubles, Whom},
};
use crate::{
    observation::{Event, Observation, QuestionId, Trick},
    view::ClusterView,
};

/// How long nothing may have been wrong for an answer to be due.
const CALM: Duration = Duration::from_secs(4);

#[derive(Debug, Default)]
pub(super) struct ReservedNames {
    wanted: BTreeMap<QuestionId, (usize, &'static str)>,
    troubles: Troubles,
}

/// What came after a trick.
#[derive(Clone, Copy, Debug)]
struct Came {
    heartbeats: u32,
    disconnects: u32,
    others: u32,
    /// Whether an answer was due.
    is_due: bool,
}

fn judge(trick: Trick, came: Came) -> Result<(), String> {
    let Came { heartbeats, disconnects, others, is_due } = came;
    let is_right = others == 0
        && match trick {
            Trick::ReservedReady | Trick::Unregistered => {
                heartbeats == 0 && disconnects <= 1 && (disconnects == 1 || !is_due)
            }
            // Its registration may be proven too late for the end to be seen.
            // Each heartbeat brings a forged reply, and each of those one refusal: all but the first
            // are of nobody (MDP7-34). One more if it expired just before them.
            Trick::ForgedToken => disconnects <= heartbeats + 1,
            Trick::LeavesTwice | Trick::Garbage => heartbeats == 0 && disconnects == 0,
        };
    if is_right { Ok(()) } else { Err(format!("{trick:?} was answered by {came:?}")) }
}

impl Invariant for ReservedNames {
    fn name(&self) -> &'static str {
        "reserved_names"
    }

    fn on_event(&mut self, observation: &Observation) -> Result<(), String> {
        self.troubles.on_event(observation);
        let at = observation.at;
        match &observation.event {
            Event::MmiSent { id, node, wanted } => {
                self.wanted.insert(*id, (*node, *wanted));
                Ok(())
            }
            Event::MmiAnswered { id, code } => match self.wanted.remove(id) {
                Some((_, wanted)) if wanted == code => Ok(()),
                wanted => Err(format!("{id:?} is answered {code}, not {wanted:?}")),
            },
            Event::LookupForgotten { id } => match self.wanted.remove(id) {
                Some((node, wanted)) => {
                    let whom = Whom::Peer { node, actor: id.asker };
                    if self.troubles.is_calm(whom, at, CALM) {
                        Err(format!("{id:?} is not answered {wanted} by node {node}"))
                    } else {
                        Ok(())
                    }
                }
                None => Ok(()),
            },
            Event::TrickEnded {
                intruder,
                trick,
                node,
                heartbeats,
                disconnects,
                others,
                has_lasted,
            } => {
                let whom = Whom::Peer { node: *node, actor: *intruder };
                let is_due = *has_lasted && self.troubles.is_calm(whom, at, CALM);
                let (heartbeats, disconnects, others) = (*heartbeats, *disconnects, *others);
                judge(*trick, Came { heartbeats, disconnects, others, is_due })
                    .map_err(|wrong| format!("node {node}, intruder {intruder}: {wrong}"))
            }
            _ => Ok(()),
        }
    }

    fn on_look(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        for node in &view.nodes {
            let mut services = node.catalog.into_iter().flat_map(|catalog| catalog.services());
            if let Some((service, _)) = services.find(|(service, _)| service.is_reserved()) {
                return Err(format!("{} has an offer of {service}", node.name));
            }
        }
        Ok(())
    }

    fn at_end(&mut self, view: &ClusterView<'_>) -> Result<(), String> {
        self.on_look(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up::{Nodes, at, catalog, start};

    #[test]
    fn another_code_or_none_is_a_violation() {
        let (start, id) = (start(), QuestionId { asker: 1, number: 1 });
        let sent = at(start, 9_000, Event::MmiSent { id, node: 0, wanted: "501" });
        let answered = |code: &str| Event::MmiAnswered { id, code: code.to_owned() };
        let outcome = |event| {
            let mut rule = ReservedNames::default();
            rule.on_event(&sent).unwrap();
            rule.on_event(&at(start, 9_010, event))
        };
        assert!(outcome(answered("501")).is_ok());
        assert!(outcome(answered("503")).is_err());
        assert!(outcome(Event::LookupForgotten { id }).is_err());
    }

    #[test]
    fn reserved_name_in_a_catalog_is_a_violation() {
        let mut rule = ReservedNames::default();
        assert!(rule.on_look(&Nodes::new(&catalog(&[(0, "mmi")]), 4).view(start())).is_ok());
        assert!(rule.on_look(&Nodes::new(&catalog(&[(0, "mmi.x")]), 4).view(start())).is_err());
    }

    #[test]
    fn reserved_ready_must_be_refused_and_never_acknowledged() {
        let came = |heartbeats, disconnects| {
            judge(Trick::ReservedReady, Came { heartbeats, disconnects, others: 0, is_due: true })
        };
        assert!(came(0, 1).is_ok());
        assert!(came(0, 0).is_err());
        assert!(came(1, 1).is_err());
    }

    #[test]
    fn forger_is_sent_away_once_for_each_reply_and_once_for_its_end() {
        let came = |heartbeats, disconnects| {
            judge(Trick::ForgedToken, Came { heartbeats, disconnects, others: 0, is_due: true })
        };
        assert!(came(3, 4).is_ok());
        assert!(came(3, 5).is_err());
        assert!(came(0, 2).is_err());
    }
}
