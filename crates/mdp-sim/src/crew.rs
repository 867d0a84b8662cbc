//! The clients and workers of a run: their connections, and what they want.

mod dealer;

use std::{collections::BTreeMap, time::Instant};

use self::dealer::Dealer;
use crate::{
    actor::{Actor, ActorAction},
    observation::{Event, Observation, RegistrationId},
    port::Io,
    wires::{Delivery, WireId, Wires},
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
    dealer: Option<Dealer>,
    condition: Condition,
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
            dealer: None,
            condition: Condition::Dead,
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
        if let Some(dealer) = member.dealer.take() {
            dealer.close(&mut Io { now, true_now: now, wires });
        }
        member.condition = Condition::Dead;
        member.actor.die(now);
    }

    pub(crate) fn freeze(&mut self, actor: usize) {
        let member = &mut self.members[actor];
        if member.condition == Condition::Alive {
            member.condition = Condition::Frozen;
        }
    }

    pub(crate) fn thaw(&mut self, actor: usize) {
        let member = &mut self.members[actor];
        if member.condition == Condition::Frozen {
            member.condition = Condition::Alive;
        }
    }

    pub(crate) fn settle(&mut self, now: Instant, until: Instant) {
        self.members.iter_mut().for_each(|member| member.actor.settle(now, until));
    }

    /// Something arrived at an actor's machine. Its process reads it, unless that stands still.
    pub(crate) fn put(&mut self, delivery: Delivery) {
        let member = &mut self.members[delivery.site - self.first_site];
        if let Some(dealer) = &mut member.dealer {
            dealer.put(delivery);
        }
    }

    /// When a member has something to do.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        let alive = self.members.iter().filter(|member| member.condition == Condition::Alive);
        alive.filter_map(|member| member.next_at(now)).min()
    }

    /// Does what is due and what actors want; what they observed, with their numbers.
    pub(crate) fn run(
        &mut self,
        now: Instant,
        wires: &mut Wires,
        seen: &mut Vec<(usize, Observation)>,
    ) {
        let io = &mut Io { now, true_now: now, wires };
        for (number, member) in self.members.iter_mut().enumerate() {
            if member.condition == Condition::Alive {
                member.read(io);
                if member.actor.poll_timeout().is_some_and(|at| at <= now) {
                    member.actor.on_timeout(now);
                }
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
                        member.act(io, self.first_site + number, action);
                    }
                }
            }
            member.flush(io);
        }
    }
}

impl Member {
    /// The registration that its actor begins by what was observed, and the connection of that.
    fn registration_begun_by(&self, observation: &Observation) -> Option<(WireId, RegistrationId)> {
        let Event::ReadySent { id, .. } = observation.event else { return None };
        self.dealer.as_ref().map(|dealer| (dealer.wire, id))
    }

    fn next_at(&self, now: Instant) -> Option<Instant> {
        if self.dealer.as_ref().is_some_and(Dealer::is_awake) {
            return Some(now);
        }
        let due = self.dealer.as_ref().and_then(Dealer::poll_timeout);
        self.actor.poll_timeout().into_iter().chain(due).min()
    }

    /// Reads what has come, and tells the actor.
    fn read(&mut self, io: &mut Io<'_>) {
        let Some(dealer) = &mut self.dealer else { return };
        let news = dealer.read(io);
        if news.is_open {
            self.actor.on_connected(io.now, dealer.node);
        }
        for frames in news.messages {
            self.actor.on_frames(io.now, frames);
        }
        if news.is_over {
            self.close(io);
            self.actor.on_closed(io.now);
        }
    }

    fn act(&mut self, io: &mut Io<'_>, site: usize, action: ActorAction) {
        match action {
            ActorAction::Connect { node } => {
                self.close(io);
                self.dealer = Some(Dealer::dial(io, site, node));
            }
            ActorAction::Close => self.close(io),
            ActorAction::Send(frames) => {
                if let Some(dealer) = &mut self.dealer {
                    dealer.send(frames);
                }
            }
            ActorAction::Observe(_) => {}
        }
    }

    fn flush(&mut self, io: &mut Io<'_>) {
        if self.condition == Condition::Alive
            && let Some(dealer) = &mut self.dealer
        {
            dealer.flush(io);
        }
    }

    /// Closes the connection, if there is one, behind what was sent.
    fn close(&mut self, io: &mut Io<'_>) {
        if let Some(mut dealer) = self.dealer.take() {
            dealer.flush(io);
            dealer.close(io);
        }
    }
}
