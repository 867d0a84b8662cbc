//! The owner's ends of links.

use std::time::Instant;

use mdp_broker::{Input, LinkId, LinkRole};
use mdp_catalog::NodeName;
use mdp_wire::{
    ClientNetworks,
    relay::{
        AtOwner, Hello, Refusal, RefusalReason, ToOrigin, Welcome, WireRange, encode_bye,
        encode_ping,
    },
};

use super::{Ledger, Myself, PING_INTERVAL, Turn, frames};
use crate::wires::{Arrival, Frames, Side, WireId};

/// The owner's ends of links.
#[derive(Debug, Default)]
pub(super) struct Owner {
    links: Vec<Inbound>,
    is_leaving: bool,
}

#[derive(Debug)]
struct Inbound {
    wire: WireId,
    link: LinkId,
    node: NodeName,
    epoch: u64,
    session: u64,
    /// The wire version of everything on the link.
    version: u16,
    sent_at: Instant,
    has_said_bye: bool,
}

impl Owner {
    pub(super) fn on_arrival(
        &mut self,
        turn: &mut Turn<'_>,
        me: &Myself,
        ledger: &mut Ledger,
        (wire, arrival): (WireId, Arrival),
    ) -> Option<Input<Vec<u8>>> {
        match arrival {
            Arrival::Opened => turn.wires.accept(turn.true_now, wire),
            Arrival::Accepted => {}
            // A ROUTER is not told; the next thing that it sends finds nobody.
            Arrival::Closed => {}
            Arrival::Frames(mut frames) => {
                let inbound = self.links.iter().find(|link| link.wire == wire);
                let range = inbound.map_or(me.wire, |link| WireRange::only(link.version));
                let link = inbound.map(|link| link.link);
                let said = AtOwner::decode(range, &mut frames).expect("nodes are well-behaved");
                match (link, said) {
                    (Some(link), AtOwner::Message(message)) => {
                        return Some(Input::FromOrigin { link, message });
                    }
                    (None, AtOwner::Hello(hello)) => {
                        self.on_hello(turn, me, ledger, (wire, &hello));
                    }
                    // The end of a link that was given up here, and not there yet.
                    (None, AtOwner::Message(_)) => {
                        refuse(turn, me, wire, RefusalReason::NotLinked);
                    }
                    (Some(_), AtOwner::Hello(_)) => panic!("a node greets twice"),
                }
            }
        }
        None
    }

    fn on_hello(
        &mut self,
        turn: &mut Turn<'_>,
        me: &Myself,
        ledger: &mut Ledger,
        (wire, hello): (WireId, &Hello),
    ) {
        let (version, node, epoch) = match self.judge(me, hello) {
            Ok(accepted) => accepted,
            Err(reason) => return refuse(turn, me, wire, reason),
        };
        if !turn.wires.is_open(wire, Side::Callee) {
            return;
        }
        let welcome = Welcome {
            wire: version,
            version: me.version.clone(),
            node: me.node.as_str().to_owned(),
            epoch,
            networks: ClientNetworks::default(),
        };
        let frames = frames(|sink: &mut Frames| welcome.encode::<Vec<u8>, _>(sink));
        turn.wires.send(turn.true_now, wire, Side::Callee, frames);
        if let Some(at) = self.links.iter().position(|link| link.node == node) {
            ledger.down(self.links.swap_remove(at).link, Vec::new());
        }
        let link = ledger.up(LinkRole::Owner);
        turn.notes.lines.push(format!("link {} from {node}", link.0));
        let (epoch, session) = (hello.epoch, hello.session);
        let has_said_bye = false;
        self.links.push(Inbound {
            wire,
            link,
            node,
            epoch,
            session,
            version,
            sent_at: turn.now,
            has_said_bye,
        });
    }

    fn judge(&self, me: &Myself, hello: &Hello) -> Result<(u16, NodeName, u64), RefusalReason> {
        let range = me.wire;
        let wire = range.newest_common(hello.wire);
        let wire = wire.ok_or(RefusalReason::WrongVersion { min: range.min, max: range.max })?;
        let node: NodeName = hello.node.parse().map_err(|_| RefusalReason::Malformed)?;
        let (cluster, epoch) = me.life.as_ref().ok_or(RefusalReason::NotReady)?;
        if *cluster != hello.cluster {
            return Err(RefusalReason::WrongCluster);
        }
        if hello.wanted != me.node.as_str() || node == me.node {
            return Err(RefusalReason::WrongNode);
        }
        if self.is_leaving {
            return Err(RefusalReason::NotReady);
        }
        match self.links.iter().find(|link| link.node == node) {
            Some(link) if (hello.epoch, hello.session) <= (link.epoch, link.session) => {
                Err(RefusalReason::Superseded)
            }
            Some(_) | None => Ok((wire, node, *epoch)),
        }
    }

    pub(super) fn send(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        message: ToOrigin<Vec<u8>>,
        ledger: &mut Ledger,
    ) {
        let Some(at) = self.links.iter().position(|other| other.link == link) else {
            return;
        };
        let inbound = &mut self.links[at];
        inbound.sent_at = turn.now;
        if turn.wires.is_open(inbound.wire, Side::Callee) {
            let frames = frames(|sink: &mut Frames| message.encode(inbound.version, sink));
            turn.wires.send(turn.true_now, inbound.wire, Side::Callee, frames);
        } else {
            ledger.down(self.links.swap_remove(at).link, Vec::new());
        }
    }

    /// Shows origins that this node is there, and finds those that are gone.
    pub(super) fn tend(&mut self, turn: &mut Turn<'_>) -> Vec<LinkId> {
        let mut gone = Vec::new();
        self.links.retain_mut(|inbound| {
            if turn.now.saturating_duration_since(inbound.sent_at) < PING_INTERVAL {
                return true;
            }
            inbound.sent_at = turn.now;
            if turn.wires.is_open(inbound.wire, Side::Callee) {
                let ping =
                    frames(|sink: &mut Frames| encode_ping::<Vec<u8>, _>(inbound.version, sink));
                turn.wires.send(turn.true_now, inbound.wire, Side::Callee, ping);
                return true;
            }
            gone.push(inbound.link);
            false
        });
        gone
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.links.iter().map(|link| link.sent_at + PING_INTERVAL).min()
    }

    /// Tells every origin that nothing follows; an origin closes its end then. True when all have.
    pub(super) fn say_bye(&mut self, turn: &mut Turn<'_>) -> bool {
        self.is_leaving = true;
        self.links.retain_mut(|inbound| {
            let is_open = turn.wires.is_open(inbound.wire, Side::Callee);
            if is_open && !std::mem::replace(&mut inbound.has_said_bye, true) {
                let bye =
                    frames(|sink: &mut Frames| encode_bye::<Vec<u8>, _>(inbound.version, sink));
                turn.wires.send(turn.true_now, inbound.wire, Side::Callee, bye);
            }
            is_open
        });
        self.links.is_empty()
    }
}

/// Tells another node that there is no link.
fn refuse(turn: &mut Turn<'_>, me: &Myself, wire: WireId, reason: RefusalReason) {
    let version = me.version.clone();
    let refusal = Refusal { reason, version, node: me.node.as_str().to_owned() };
    let frames = frames(|sink: &mut Frames| refusal.encode::<Vec<u8>, _>(sink));
    turn.wires.send(turn.true_now, wire, Side::Callee, frames);
}
