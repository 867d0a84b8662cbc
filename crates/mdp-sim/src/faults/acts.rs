//! Doing and undoing faults.

use std::time::{Duration, Instant};

use super::{Act, Kind};
use crate::{
    disk::{DiskTrouble, Unsynced},
    machine::TRUE_RATE,
    network::Weather,
    observation::{Event as Seen, Fault},
    trace::Who,
    world::{Event, World},
};

/// How long a flapping link is cut, and is whole, each time.
const FLAP: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(600));
/// How long after a disk was mended its node is started again.
const OPERATOR_DELAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

impl World {
    /// Begins a fault, and plans its end.
    pub(crate) fn begin(&mut self, now: Instant, act: Act) {
        self.note(now, Who::World, format!("fault {} {act:?}", act.kind.label()));
        self.observe(now, Seen::FaultBegan(fault(&act)));
        match act.kind {
            Kind::Crash | Kind::Outage => self.crash_all(now, &act.nodes, act.unsynced),
            Kind::Pause => self.pause(now, act.nodes[0]),
            Kind::Partition | Kind::OneWay | Kind::PeerCut => self.cut(&act.ways),
            Kind::Flap => return self.flap(now, &act),
            Kind::Break => self.break_connections(now, act.amount),
            Kind::Loss | Kind::Twice | Kind::SlowNetwork => {
                self.change_weather(act.kind, act.amount);
            }
            Kind::DiskFull | Kind::SyncError | Kind::SlowSync => self.trouble_disks(&act),
            Kind::Corruption | Kind::VolumeLoss => self.damage(now, &act),
            Kind::Skew => self.set_rates(&act.nodes, act.amount),
            Kind::Drain => self.drain(now, act.nodes[0]),
            Kind::ActorDeath => {
                for actor in &act.actors {
                    self.crew.kill(now, &mut self.wires, *actor);
                }
            }
            Kind::ActorFreeze => act.actors.iter().for_each(|actor| self.crew.freeze(*actor)),
            Kind::Transfer => self.transfer_leader(act.nodes[0]),
            Kind::Snapshot => self.snapshot(act.nodes[0]),
        }
        match act.lasts {
            Some(lasts) => self.events.push(now + lasts, Event::End(act)),
            None => self.observe(now, Seen::FaultEnded(fault(&act))),
        }
    }

    /// Ends a fault.
    pub(crate) fn end(&mut self, now: Instant, act: &Act) {
        self.note(
            now,
            Who::World,
            format!("end of {} {:?} {:?}", act.kind.label(), act.nodes, act.actors),
        );
        match act.kind {
            Kind::Crash | Kind::Outage | Kind::Corruption | Kind::VolumeLoss => {
                act.nodes.iter().for_each(|node| self.start_if_off(now, *node));
            }
            Kind::Pause => self.resume(now, act.nodes[0]),
            Kind::Partition | Kind::OneWay | Kind::PeerCut | Kind::Flap => {
                act.ways.iter().for_each(|(from, to)| self.network.mend(*from, *to));
            }
            Kind::Loss | Kind::Twice | Kind::SlowNetwork => self.change_weather(act.kind, 0),
            Kind::DiskFull | Kind::SyncError | Kind::SlowSync => {
                for node in &act.nodes {
                    self.machines[*node].disk.set_trouble(DiskTrouble::default());
                    let delay = self.rng.duration(OPERATOR_DELAY.0, OPERATOR_DELAY.1);
                    self.events.push(now + delay, Event::Start { node: *node });
                }
            }
            Kind::Skew => self.set_rates(&act.nodes, TRUE_RATE),
            Kind::ActorDeath => {
                act.actors.iter().for_each(|actor| self.crew.revive(now, *actor));
            }
            Kind::ActorFreeze => act.actors.iter().for_each(|actor| self.crew.thaw(*actor)),
            Kind::Drain | Kind::Break | Kind::Transfer | Kind::Snapshot => {}
        }
        self.observe(now, Seen::FaultEnded(fault(act)));
    }

    fn crash_all(&mut self, now: Instant, nodes: &[usize], unsynced: Unsynced) {
        for node in nodes {
            self.crash(now, *node, unsynced);
        }
    }

    pub(crate) fn crash(&mut self, now: Instant, node: usize, unsynced: Unsynced) {
        if self.machines[node].is_on() {
            self.machines[node].crash(now, &mut self.wires, unsynced);
            self.note(now, Who::Node(node), format!("killed, unsynced writes {unsynced:?}"));
            self.observe(now, Seen::NodeCrashed { node });
        }
    }

