//! What the engine is still to be told of links, what was counted, and what was logged.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use mdp_broker::{Input, LinkId, LinkRole};
use mdp_catalog::NodeName;
use mdp_mutants::{Mutant, is_on};
use mdp_transport::SharedFrame;
use mdp_wire::{
    ClientNetworks,
    relay::{ForwardId, RefusalReason},
};

use super::{
    PEERS_MAX,
    status::{LinkLoss, RelayTotals},
};

/// How many complaints are remembered, so that each is logged once; of more, the oldest are
/// forgotten.
const COMPLAINTS_MAX: usize = 64;

/// What the engine is still to be told of links, what was counted, and what was logged.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// At most two for each link, and taken in every turn.
    inputs: VecDeque<Input<SharedFrame>>,
    totals: RelayTotals,
    links: u64,
    complaints: VecDeque<(String, &'static str)>,
    /// The addresses that other nodes tell their clients by network, as they said last.
    networks: BTreeMap<NodeName, Arc<ClientNetworks>>,
    has_changed: bool,
}

impl Ledger {
    /// A link is there, with a node of this version and in this wire version; this is its name.
    pub(super) fn up(&mut self, role: LinkRole, node: &NodeName, peer: (&str, u16)) -> LinkId {
        let (version, wire) = peer;
        self.links += 1;
        let link = LinkId(if is_on(Mutant::LinkNamesRepeat) { 1 } else { self.links });
        self.has_changed = true;
        self.complaints.retain(|(who, _)| who != node.as_str());
        *self.totals.made.entry(wire).or_default() += 1;
        tracing::debug!(%node, version, wire, link = link.0, ?role, "relay link up");
        self.inputs.push_back(Input::LinkUp { link, role });
        link
    }

    /// A node has said which addresses it tells its clients. They count until it names others: it is
    /// most likely started again with the same.
    pub(super) fn set_networks(&mut self, node: &NodeName, networks: &ClientNetworks) {
        self.networks.insert(node.clone(), Arc::new(networks.clone()));
    }

    /// What a node said of its addresses; `None`: nothing yet.
    pub(super) fn networks(&self, node: &NodeName) -> Option<Arc<ClientNetworks>> {
        self.networks.get(node).cloned()
    }

    /// Forgets the addresses of nodes that do not take part, once there are too many of them.
    pub(super) fn limit_networks(&mut self, takes_part: impl Fn(&NodeName) -> bool) {
        if self.networks.len() > PEERS_MAX {
            self.networks.retain(|node, _| takes_part(node));
        }
    }

    /// A link is gone.
    pub(super) fn down(
        &mut self,
        link: LinkId,
        node: &NodeName,
        loss: LinkLoss,
        unsent: Vec<ForwardId>,
    ) {
        let reason = loss.label();
        if loss.is_usual() {
            tracing::debug!(%node, link = link.0, reason, "relay link down");
        } else {
            tracing::info!(%node, link = link.0, reason, "relay link lost");
        }
        self.has_changed = true;
        *self.totals.lost.entry(loss).or_default() += 1;
        self.inputs.push_back(Input::LinkDown { link, unsent });
    }

    /// A request was meant for a link that is gone. It only matters if the engine is still to be
    /// told of that.
    pub(super) fn add_unsent(&mut self, gone: LinkId, id: ForwardId) {
        for input in &mut self.inputs {
            if let Input::LinkDown { link, unsent } = input
                && *link == gone
            {
                unsent.push(id);
            }
        }
    }

    /// Messages were meant for an origin that is gone.
    pub(super) fn add_undelivered(&mut self, messages: usize) {
        self.totals.undelivered += u64::try_from(messages).unwrap_or(u64::MAX);
    }

    pub(super) fn poll_input(&mut self) -> Option<Input<SharedFrame>> {
        self.inputs.pop_front()
    }

    pub(super) fn has_inputs(&self) -> bool {
        !self.inputs.is_empty()
    }

    /// A message was none; true if that is to be logged.
    pub(super) fn malformed(&mut self, who: &str) -> bool {
        self.totals.malformed += 1;
        self.is_new_complaint(who, "malformed")
    }

    /// A link was refused; true if that is to be logged.
    pub(super) fn refused(&mut self, role: LinkRole, who: &str, reason: RefusalReason) -> bool {
        self.totals.count_refused(role, reason);
        self.is_new_complaint(who, reason.label())
    }

    fn is_new_complaint(&mut self, who: &str, what: &'static str) -> bool {
        if self.complaints.iter().any(|(other, label)| other == who && *label == what) {
            return false;
        }
        self.complaints.push_back((who.to_owned(), what));
        if self.complaints.len() > COMPLAINTS_MAX {
            self.complaints.pop_front();
        }
        true
    }

    pub(super) const fn totals(&self) -> &RelayTotals {
        &self.totals
    }

    /// What was logged about whom.
    #[cfg(test)]
    pub(super) fn complaints(&self) -> Vec<(String, &'static str)> {
        self.complaints.iter().cloned().collect()
    }

    /// The links are not what they were.
    pub(super) const fn note_change(&mut self) {
        self.has_changed = true;
    }

    /// Whether the links are not what they were when this was asked last.
    pub(super) const fn take_change(&mut self) -> bool {
        std::mem::replace(&mut self.has_changed, false)
    }
}

/// Whether the reason is transient: it is gone in a moment, and no operator has to act.
pub(super) const fn is_passing(reason: RefusalReason) -> bool {
    match reason {
        RefusalReason::NotReady | RefusalReason::Superseded | RefusalReason::NotLinked => true,
        RefusalReason::WrongVersion { .. }
        | RefusalReason::WrongCluster
        | RefusalReason::WrongNode
        | RefusalReason::TooManyLinks
        | RefusalReason::Malformed
        | RefusalReason::Unknown => false,
    }
}
