//! What the engine decided is done, and the engine is told what came of it.

use mdp_broker::{Effect, Input, Note, PeerId, Subject};
use mdp_replica::Agreement;
use mdp_transport::{
    self as transport, Loss, PeerAddress, SharedFrame, StreamError, TransportEvent,
};
use mdp_wire::{DecodeError, Defect};

use super::NodeCore;
use crate::{
    NodeEvent, PortName, RelayLinks, Shell,
    clients::peer_id,
    pages::{self, View},
};

impl<A: Agreement> NodeCore<A> {
    /// Runs what the engine decided, then tells it what came of that, until both are done.
    pub(super) fn run_effects(&mut self, shell: &mut impl Shell) {
        loop {
            while let Some(effect) = self.broker.poll_effect() {
                self.run_effect(shell, effect);
            }
            let Some(input) = self.poll_input(shell) else { return };
            self.broker.handle_input(self.now, input);
        }
    }

    /// What came of the effects, once all of them have been run.
    fn poll_input(&mut self, shell: &mut impl Shell) -> Option<Input<SharedFrame>> {
        if let Some(lost) = self.poll_lost(shell) {
            return Some(lost);
        }
        self.poll_link(shell).or_else(|| self.replica.poll_answer())
    }

    /// The next client or worker whose connection is gone.
    fn poll_lost(&mut self, shell: &mut impl Shell) -> Option<Input<SharedFrame>> {
        loop {
            match self.clients.poll_event()? {
                TransportEvent::Opened { .. } => {}
                TransportEvent::Authenticate { id, key, is_last } => {
                    let now = (self.now, shell.unix_seconds());
                    self.clients.authenticate(now, id, key, is_last);
                }
                TransportEvent::Refused { address, why, .. } => {
                    shell.log(self.now, &NodeEvent::Refused { address, why: &why });
                }
                TransportEvent::Lost { id, address, why, unsent } => {
                    let peer = peer_id(id);
                    if let Some(address) = address {
                        shell.log(self.now, &NodeEvent::Lost { peer: &peer, address, why: &why });
                        self.last_lost = Some((peer.clone(), address));
                    }
                    if let Some(defect) = beyond_limits(&why).filter(|_| unsent.is_empty()) {
                        let (from, error) = (peer.clone(), DecodeError::Malformed(defect));
                        self.broker.handle_input(self.now, Input::Malformed { from, error });
                    }
                    // A worker has at most one request.
                    return Some(Input::PeerLost { peer, unsent: unsent.into_iter().last() });
                }
            }
        }
    }

    fn run_effect(&mut self, shell: &mut impl Shell, effect: Effect<SharedFrame>) {
        match effect {
            Effect::Send { to, message } => {
                if let Some(id) = self.clients.send(&to, message) {
                    shell.write_if_much(self.now, PortName::Clients, id, self.clients.transport());
                }
            }
            Effect::ToOwner { link, message } => self.send_to_owner(shell, link, message),
            Effect::ToOrigin { link, message } => self.send_to_origin(shell, link, message),
            Effect::Propose(entry) => self.replica.propose(entry),
            Effect::Lookup { query, service, purpose } => {
                self.replica.lookup(query, service, purpose);
            }
            Effect::Describe { query, page, asker, subject } => {
                let json = self.describe(page, &asker, subject);
                self.replica.answer(Input::Described { query, json });
            }
            Effect::Note(note) => self.note(shell, &note),
            Effect::Drained(receipt) => self.on_drained(receipt),
        }
    }

    fn describe(&self, page: mdp_broker::Page, asker: &PeerId, subject: Subject) -> Vec<u8> {
        let links = self.links.as_ref().map(RelayLinks::states).unwrap_or_default();
        let view = View {
            version: self.version,
            broker: &self.broker,
            connections: self.clients.totals(),
            links: &links,
            networks: &self.networks,
            asker: self.clients.address(asker).and_then(PeerAddress::ip),
            subject,
            now: self.now,
        };
        pages::page(page, &self.replica, &view)
    }

    fn note(&mut self, shell: &mut impl Shell, note: &Note) {
        if let Note::WorkerUp { peer, .. } = note {
            self.clients.let_be_silent(peer);
        }
        let address = peer_of(note).and_then(|peer| self.address_of(peer));
        shell.log(self.now, &NodeEvent::Note { note, address });
    }

    /// Where a peer connects from, or connected from until a moment ago.
    fn address_of(&self, peer: &PeerId) -> Option<PeerAddress> {
        let lost = self.last_lost.as_ref().filter(|(lost, _)| lost == peer);
        self.clients.address(peer).or_else(|| lost.map(|(_, address)| *address))
    }
}

/// Whom a note is about.
const fn peer_of(note: &Note) -> Option<&PeerId> {
    match note {
        Note::WorkerUp { peer, .. }
        | Note::WorkerDown { peer, .. }
        | Note::UndelimitedReply { peer, .. }
        | Note::BadAnswer { peer, .. }
        | Note::RegistrationRefused { peer, .. }
        | Note::Denied { peer, .. } => Some(peer),
        Note::ServiceUp { .. } | Note::ServiceDown { .. } | Note::Paused { .. } => None,
    }
}

/// Whether a peer was lost because of a message beyond the limits, which the engine never sees.
const fn beyond_limits(why: &Loss) -> Option<Defect> {
    let Loss::Ended(transport::Ending::Stream(error)) = why else { return None };
    match error {
        StreamError::MessageTooLarge { .. } => Some(Defect::TooLarge),
        StreamError::TooManyFrames { .. } => Some(Defect::TooManyFrames),
        StreamError::BadFlags(_) | StreamError::CommandTooLarge { .. } | StreamError::Curve(_) => {
            None
        }
    }
}
