//! What a node does with its links. A node that is alone has none, and pays nothing.

use std::{sync::Arc, time::Instant};

use mdp_broker::{Input, LinkId};
use mdp_replica::Agreement;
use mdp_transport::SharedFrame;
use mdp_wire::{
    ServiceName,
    relay::{ToOrigin, ToOwner},
};

use super::NodeCore;
use crate::{
    NodeEvent, NodeKeys, PortName, ReadState, RelayAction, RelayLinks, RelayReport, Shell,
};

impl<A: Agreement> NodeCore<A> {
    /// Takes what other nodes send, as it is done with the client port.
    pub(super) fn read_nodes(&mut self, shell: &mut impl Shell) -> ReadState {
        let now = self.now;
        let Self { links: Some(links), broker, .. } = self else { return ReadState::Emptied };
        let mut reading = links.reading(|now, input| broker.handle_input(now, input));
        let state = shell.read(now, PortName::Nodes, &mut reading);
        self.now = shell.now();
        shell.compute(self.now, PortName::Nodes, links.transport());
        // What became of links is told when all effects have been run.
        self.run_effects(shell);
        state
    }

    /// From now on other nodes have these keys.
    pub fn set_node_keys(&mut self, now: Instant, keys: Arc<NodeKeys>) {
        if let Some(links) = &mut self.links {
            links.set_keys(now, keys);
        }
    }

    /// Makes links and judges them, after what came was read.
    pub(super) fn tend_links(&mut self, shell: &mut impl Shell) {
        let Some(links) = &mut self.links else { return };
        if let Some(peers) = self.replica.take_peers() {
            links.set_peers(self.now, peers);
        }
        while let Some(located) = shell.take_located() {
            links.handle_located(self.now, &located);
        }
        links.tend(self.now, |id| shell.has_unread(PortName::Nodes, id));
        while let Some(action) = links.poll_action() {
            match action {
                RelayAction::Dial { connection, address } => {
                    shell.dial(connection, address, &mut links.reading(|_, _| {}));
                }
                RelayAction::Locate { node, endpoint } => {
                    if let Some(located) = shell.locate(node, endpoint) {
                        links.handle_located(self.now, &located);
                    }
                }
            }
        }
        if let Some(states) = links.take_changed_states() {
            shell.set_links(states);
        }
        self.run_effects(shell);
    }

    pub(super) fn send_to_owner(
        &mut self,
        shell: &mut impl Shell,
        link: LinkId,
        message: ToOwner<ServiceName, SharedFrame>,
    ) {
        let Some(links) = &mut self.links else { return };
        if let Some(id) = links.send_to_owner(link, message) {
            shell.write_if_much(self.now, PortName::Nodes, id, links.transport());
        }
    }

    pub(super) fn send_to_origin(
        &mut self,
        shell: &mut impl Shell,
        link: LinkId,
        message: ToOrigin<SharedFrame>,
    ) {
        let Some(links) = &mut self.links else { return };
        if let Some(id) = links.send_to_origin(self.now, link, message) {
            shell.write_if_much(self.now, PortName::Nodes, id, links.transport());
        }
    }

    /// What became of links.
    pub(super) fn poll_link(&mut self, shell: &mut impl Shell) -> Option<Input<SharedFrame>> {
        let links = self.links.as_mut()?;
        let input = links.poll_input(self.now)?;
        if let Input::LinkUp { link, role } = input
            && let Some((node, wire)) = links.find_link(link)
        {
            shell.log(self.now, &NodeEvent::LinkUp { link, role, node, wire });
        }
        if let Input::LinkDown { link, unsent } = &input {
            let (link, unsent) = (*link, unsent.len());
            shell.log(self.now, &NodeEvent::LinkDown { link, unsent });
        }
        Some(input)
    }

    pub(super) fn relay_report(&self) -> Option<RelayReport> {
        let links = self.links.as_ref()?;
        let unreachable_requests = self.unreachable_requests(links);
        Some(RelayReport { links: links.states(), totals: links.totals(), unreachable_requests })
    }

    /// Requests that wait for services which only nodes offer that this one has no link to.
    fn unreachable_requests(&self, links: &RelayLinks) -> usize {
        if links.has_all_links() {
            return 0;
        }
        let is_cut_off = |node: &mdp_catalog::NodeName| links.is_cut_off(node);
        let services = self.broker.services().filter(|service| service.queued > 0);
        let unreachable =
            services.filter(|service| self.replica.is_only_offered_by(&service.name, &is_cut_off));
        unreachable.map(|service| service.queued).sum()
    }
}
