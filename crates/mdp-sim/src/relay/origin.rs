//! The origin's end of a link.

use std::time::{Duration, Instant};

use mdp_broker::{Input, LinkId, LinkRole};
use mdp_catalog::NodeName;
use mdp_wire::{
    ServiceName,
    relay::{AtOrigin, Hello, ToOwner, Welcome, WireRange},
};

use super::{
    Ended, HANDSHAKE_TIME_MAX, Ledger, Myself, OWNER_SILENT_MAX, RETIRED_LINK_MAX, Turn, frames,
};
use crate::{
    Rng,
    network::site_of,
    wires::{Arrival, Frames, Side, WireId, WireKind},
};

/// The shortest wait before the next attempt, and what the longest begins with and grows to.
const WAIT_MIN: Duration = Duration::from_millis(50);
const CEILING_MIN: Duration = Duration::from_millis(100);
const CEILING_MAX: Duration = Duration::from_millis(500);

/// Another node, as the owner of requests.
#[derive(Debug)]
pub(super) struct Origin {
    node: NodeName,
    endpoint: String,
    site: usize,
    stage: Stage,
    wire: Option<WireId>,
    session: u64,
    failures: u32,
    retired_at: Option<Instant>,
    is_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Failed,
    Waiting { until: Instant },
    Connecting { until: Instant },
    Greeting { until: Instant },
    Up { link: LinkId, version: u16, heard_at: Instant },
}

impl Origin {
    /// `None`: nobody can be reached at that address.
    pub(super) fn new(node: NodeName, endpoint: String, now: Instant) -> Option<Self> {
        let site = site_of(&endpoint)?;
        Some(Self {
            node,
            endpoint,
            site,
            stage: Stage::Waiting { until: now },
            wire: None,
            session: 0,
            failures: 0,
            retired_at: None,
            is_over: false,
        })
    }

    pub(super) const fn node(&self) -> &NodeName {
        &self.node
    }

    pub(super) const fn wire(&self) -> Option<WireId> {
        self.wire
    }

    pub(super) fn is_at(&self, endpoint: &str) -> bool {
        self.endpoint == endpoint
    }

    pub(super) const fn link(&self) -> Option<LinkId> {
        match self.stage {
            Stage::Up { link, .. } => Some(link),
            Stage::Failed
            | Stage::Waiting { .. }
            | Stage::Connecting { .. }
            | Stage::Greeting { .. } => None,
        }
    }

    /// The node takes part, again.
    pub(super) const fn keep(&mut self) {
        self.retired_at = None;
    }

