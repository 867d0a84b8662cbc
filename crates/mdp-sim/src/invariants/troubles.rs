//! Remembers what was done to whom and when: many rules hold only where nothing was.

use std::time::{Duration, Instant};

use crate::observation::{Event, Fault, Observation};

/// All that was done so far.
#[derive(Debug, Default)]
pub(super) struct Troubles(Vec<Trouble>);

#[derive(Debug)]
struct Trouble {
    fault: Fault,
    from: Instant,
    /// `None`: it lasts.
    until: Option<Instant>,
}

impl Trouble {
    fn overlaps(&self, from: Instant, until: Instant) -> bool {
        self.from <= until && self.until.is_none_or(|over| over >= from)
    }
}

/// What a rule is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    /// A node, and its place among the others.
    Node(usize),
    /// A node, and whether its process goes on: what its place among the others is does not matter.
    Process(usize),
    /// What a peer and the node that it is connected to have of each other.
    Peer { node: usize, actor: usize },
    /// What all nodes together do for this peer.
    Cluster { actor: usize },
    /// What becomes of a client's request, and of the workers that may have it: the first actors.
    Request { client: usize, workers: usize },
}

impl Whom {
    fn is_hit_by(self, fault: &Fault) -> bool {
        // Whoever is on the other side is cut off as well.
        let hits_all =
            fault.kind == PARTITION || (fault.nodes.is_empty() && fault.actors.is_empty());
        let of_others = |is_one: &dyn Fn(usize) -> bool| {
            OF_ACTORS.contains(&fault.kind) && !fault.actors.iter().any(|actor| is_one(*actor))
        };
        match self {
            Self::Node(node) => hits_all || fault.nodes.contains(&node),
            Self::Process(node) => {
                (hits_all || fault.nodes.contains(&node)) && !OF_PLACES.contains(&fault.kind)
            }
            Self::Peer { node, actor } => match fault.kind {
                PEER_CUT => fault.nodes.contains(&node) && fault.actors.contains(&actor),
                kind => {
                    (hits_all || fault.nodes.contains(&node) || fault.actors.contains(&actor))
                        && !BETWEEN_NODES.contains(&kind)
                }
            },
            Self::Cluster { actor } => !of_others(&|other| other == actor),
            Self::Request { client, workers } => {
                !of_others(&|other| other == client || other < workers)
                    && !HARMLESS.contains(&fault.kind)
            }
        }
    }
}

/// What a node's process can be besides running well.
const DOWN: &str = "down";
const PAUSED: &str = "paused";
const DRAINING: &str = "draining";
const STARTED: &str = "started";
const OF_NODES: [&str; 4] = [DOWN, PAUSED, DRAINING, STARTED];
/// The fault that names one side only.
const PARTITION: &str = "partition";
/// The fault that is of a node and an actor together.
const PEER_CUT: &str = "peer_cut";
/// Changes of members: a node goes on while its place changes.
const OF_PLACES: [&str; 4] = ["grow", "shrink", "return", "replace"];
/// Faults of the actors that they name, and of nobody else.
const OF_ACTORS: [&str; 3] = [PEER_CUT, "peer_death", "peer_freeze"];
/// Faults that peers of a node do not notice, unless its process ends, which is a trouble of its own.
const BETWEEN_NODES: [&str; 16] = [
    PARTITION,
    "one_way_cut",
    "flapping_link",
    "lost_calls",
    "repeated_calls",
    "disk_full",
    "sync_error",
    "slow_sync",
    "corruption",
    "volume_loss",
    "leader_transfer",
    "snapshot",
    "grow",
    "shrink",
    "return",
    "replace",
];
/// What costs no request: agreement is only slower.
const HARMLESS: [&str; 5] = ["repeated_calls", "slow_sync", "leader_transfer", "snapshot", "grow"];

impl Troubles {
    /// Takes notice of what was done.
    pub(super) fn on_event(&mut self, observation: &Observation) {
        let at = observation.at;
        match &observation.event {
            Event::FaultBegan(fault) => self.begin(fault.clone(), at),
            Event::FaultEnded(fault) => self.end(at, |other| other == fault),
            Event::NodeCrashed { node }
            | Event::NodeStopped { node, .. }
            | Event::NodeDrained { node, .. } => {
                self.end(at, |other| is(other, PAUSED, *node));
                self.begin(of_node(DOWN, *node), at);
            }
            // What was going on is undone at once; how nodes are, they say themselves.
            Event::Healed => self.end(at, |other| !OF_NODES.contains(&other.kind)),
            Event::NodeDraining { node } => self.begin(of_node(DRAINING, *node), at),
            Event::NodePaused { node } => self.begin(of_node(PAUSED, *node), at),
            Event::NodeResumed { node } => self.end(at, |other| is(other, PAUSED, *node)),
            // Nobody waits for it any more.
            Event::MemberLeft { node } => {
                self.end(at, |other| OF_NODES.into_iter().any(|kind| is(other, kind, *node)));
            }
            Event::NodeStarted { node } => {
                self.begin(of_node(STARTED, *node), at);
                self.end(at, |other| OF_NODES.into_iter().any(|kind| is(other, kind, *node)));
            }
            _ => {}
        }
    }

