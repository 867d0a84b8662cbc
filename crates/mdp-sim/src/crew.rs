//! The clients and workers of a run: their connections, and what they want.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use crate::{
    actor::{Actor, ActorAction},
    observation::{Event, Observation, RegistrationId},
    wires::{Arrival, Delivery, Side, WireId, WireKind, Wires},
};

/// Everybody who is not a node.
#[derive(Debug)]
pub(crate) struct Crew {
    members: Vec<Member>,
    /// The site of the first one.
    first_site: usize,
    /// What each connection of a worker was for: each registration has its own.
    registrations: BTreeMap<WireId, RegistrationId>,
}

#[derive(Debug)]
struct Member {
    actor: Box<dyn Actor>,
    connection: Option<Connection>,
    condition: Condition,
    /// What came while it stood still.
    missed: VecDeque<Delivery>,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    wire: WireId,
    node: usize,
}

/// How an actor's process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Alive,
    /// It stands still.
    Frozen,
    Dead,
}

impl Crew {
    pub(crate) fn new(actors: Vec<Box<dyn Actor>>, first_site: usize) -> Self {
        let members = actors.into_iter().map(|actor| Member {
            actor,
            connection: None,
            condition: Condition::Dead,
            missed: VecDeque::new(),
        });
        Self { members: members.collect(), first_site, registrations: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The numbers of those that offer services.
    pub(crate) fn workers(&self) -> Vec<usize> {
        let members = self.members.iter().enumerate();
        members.filter(|(_, member)| member.actor.is_worker()).map(|(number, _)| number).collect()
    }

    /// The registration that this connection was for.
    pub(crate) fn registration(&self, wire: WireId) -> Option<RegistrationId> {
        self.registrations.get(&wire).copied()
    }

    pub(crate) fn revive(&mut self, now: Instant, actor: usize) {
        let member = &mut self.members[actor];
        if member.condition == Condition::Dead {
            member.condition = Condition::Alive;
            member.actor.revive(now);
        }
    }

    /// Kills its process; its connection ends as the system ends it.
    pub(crate) fn kill(&mut self, now: Instant, wires: &mut Wires, actor: usize) {
        let member = &mut self.members[actor];
        if let Some(connection) = member.connection.take() {
            wires.close(now, connection.wire, Side::Caller);
        }
        member.missed.clear();
        member.condition = Condition::Dead;
        member.actor.die(now);
    }

    pub(crate) fn freeze(&mut self, actor: usize) {
        let member = &mut self.members[actor];
        if member.condition == Condition::Alive {
            member.condition = Condition::Frozen;
        }
    }

    pub(crate) fn thaw(&mut self, now: Instant, actor: usize) {
        let member = &mut self.members[actor];
        if member.condition == Condition::Frozen {
            member.condition = Condition::Alive;
            for delivery in std::mem::take(&mut member.missed) {
                member.take(now, delivery);
            }
        }
    }

    pub(crate) fn settle(&mut self, now: Instant, until: Instant) {
        self.members.iter_mut().for_each(|member| member.actor.settle(now, until));
    }

    /// Something arrived at an actor.
    pub(crate) fn put(&mut self, now: Instant, delivery: Delivery) {
        let member = &mut self.members[delivery.site - self.first_site];
        match member.condition {
            Condition::Alive => member.take(now, delivery),
            Condition::Frozen => member.missed.push_back(delivery),
            Condition::Dead => {}
        }
    }

    /// When somebody has something to do.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        let alive = self.members.iter().filter(|member| member.condition == Condition::Alive);
        alive.filter_map(|member| member.actor.poll_timeout()).min()
    }

    /// Does what is due and what actors want; what they observed, with their numbers.
    pub(crate) fn run(
        &mut self,
        now: Instant,
        wires: &mut Wires,
        seen: &mut Vec<(usize, Observation)>,
    ) {
        for (number, member) in self.members.iter_mut().enumerate() {
            if member.condition == Condition::Alive
                && member.actor.poll_timeout().is_some_and(|at| at <= now)
            {
                member.actor.on_timeout(now);
            }
            while let Some(action) = member.actor.poll_action() {
                match action {
                    ActorAction::Observe(observation) => {
                        let began = member.registration_begun_by(&observation);
                        self.registrations.extend(began);
                        seen.push((number, observation));
                    }
                    action @ (ActorAction::Connect { .. }
                    | ActorAction::Close
                    | ActorAction::Send(_)) => {
                        member.act(now, wires, self.first_site + number, action);
                    }
                }
            }
        }
    }
}

impl Member {
    /// The registration that its actor begins by what was observed, and the connection of that.
    fn registration_begun_by(&self, observation: &Observation) -> Option<(WireId, RegistrationId)> {
        let Event::ReadySent { id, .. } = observation.event else { return None };
        self.connection.as_ref().map(|connection| (connection.wire, id))
    }

    fn take(&mut self, now: Instant, delivery: Delivery) {
        let Some(Connection { wire, node }) = self.connection else { return };
        if wire != delivery.wire {
            return;
        }
        match delivery.arrival {
            Arrival::Opened | Arrival::Bytes(_) | Arrival::Writable => {}
            Arrival::Accepted => self.actor.on_connected(now, node),
            Arrival::Frames(frames) => self.actor.on_frames(now, frames),
            Arrival::Closed => {
                self.connection = None;
                self.actor.on_closed(now);
            }
        }
    }

    fn act(&mut self, now: Instant, wires: &mut Wires, site: usize, action: ActorAction) {
        match action {
            ActorAction::Connect { node } => {
                self.close(now, wires);
                let wire = wires.open(now, WireKind::Front, site, node);
                self.connection = Some(Connection { wire, node });
            }
            ActorAction::Close => self.close(now, wires),
            ActorAction::Send(frames) => {
                if let Some(connection) = self.connection {
                    wires.send(now, connection.wire, Side::Caller, frames);
                }
            }
            ActorAction::Observe(_) => {}
        }
    }

    fn close(&mut self, now: Instant, wires: &mut Wires) {
        if let Some(connection) = self.connection.take() {
            wires.close(now, connection.wire, Side::Caller);
        }
    }
}