    fn pause(&mut self, now: Instant, node: usize) {
        if self.machines[node].is_on() && !self.machines[node].is_paused() {
            self.machines[node].pause();
            self.observe(now, Seen::NodePaused { node });
        }
    }

    pub(crate) fn resume(&mut self, now: Instant, node: usize) {
        if self.machines[node].is_paused() {
            self.machines[node].resume();
            self.observe(now, Seen::NodeResumed { node });
        }
    }

    fn cut(&self, ways: &[(usize, usize)]) {
        ways.iter().for_each(|(from, to)| self.network.cut(*from, *to));
    }

    /// The link is cut and mended several times; the whole counts as one fault.
    fn flap(&mut self, now: Instant, act: &Act) {
        let mut at = now;
        for round in 0..act.amount {
            self.events.push(at, Event::Cut(act.ways.clone()));
            at += self.rng.duration(FLAP.0, FLAP.1);
            if round + 1 < act.amount {
                self.events.push(at, Event::Mend(act.ways.clone()));
                at += self.rng.duration(FLAP.0, FLAP.1);
            }
        }
        self.events.push(at, Event::End(act.clone()));
    }

    fn break_connections(&mut self, now: Instant, share: u32) {
        for wire in self.wires.ids() {
            if self.rng.chance(share) {
                self.wires.break_off(now, wire);
            }
        }
    }

    /// `amount` zero: as planned.
    fn change_weather(&self, kind: Kind, amount: u32) {
        let planned = self.plan.weather;
        let mut weather = self.network.weather();
        if kind == Kind::Loss {
            weather.lost = amount;
        } else if kind == Kind::Twice {
            weather.twice = amount;
        } else {
            let by = amount.max(1);
            weather = Weather { min: planned.min * by, max: planned.max * by, ..weather };
        }
        self.network.set_weather(weather);
    }

    fn trouble_disks(&self, act: &Act) {
        for node in &act.nodes {
            let disk = &self.machines[*node].disk;
            let mut trouble = disk.trouble();
            trouble.is_full |= act.kind == Kind::DiskFull;
            trouble.fails_to_sync |= act.kind == Kind::SyncError;
            if act.kind == Kind::SlowSync {
                trouble.slow_by = Duration::from_millis(u64::from(act.amount));
            }
            disk.set_trouble(trouble);
        }
    }

    fn damage(&mut self, now: Instant, act: &Act) {
        let node = act.nodes[0];
        self.crash(now, node, Unsynced::Kept);
        let what = if act.kind == Kind::Corruption {
            self.machines[node].disk.corrupt()
        } else {
            self.machines[node].disk.wipe();
            Some("everything".to_owned())
        };
        self.volume_at_risk = Some(node);
        self.note(now, Who::Node(node), format!("lost on its disk: {}", what.unwrap_or_default()));
    }

    fn set_rates(&mut self, nodes: &[usize], rate: u32) {
        nodes.iter().for_each(|node| self.machines[*node].set_rate(rate));
    }

    fn drain(&mut self, now: Instant, node: usize) {
        let is_leaving = self.machines[node].process().is_none_or(|process| process.is_leaving());
        if !is_leaving && !self.machines[node].is_paused() {
            self.machines[node].drain();
            self.observe(now, Seen::NodeDraining { node });
        }
    }

    pub(crate) fn transfer_leader(&self, node: usize) {
        let Some(consensus) = self.machines[node].consensus().cloned() else { return };
        let asking = async move { drop(consensus.transfer_leader(None).await) };
        self.machines[node].host().spawn(asking);
    }

    fn snapshot(&self, node: usize) {
        let Some(consensus) = self.machines[node].consensus().cloned() else { return };
        let asking = async move { drop(consensus.snapshot().await) };
        self.machines[node].host().spawn(asking);
    }

    pub(crate) fn start_if_off(&mut self, now: Instant, node: usize) {
        if !self.machines[node].is_on() && self.roster.may_run(node) {
            self.note(now, Who::Node(node), "is started".to_owned());
            self.machines[node].start();
        }
    }
}

fn fault(act: &Act) -> Fault {
    Fault { kind: act.kind.label(), nodes: act.nodes.clone(), actors: act.actors.clone() }
}