    fn begin(&mut self, fault: Fault, from: Instant) {
        self.0.push(Trouble { fault, from, until: None });
    }

    fn end(&mut self, at: Instant, is_it: impl Fn(&Fault) -> bool) {
        for trouble in self.0.iter_mut().filter(|trouble| is_it(&trouble.fault)) {
            trouble.until.get_or_insert(at);
        }
    }

    /// Since when somebody was in trouble at a time between these two, if at all.
    pub(super) fn first(&self, whom: Whom, from: Instant, until: Instant) -> Option<Instant> {
        let hits = self
            .0
            .iter()
            .filter(|trouble| trouble.overlaps(from, until) && whom.is_hit_by(&trouble.fault));
        hits.map(|trouble| trouble.from).min()
    }

    /// Whether nothing was wrong in the time before this moment.
    pub(super) fn is_calm(&self, whom: Whom, at: Instant, for_long: Duration) -> bool {
        let from = at.checked_sub(for_long).unwrap_or(at);
        self.first(whom, from, at).is_none()
    }
}

fn of_node(kind: &'static str, node: usize) -> Fault {
    Fault { kind, nodes: vec![node], actors: Vec::new() }
}

fn is(fault: &Fault, kind: &str, node: usize) -> bool {
    fault.kind == kind && fault.nodes == [node]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::made_up::{at, start};

    #[test]
    fn crashed_node_is_in_trouble_until_it_starts_again() {
        let mut troubles = Troubles::default();
        let start = start();
        troubles.on_event(&at(start, 1_000, Event::NodeCrashed { node: 1 }));
        let second = Duration::from_secs(1);
        assert!(!troubles.is_calm(Whom::Node(1), start + second * 9, second));
        assert!(troubles.is_calm(Whom::Node(0), start + second * 9, second));

        troubles.on_event(&at(start, 10_000, Event::NodeStarted { node: 1 }));
        assert!(!troubles.is_calm(Whom::Node(1), start + second * 11, second * 2));
        assert!(troubles.is_calm(Whom::Node(1), start + second * 20, second * 2));
    }

    #[test]
    fn fault_without_names_hits_everybody() {
        let mut troubles = Troubles::default();
        let start = start();
        let fault = Fault { kind: "loss", nodes: Vec::new(), actors: Vec::new() };
        troubles.on_event(&at(start, 0, Event::FaultBegan(fault.clone())));
        troubles.on_event(&at(start, 100, Event::FaultEnded(fault)));

        let peer = Whom::Peer { node: 2, actor: 7 };
        let ms = Duration::from_millis(1);
        assert_eq!(troubles.first(peer, start + ms * 50, start + ms * 60), Some(start));
        assert_eq!(troubles.first(peer, start + ms * 101, start + ms * 110), None);
    }

    #[test]
    fn fault_hits_only_those_who_can_notice_it() {
        let fault = |kind, nodes: &[usize], actors: &[usize]| Fault {
            kind,
            nodes: nodes.to_vec(),
            actors: actors.to_vec(),
        };
        let peer = Whom::Peer { node: 2, actor: 7 };
        let (cluster, request) =
            (Whom::Cluster { actor: 7 }, Whom::Request { client: 7, workers: 3 });
        for (fault, hits) in [
            (fault(PARTITION, &[2], &[]), [false, true, true]),
            (fault(PEER_CUT, &[2], &[7]), [true; 3]),
            (fault(PEER_CUT, &[1], &[7]), [false, true, true]),
            (fault(PEER_CUT, &[2], &[5]), [false; 3]),
            (fault("peer_death", &[], &[1]), [false, false, true]),
            (fault("broken_connections", &[], &[]), [true; 3]),
            (fault(DOWN, &[1], &[]), [false, true, true]),
            (fault(DOWN, &[2], &[]), [true; 3]),
            (fault("grow", &[4], &[]), [false, true, false]),
        ] {
            let hit = [peer, cluster, request].map(|whom| whom.is_hit_by(&fault));
            assert_eq!(hit, hits, "{fault:?}");
        }
    }
}
