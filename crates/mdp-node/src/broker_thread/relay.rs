//! What the broker thread does with the links between nodes. A node that is alone has none, and pays
//! nothing.

use std::time::Instant;

use super::{BATCH_MAX, BrokerThreadError, MESSAGES_PER_CLOCK, ReadState, Running};
use crate::{
    RelayReport,
    cluster::Cluster,
    relay_link::{Received, RelayLinks},
};

impl<C: Cluster> Running<C> {
    /// Reads a batch from the links, as it is done with the client port.
    pub(super) fn read_relay(&mut self) -> Result<ReadState, BrokerThreadError> {
        let mut has_messages = false;
        for count in 1..=BATCH_MAX {
            let Some(relay) = &mut self.it.relay else { return Ok(ReadState::Emptied) };
            match relay.receive(self.now).map_err(BrokerThreadError::Relay)? {
                Received::Nothing => {
                    self.run_effects()?;
                    return Ok(ReadState::Emptied);
                }
                // What became of links is told when all effects have been run.
                Received::Handled => self.run_effects()?,
                Received::Message(input) => {
                    self.it.broker.handle_input(self.now, input);
                    if !std::mem::replace(&mut has_messages, true) {
                        self.run_effects()?;
                    }
                }
            }
            if count % MESSAGES_PER_CLOCK == 0 {
                self.now = Instant::now();
            }
        }
        self.run_effects()?;
        Ok(ReadState::MoreWaits)
    }

    /// Makes links and judges them, after what came was read.
    pub(super) fn tend_relay(&mut self) -> Result<(), BrokerThreadError> {
        let Some(relay) = &mut self.it.relay else { return Ok(()) };
        if let Some(peers) = self.it.cluster.take_peers() {
            relay.set_peers(self.now, peers);
        }
        relay.tend(self.now).map_err(BrokerThreadError::Relay)?;
        self.run_effects()
    }

    /// Tells other nodes that this one is gone; true if they know.
    pub(super) fn say_bye(&mut self) -> Result<bool, BrokerThreadError> {
        let Some(relay) = &mut self.it.relay else { return Ok(true) };
        relay.say_bye(self.now).map_err(BrokerThreadError::Relay)
    }

    pub(super) fn relay_report(&self) -> Option<RelayReport> {
        let relay = self.it.relay.as_ref()?;
        let unreachable_requests = self.unreachable_requests(relay);
        Some(RelayReport { links: relay.states(), totals: relay.totals(), unreachable_requests })
    }

    /// Requests that wait for services which only nodes offer that this one has no link to.
    fn unreachable_requests(&self, relay: &RelayLinks) -> usize {
        if relay.has_all_links() {
            return 0;
        }
        let is_cut_off = |node: &mdp_catalog::NodeName| relay.is_cut_off(node);
        let services = self.it.broker.services().filter(|service| service.queued > 0);
        let unreachable = services
            .filter(|service| self.it.cluster.is_only_offered_by(&service.name, &is_cut_off));
        unreachable.map(|service| service.queued).sum()
    }
}
