//! Looking at everything at once.

use std::time::Instant;

use mdp_raft::RaftView;

use super::World;
use crate::{
    hosts::Consensus,
    trace::Who,
    view::{ClusterView, NodeView},
};

impl World {
    /// Looks at everything, and lets the judges do so.
    pub(super) fn look(&mut self, now: Instant) {
        self.wires.tend(now);
        if let Some(node) = self.volume_at_risk
            && self.is_ready(node)
            && self.are_members_settled()
        {
            self.volume_at_risk = None;
        }
        let (digest, calls) = self.network.digest();
        self.trace.stir(&[digest, calls]);
        self.judge_view(now, false);
        self.whisper_of_rafts(now);
    }

    /// For who reads a replay: who leads, in which term, and how far the logs are.
    fn whisper_of_rafts(&self, now: Instant) {
        let at = now.saturating_duration_since(self.began_at);
        for (node, machine) in self.machines.iter().enumerate() {
            let Some(consensus) = machine.consensus() else { continue };
            self.trace.whisper(at, || {
                let raft = machine.host().look(|| consensus.inspect());
                let RaftView { id, term, vote, leader, committed, last_log, voters, .. } = raft;
                let text = format!(
                    "raft {id}: term {term}, vote {vote:?}, leader {leader:?}, committed \
                     {committed:?}, last {last_log:?}, voters {voters:?}"
                );
                (Who::Node(node), text)
            });
        }
    }

    /// The last look.
    pub(super) fn look_at_the_end(&mut self, now: Instant) {
        self.judge_view(now, true);
    }

    fn judge_view(&mut self, now: Instant, is_end: bool) {
        let mut judges = std::mem::take(&mut self.judges);
        let view = self.view(now);
        let mut failed = Vec::new();
        for judge in &mut judges {
            let judged = if is_end { judge.at_end(&view) } else { judge.on_look(&view) };
            if let Err(what) = judged {
                failed.push((judge.name(), what));
            }
        }
        for (name, what) in failed {
            self.fail(now, name, what);
        }
        self.judges = judges;
    }

    fn view(&self, now: Instant) -> ClusterView<'_> {
        let nodes = self.machines.iter().enumerate().map(|(node, machine)| {
            let process = machine.process();
            let replica = process.map(|process| process.replica());
            NodeView {
                name: machine.name.as_str(),
                is_member: self.roster.is_member(node),
                is_up: process.is_some(),
                is_paused: machine.is_paused(),
                is_ready: self.is_ready(node),
                raft: machine.look(Consensus::inspect),
                applied_index: replica.map_or(0, |replica| replica.applied_index()),
                catalog: replica.map(|replica| replica.catalog()),
                life: replica.and_then(|replica| replica.life()),
                gauges: process.map(|process| process.broker().gauges()),
                counters: process.map(|process| process.broker().counters()),
                relay: process.map(|process| process.relay()),
            }
        });
        ClusterView { now, nodes: nodes.collect() }
    }

    /// Whether no change of members is under way. A member that is being replaced still counts among
    /// those of whom a majority is needed: the loss of another volume meanwhile may be one too many.
    pub(crate) fn are_members_settled(&self) -> bool {
        let members = self.roster.members().into_iter();
        let mut rafts = members.filter_map(|node| self.machines[node].look(Consensus::inspect));
        rafts.all(|raft| raft.voters.len() == 1)
    }

    /// Whether a node takes part, by its own account.
    pub(crate) fn is_ready(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        let Some(process) = machine.process() else { return false };
        !machine.is_paused()
            && !process.is_leaving()
            && machine
                .look(Consensus::status)
                .is_some_and(|status| status.not_ready.is_empty() && status.leader.is_some())
    }

    /// Whether every node takes part, and nobody owes anybody anything.
    pub(super) fn is_idle(&self) -> bool {
        self.tally.is_empty()
            && self.roster.members().into_iter().all(|node| self.is_ready(node))
            && self.machines.iter().filter_map(|machine| machine.process()).all(|process| {
                let gauges = process.broker().gauges();
                gauges.queued_requests + gauges.held_requests + gauges.forwarded_requests == 0
            })
    }

    /// Why not, for whoever waits for it.
    pub(super) fn why_not_idle(&self) -> String {
        let nodes = self.machines.iter().map(|machine| match machine.process() {
            None => format!("{} is off", machine.name),
            Some(process) => {
                let status = machine.host().look(|| process.consensus().status());
                let waits: Vec<_> = status.not_ready.iter().map(|why| why.text.clone()).collect();
                let (leader, gauges) = (status.leader, process.broker().gauges());
                format!("{}: leader {leader:?}, waits for {waits:?}, {gauges:?}", machine.name)
            }
        });
        nodes.collect::<Vec<_>>().join("; ")
    }
}
