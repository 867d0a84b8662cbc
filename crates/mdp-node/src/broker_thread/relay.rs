//! What the broker thread does with the links between nodes. A node that is alone has none, and pays
//! nothing.

use std::time::Instant;

use mdp_replica::Agreement;

use super::{ReadState, Running};
use crate::{RelayReport, relay_port::RelayPort};

impl<A: Agreement> Running<A> {
    /// Takes what other nodes send, as it is done with the client port.
    pub(super) fn read_relay(&mut self) -> ReadState {
        let Self { it, now, .. } = self;
        let Some(relay) = &mut it.relay else { return ReadState::Emptied };
        let broker = &mut it.broker;
        let state = relay.read(*now, |input| broker.handle_input(*now, input));
        self.now = Instant::now();
        // What became of links is told when all effects have been run.
        self.run_effects();
        state
    }

    /// Makes links and judges them, after what came was read.
    pub(super) fn tend_relay(&mut self) {
        let Some(relay) = &mut self.it.relay else { return };
        if let Some(peers) = self.it.replica.take_peers() {
            relay.set_peers(self.now, peers);
        }
        relay.tend(self.now);
        self.run_effects();
    }

    /// Tells other nodes that this one is gone; true if they know.
    pub(super) fn say_bye(&mut self) -> bool {
        let Some(relay) = &mut self.it.relay else { return true };
        relay.tend(self.now);
        relay.say_bye(self.now)
    }

    pub(super) fn relay_report(&self) -> Option<RelayReport> {
        let relay = self.it.relay.as_ref()?;
        let unreachable_requests = self.unreachable_requests(relay);
        Some(RelayReport { links: relay.states(), totals: relay.totals(), unreachable_requests })
    }

    /// Requests that wait for services which only nodes offer that this one has no link to.
    fn unreachable_requests(&self, relay: &RelayPort) -> usize {
        if relay.has_all_links() {
            return 0;
        }
        let is_cut_off = |node: &mdp_catalog::NodeName| relay.is_cut_off(node);
        let services = self.it.broker.services().filter(|service| service.queued > 0);
        let unreachable = services
            .filter(|service| self.it.replica.is_only_offered_by(&service.name, &is_cut_off));
        unreachable.map(|service| service.queued).sum()
    }
}
