//! What a person reads in the log about a node's place in its cluster: what it waits for, who leads.

use std::{
    collections::BTreeMap,
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use mdp_node::{ClusterStatus, Consensus, NodeView};

/// How often to look.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How often a reason is repeated while it lasts.
const REPEAT_INTERVAL: Duration = Duration::from_secs(10);
/// How soon a reason is said again when there is more to say about it.
const CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// Looks until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    _stop: Sender<()>,
}

impl Watch {
    /// Begins to look; a node without peers is not looked at.
    pub(super) fn start(view: NodeView) -> io::Result<Self> {
        let (stop, stopped) = channel();
        if view.consensus().is_some() {
            thread::Builder::new()
                .name("cluster-log".to_owned())
                .spawn(move || look(&view, &stopped))?;
        }
        Ok(Self { _stop: stop })
    }
}

fn look(view: &NodeView, stopped: &Receiver<()>) {
    let mut said = Said::default();
    while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        // A node that leaves says so itself.
        let Some(status) = view.consensus().map(Consensus::status) else { return };
        if view.is_draining() {
            return;
        }
        for event in said.events(&status, Instant::now()) {
            event.log();
        }
    }
}

/// What was said already.
#[derive(Debug, Default)]
struct Said {
    /// When each reason was said last, and in which words, by its code.
    waits_for: BTreeMap<&'static str, (Instant, String)>,
    leader: Option<(String, u64)>,
    is_ready: bool,
}

/// What is worth a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    WaitsFor { code: &'static str, text: String },
    Leads { leader: String, term: u64 },
    Ready { cluster_id: String, members: usize },
}

impl Said {
    /// What is new, or lasts for so long that it is said again.
    fn events(&mut self, status: &ClusterStatus, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        let leader = status.leader.as_ref().map(|leader| (leader.to_string(), status.term));
        if let Some((name, term)) = &leader
            && self.leader != leader
        {
            events.push(Event::Leads { leader: name.clone(), term: *term });
            self.leader.clone_from(&leader);
        }
        self.waits_for.retain(|code, _| status.not_ready.iter().any(|reason| reason.code == *code));
        for reason in &status.not_ready {
            if self.waits_for.get(reason.code).is_none_or(|said| is_due(said, &reason.text, now)) {
                self.waits_for.insert(reason.code, (now, reason.text.clone()));
                events.push(Event::WaitsFor { code: reason.code, text: reason.text.clone() });
            }
        }
        let is_ready = status.not_ready.is_empty();
        if is_ready && !self.is_ready {
            let cluster_id = status.cluster_id.clone().unwrap_or_default();
            events.push(Event::Ready { cluster_id, members: status.members.len() });
        }
        self.is_ready = is_ready;
        events
    }
}

/// Whether a reason that was said is to be said again.
fn is_due((said_at, said): &(Instant, String), text: &str, now: Instant) -> bool {
    let interval = if said == text { REPEAT_INTERVAL } else { CHANGE_INTERVAL };
    now.saturating_duration_since(*said_at) >= interval
}

impl Event {
    fn log(&self) {
        match self {
            Self::WaitsFor { code, text } => tracing::info!(code, "not ready: {text}"),
            Self::Leads { leader, term } => tracing::info!(leader, term, "{leader} leads"),
            Self::Ready { cluster_id, members } => {
                tracing::info!(cluster_id, members, "ready: this node takes part in its cluster");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mdp_node::{NodeId, NotReady};

    use super::*;

    fn status(leader: Option<&str>, term: u64, not_ready: &[&'static str]) -> ClusterStatus {
        let not_ready = not_ready.iter().map(|code| NotReady { code, text: format!("{code}!") });
        ClusterStatus {
            name: "node-1".parse().unwrap(),
            node_id: NodeId(1),
            cluster_id: Some("c1".to_owned()),
            leader: leader.map(|leader| leader.parse().unwrap()),
            term,
            committed_index: 0,
            applied_index: 0,
            last_log_index: 0,
            snapshot_index: 0,
            members: Vec::new(),
            member_change: None,
            unheard_voters: 0,
            call_formats: Vec::new(),
            refused_calls: Vec::new(),
            commit_times: Default::default(),
            upgrade: mdp_node::UpgradeStatus::default(),
            not_ready: not_ready.collect(),
        }
    }

    fn waits_for(code: &'static str) -> Event {
        Event::WaitsFor { code, text: format!("{code}!") }
    }

    #[test]
    fn reasons_are_said_once_and_again_while_they_last() {
        let (mut said, start) = (Said::default(), Instant::now());
        let waiting = status(None, 0, &["not_joined"]);

        assert_eq!(said.events(&waiting, start), [waits_for("not_joined")]);
        assert_eq!(said.events(&waiting, start + REPEAT_INTERVAL / 2), []);
        assert_eq!(said.events(&waiting, start + REPEAT_INTERVAL), [waits_for("not_joined")]);

        let lost = status(None, 0, &["no_leader"]);
        assert_eq!(said.events(&lost, start + REPEAT_INTERVAL), [waits_for("no_leader")]);
        assert_eq!(said.events(&waiting, start + REPEAT_INTERVAL), [waits_for("not_joined")]);
    }

    #[test]
    fn reason_with_other_words_is_said_sooner() {
        let (mut said, start) = (Said::default(), Instant::now());
        let mut waiting = status(None, 0, &["catching_up"]);
        said.events(&waiting, start);

        waiting.not_ready[0].text = "less!".to_owned();

        assert_eq!(said.events(&waiting, start + CHANGE_INTERVAL / 2), []);
        let less = Event::WaitsFor { code: "catching_up", text: "less!".to_owned() };
        assert_eq!(said.events(&waiting, start + CHANGE_INTERVAL), [less]);
    }

    #[test]
    fn leaders_and_readiness_are_said_when_they_change() {
        let (mut said, now) = (Said::default(), Instant::now());
        let leads = |leader: &str, term| Event::Leads { leader: leader.to_owned(), term };
        let ready = Event::Ready { cluster_id: "c1".to_owned(), members: 0 };

        let events = said.events(&status(Some("node-2"), 1, &[]), now);
        assert_eq!(events, [leads("node-2", 1), ready.clone()]);
        assert_eq!(said.events(&status(Some("node-2"), 1, &[]), now), []);
        assert_eq!(said.events(&status(Some("node-2"), 3, &[]), now), [leads("node-2", 3)]);

        // The same leader in the same term was not away.
        assert_eq!(said.events(&status(None, 3, &["no_leader"]), now), [waits_for("no_leader")]);
        assert_eq!(said.events(&status(Some("node-2"), 3, &[]), now), [ready]);
    }
}
