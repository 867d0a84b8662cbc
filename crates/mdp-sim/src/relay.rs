//! The links of one process with other nodes, as the node's own `relay_link` makes and judges them, over
//! virtual connections instead of sockets. Every message goes through the real encoder and decoder.

mod origin;
mod owner;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use mdp_broker::{Input, LinkId, LinkRole, WorkerEnd};
use mdp_catalog::NodeName;
use mdp_replica::Peers;
use mdp_wire::{
    ServiceName,
    relay::{ForwardId, ToOrigin, ToOwner, WireRange},
};

use self::{origin::Origin, owner::Owner};
use crate::{
    Rng,
    release::Release,
    truth::Truth,
    wires::{Arrival, Frames, Side, WireId, Wires},
};

/// How long making a link may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_millis(500);
/// How often an owner says something.
const PING_INTERVAL: Duration = Duration::from_millis(300);
/// How long an owner may say nothing.
const OWNER_SILENT_MAX: Duration = Duration::from_secs(2);
/// How long a link with a node that the catalog has given up may stay.
const RETIRED_LINK_MAX: Duration = Duration::from_secs(1);
/// A turn that is so late means that this process stood still.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest sleep of a broker thread.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// The moment of a turn, and what it sends by.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    /// By the machine's clock.
    pub(crate) now: Instant,
    /// By no machine's clock.
    pub(crate) true_now: Instant,
    pub(crate) wires: &'a mut Wires,
    pub(crate) notes: &'a mut Notes,
    /// Hears what the node hears.
    pub(crate) truth: &'a mut Truth,
}

/// What is told of a turn.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// What is worth a line of the trace.
    pub(crate) lines: Vec<String>,
    /// What the node gave up.
    pub(crate) ended: Vec<Ended>,
}

/// What a node gave up: whoever is at the other end may not know it yet.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The registration of the worker on this connection, which the node still has.
    Worker { wire: WireId, end: WorkerEnd },
    /// The link with a node that had its requests.
    Link { owner: NodeName },
}

/// Who this node is.
#[derive(Debug)]
struct Myself {
    site: usize,
    node: NodeName,
    wire: WireRange,
    version: String,
    /// The cluster's id and the current life, once there is one.
    life: Option<(String, u64)>,
}

/// What the engine is still to be told.
#[derive(Debug, Default)]
struct Ledger {
    inputs: VecDeque<Input<Vec<u8>>>,
    links: u64,
}

/// A process's ends of all links.
#[derive(Debug)]
pub(crate) struct Links {
    me: Myself,
    origins: Vec<Origin>,
    owner: Owner,
    ledger: Ledger,
    rng: Rng,
    session: u64,
    due: Option<Instant>,
}

impl Links {
    pub(crate) fn new(site: usize, node: NodeName, release: Release, rng: Rng) -> Self {
        let (wire, version) = (release.relay_wire(), release.version().to_string());
        Self {
            me: Myself { site, node, wire, version, life: None },
            origins: Vec::new(),
            owner: Owner::default(),
            ledger: Ledger::default(),
            rng,
            session: 0,
            due: None,
        }
    }

    /// From now on there are these nodes, and no others.
    pub(crate) fn set_peers(&mut self, turn: &mut Turn<'_>, peers: Peers) {
        let Peers { cluster, epoch, nodes } = peers;
        self.me.life = Some((cluster, epoch.0));
        for origin in &mut self.origins {
            match nodes.iter().find(|(node, _)| node == origin.node()) {
                Some((_, endpoint)) if origin.is_at(endpoint) => origin.keep(),
                Some(_) => origin.end(turn, &mut self.ledger),
                None => origin.retire(turn.now),
            }
        }
        self.origins.retain(|origin| !origin.is_over());
        for (node, endpoint) in nodes {
            let is_known = self.origins.iter().any(|origin| *origin.node() == node);
            if !is_known && node != self.me.node {
                self.origins.extend(Origin::new(node, endpoint, turn.now));
            }
        }
    }

    /// Something came over a connection between nodes. What is for the engine is returned.
    pub(crate) fn on_arrival(
        &mut self,
        turn: &mut Turn<'_>,
        (wire, side): (WireId, Side),
        arrival: Arrival,
    ) -> Option<Input<Vec<u8>>> {
        let Self { me, ledger, owner, origins, .. } = self;
        match side {
            Side::Callee => owner.on_arrival(turn, me, ledger, (wire, arrival)),
            Side::Caller => {
                let origin = origins.iter_mut().find(|origin| origin.wire() == Some(wire))?;
                origin.on_arrival(turn, me, ledger, arrival)
            }
        }
    }

    pub(crate) fn send_to_owner(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        message: ToOwner<ServiceName, Vec<u8>>,
    ) {
        match self.origins.iter_mut().find(|origin| origin.link() == Some(link)) {
            Some(origin) => origin.send(turn, message, &mut self.ledger),
            None => {
                if let ToOwner::Forward(forward) = message {
                    self.ledger.add_unsent(link, forward.id);
                }
            }
        }
    }

    pub(crate) fn send_to_origin(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        message: ToOrigin<Vec<u8>>,
    ) {
        self.owner.send(turn, link, message, &mut self.ledger);
    }

    /// What the engine is to be told of links, when all effects have been run.
    pub(crate) fn poll_input(&mut self) -> Option<Input<Vec<u8>>> {
        self.ledger.inputs.pop_front()
    }

    /// Makes links and judges them.
    pub(crate) fn tend(&mut self, turn: &mut Turn<'_>) {
        if self.due.is_some_and(|due| turn.now > due + PAUSE_MIN) {
            self.origins.iter_mut().for_each(|origin| origin.rearm(turn.now));
        }
        for link in self.owner.tend(turn) {
            self.ledger.down(link, Vec::new());
        }
        for origin in &mut self.origins {
            origin.judge(turn, &mut self.ledger);
            if origin.wants_connection(turn.now) {
                self.session += 1;
                origin.connect(turn, self.session, self.me.site);
            }
            origin.settle(turn.now, &mut self.rng);
        }
        self.origins.retain(|origin| !origin.is_over());
        let latest = turn.now + SLEEP_MAX;
        self.due = Some(self.poll_timeout().map_or(latest, |at| at.min(latest)));
    }

    /// When [`tend`](Self::tend) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let origins = self.origins.iter().filter_map(Origin::poll_timeout);
        origins.chain(self.owner.poll_timeout()).min()
    }

    /// Tells every origin that nothing follows; true when all are gone.
    pub(crate) fn say_bye(&mut self, turn: &mut Turn<'_>) -> bool {
        self.owner.say_bye(turn)
    }
}

impl Ledger {
    fn up(&mut self, role: LinkRole) -> LinkId {
        self.links += 1;
        let link = LinkId(self.links);
        self.inputs.push_back(Input::LinkUp { link, role });
        link
    }

    fn down(&mut self, link: LinkId, unsent: Vec<ForwardId>) {
        self.inputs.push_back(Input::LinkDown { link, unsent });
    }

    /// It only matters if the engine is still to be told that the link is gone.
    fn add_unsent(&mut self, gone: LinkId, id: ForwardId) {
        for input in &mut self.inputs {
            if let Input::LinkDown { link, unsent } = input
                && *link == gone
            {
                unsent.push(id);
            }
        }
    }
}

/// Frames of something that cannot fail to be encoded.
fn frames(encode: impl FnOnce(&mut Frames) -> Result<(), std::convert::Infallible>) -> Frames {
    let mut frames = Frames::new();
    match encode(&mut frames) {
        Ok(()) => frames,
        Err(never) => match never {},
    }
}