    /// The node does not take part any more.
    pub(super) fn retire(&mut self, now: Instant) {
        self.retired_at.get_or_insert(now);
        self.is_over |= self.link().is_none();
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Ends the link, if it is there, and forgets the node.
    pub(super) fn end(&mut self, turn: &mut Turn<'_>, ledger: &mut Ledger) {
        self.fail(turn, ledger);
        self.is_over = true;
    }

    /// The attempt failed, or the link is gone.
    fn fail(&mut self, turn: &mut Turn<'_>, ledger: &mut Ledger) {
        if let Some(link) = self.link() {
            ledger.down(link, Vec::new());
            turn.notes.ended.push(Ended::Link { owner: self.node.clone() });
            self.failures = 0;
            self.is_over |= self.retired_at.is_some();
        } else {
            self.failures = self.failures.saturating_add(1);
        }
        if let Some(wire) = self.wire.take() {
            turn.wires.close(turn.true_now, wire, Side::Caller);
        }
        self.stage = Stage::Failed;
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = match self.stage {
            Stage::Failed => return None,
            Stage::Waiting { until } | Stage::Connecting { until } | Stage::Greeting { until } => {
                until
            }
            Stage::Up { heard_at, .. } => heard_at + OWNER_SILENT_MAX,
        };
        Some(self.retired_at.map_or(due, |at| due.min(at + RETIRED_LINK_MAX)))
    }

    pub(super) fn on_arrival(
        &mut self,
        turn: &mut Turn<'_>,
        me: &Myself,
        ledger: &mut Ledger,
        arrival: Arrival,
    ) -> Option<Input<Vec<u8>>> {
        match arrival {
            Arrival::Opened => {}
            Arrival::Accepted => self.greet(turn, me),
            Arrival::Closed => self.fail(turn, ledger),
            Arrival::Frames(mut frames) => {
                let range = match self.stage {
                    Stage::Up { version, .. } => WireRange::only(version),
                    _ => me.wire,
                };
                let said = AtOrigin::decode(range, &mut frames).expect("nodes are well-behaved");
                return self.on_said(turn, me, ledger, said);
            }
        }
        None
    }

    fn on_said(
        &mut self,
        turn: &mut Turn<'_>,
        me: &Myself,
        ledger: &mut Ledger,
        said: AtOrigin<Vec<u8>>,
    ) -> Option<Input<Vec<u8>>> {
        let now = turn.now;
        match (self.stage, said) {
            (Stage::Up { link, version, .. }, AtOrigin::Message(message)) => {
                self.stage = Stage::Up { link, version, heard_at: now };
                return Some(Input::FromOwner { link, message });
            }
            (Stage::Up { link, version, .. }, AtOrigin::Ping) => {
                self.stage = Stage::Up { link, version, heard_at: now };
            }
            (Stage::Greeting { .. }, AtOrigin::Welcome(welcome)) => {
                self.on_welcome(turn, me, ledger, &welcome);
            }
            // The end, a refusal, or something at the wrong time.
            (_, _) => self.fail(turn, ledger),
        }
        None
    }

    fn on_welcome(
        &mut self,
        turn: &mut Turn<'_>,
        me: &Myself,
        ledger: &mut Ledger,
        welcome: &Welcome,
    ) {
        if welcome.node != self.node.as_str() || !me.wire.contains(welcome.wire) {
            return self.fail(turn, ledger);
        }
        self.failures = 0;
        let link = ledger.up(LinkRole::Origin);
        turn.notes.lines.push(format!("link {} to {}", link.0, self.node));
        turn.wires.count_link(welcome.wire);
        self.stage = Stage::Up { link, version: welcome.wire, heard_at: turn.now };
    }

    pub(super) fn send(
        &mut self,
        turn: &mut Turn<'_>,
        message: ToOwner<ServiceName, Vec<u8>>,
        ledger: &mut Ledger,
    ) {
        let (Some(wire), Stage::Up { version, .. }) = (self.wire, self.stage) else { return };
        if turn.wires.is_open(wire, Side::Caller) {
            let frames = frames(|sink: &mut Frames| message.encode(version, sink));
            turn.wires.send(turn.true_now, wire, Side::Caller, frames);
        } else if let Some(link) = self.link() {
            // The connection is gone, which is still to be read here.
            let unsent = match message {
                ToOwner::Forward(forward) => Some(forward.id),
                ToOwner::Cancel(_) => None,
            };
            self.fail(turn, ledger);
            unsent.into_iter().for_each(|id| ledger.add_unsent(link, id));
        }
    }

    fn greet(&mut self, turn: &mut Turn<'_>, me: &Myself) {
        let (Stage::Connecting { until }, Some(wire), Some((cluster, epoch))) =
            (self.stage, self.wire, &me.life)
        else {
            return;
        };
        let hello = Hello {
            wire: me.wire,
            version: me.version.clone(),
            cluster: cluster.clone(),
            node: me.node.as_str().to_owned(),
            epoch: *epoch,
            wanted: self.node.as_str().to_owned(),
            session: self.session,
        };
        let frames = frames(|sink: &mut Frames| hello.encode::<Vec<u8>, _>(sink));
        turn.wires.send(turn.true_now, wire, Side::Caller, frames);
        self.stage = Stage::Greeting { until };
    }

    /// Ends what takes too long.
    pub(super) fn judge(&mut self, turn: &mut Turn<'_>, ledger: &mut Ledger) {
        if self.retired_at.is_some_and(|at| turn.now >= at + RETIRED_LINK_MAX) {
            self.end(turn, ledger);
        }
        let is_late = match self.stage {
            Stage::Connecting { until } | Stage::Greeting { until } => turn.now >= until,
            Stage::Up { heard_at, .. } => turn.now >= heard_at + OWNER_SILENT_MAX,
            Stage::Failed | Stage::Waiting { .. } => false,
        };
        if is_late {
            self.fail(turn, ledger);
        }
    }

    pub(super) fn wants_connection(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Waiting { until } if now >= until) && !self.is_over
    }

    pub(super) fn connect(&mut self, turn: &mut Turn<'_>, session: u64, from: usize) {
        self.session = session;
        self.wire = Some(turn.wires.open(turn.true_now, WireKind::Relay, from, self.site));
        self.stage = Stage::Connecting { until: turn.now + HANDSHAKE_TIME_MAX };
    }

    /// After an attempt that failed, decides when the next one is made.
    pub(super) fn settle(&mut self, now: Instant, rng: &mut Rng) {
        if self.stage == Stage::Failed {
            let ceiling = CEILING_MIN.saturating_mul(1 << self.failures.min(4)).min(CEILING_MAX);
            self.stage = Stage::Waiting { until: now + rng.duration(WAIT_MIN, ceiling) };
        }
    }

    /// This process stood still: everything gets its time anew.
    pub(super) fn rearm(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Failed | Stage::Waiting { .. } => {}
            Stage::Connecting { until } | Stage::Greeting { until } => {
                *until = now + HANDSHAKE_TIME_MAX;
            }
            Stage::Up { heard_at, .. } => *heard_at = now,
        }
    }
}
