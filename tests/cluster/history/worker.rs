//! The workers of one service, one after the other at random nodes, now and then two at a time.

use std::time::{Duration, Instant};

use cluster_tests::{
    Action, Asker, Damage, Happened, REGISTRATIONS_MAX, RawWorker, Version, look_for,
};
use serde_json::Value;

use super::Epoch;

/// How long a service keeps a worker, or has none: far longer than an operation takes.
const HELD_MILLISECONDS: std::ops::Range<u64> = 250..700;

/// How long a healthy node may take to acknowledge a worker; elections are in it.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(15);

/// How often a waiting worker looks whether its node has been faulted.
const TURN: Duration = Duration::from_millis(100);

/// How long an end must be seen by all who answer before it counts, if the node was faulted:
/// nothing that it proposed is under way any more.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

/// How long an end may take to be seen; restarts and `cluster.node_timeout` are in it.
const ENDED_WITHIN: Duration = Duration::from_secs(30);

/// How long a page may take.
const PAGE_WITHIN: Duration = Duration::from_millis(200);

/// A worker whose READY was sent.
struct Registration {
    id: u8,
    node: usize,
    worker: RawWorker,
    called_at: Instant,
}

/// Plays the workers of one service.
pub(super) struct Worker<'a> {
    epoch: &'a Epoch,
    service: usize,
    random: fastrand::Rng,
    askers: Vec<Asker>,
    context: zmq::Context,
    next_id: u8,
}

impl<'a> Worker<'a> {
    pub(super) fn new(epoch: &'a Epoch, service: usize, random: fastrand::Rng) -> Self {
        let askers = epoch.endpoints.iter().map(|node| Asker::connect(node.as_str())).collect();
        Self { epoch, service, random, askers, context: zmq::Context::new(), next_id: 0 }
    }

    pub(super) fn run(mut self) {
        let mut held: Option<Registration> = None;
        while !self.epoch.is_over() && self.next_id < REGISTRATIONS_MAX {
            let stays = self.random.u8(0..4) == 0;
            if let Some(registration) = held.take_if(|_| !stays) {
                self.end(&registration);
            } else {
                let taken = held.as_ref().map(|registration| registration.node);
                let next = self.register(taken);
                if let Some(before) = std::mem::replace(&mut held, next) {
                    // Two at a time for a moment.
                    self.end(&before);
                }
            }
            self.hold(held.as_ref());
        }
        if let Some(registration) = held {
            self.end(&registration);
        }
    }

    fn name(&self) -> &'a str {
        &self.epoch.services[self.service]
    }

    /// Registers at a node that is well; none if it was faulted before it acknowledged. Not at the
    /// one that has a worker of the service: a node is listed for both or for none.
    fn register(&mut self, taken: Option<usize>) -> Option<Registration> {
        let nodes = (0..self.epoch.endpoints.len()).filter(|node| Some(*node) != taken);
        let well: Vec<usize> = nodes.filter(|node| self.epoch.damages().is_well(*node)).collect();
        let node = *self.random.choice(&well)?;
        let endpoint = self.epoch.endpoints[node].as_str();
        let socket =
            cluster_tests::RawSocket::connect(endpoint, &self.context, zmq::DEALER, |_| Ok(()));
        let worker = RawWorker { socket, version: Version::V02 };
        let registration =
            Registration { id: self.next_id, node, worker, called_at: Instant::now() };
        self.next_id += 1;
        registration.worker.ready(self.name());
        while registration.called_at.elapsed() < ACKNOWLEDGED_WITHIN {
            if let Some(message) = registration.worker.socket.recv_within(TURN) {
                assert_eq!(message, Version::V02.heartbeat(), "no acknowledgement");
                let (from, to) = (registration.called_at, Instant::now());
                self.epoch.recorder.add(self.service, Action::Add(registration.id), from, to);
                self.look_everywhere();
                return Some(registration);
            }
            if let Some(fault) = self.epoch.damages().since(node, registration.called_at) {
                self.abandon(&registration, fault);
                return None;
            }
        }
        panic!("{} was not acknowledged by node {node}, which is well", self.name());
    }

    /// Most can go wrong right after something changed.
    fn look_everywhere(&mut self) {
        let name = self.name();
        for (node, asker) in self.askers.iter_mut().enumerate() {
            if self.epoch.damages().is_well(node) {
                self.epoch.recorder.lookup(asker, self.service, name);
            }
        }
    }

    /// Waits; a worker of a node that is well must not hear anything meanwhile.
    fn hold(&mut self, held: Option<&Registration>) {
        let length = Duration::from_millis(self.random.u64(HELD_MILLISECONDS));
        let Some(Registration { node, worker, called_at, .. }) = held else {
            super::let_pass(length);
            return;
        };
        if let Some(message) = worker.socket.recv_within(length) {
            let faulted = self.epoch.damages().since(*node, *called_at).is_some();
            assert!(faulted, "a worker of node {node}, which is well, got {message:?}");
        }
    }

    /// Takes leave, and waits until the end is seen.
    fn end(&mut self, registration: &Registration) {
        let Registration { id, node, worker, called_at } = registration;
        let left_at = Instant::now();
        worker.disconnect();
        while left_at.elapsed() < ENDED_WITHIN {
            if let Some(fault) = self.epoch.damages().since(*node, *called_at) {
                return self.end_after(registration, left_at, fault);
            }
            if self.is_listed_by(*node, *node) == Some(false) {
                let recorder = &self.epoch.recorder;
                recorder.add(self.service, Action::Remove(*id), left_at, Instant::now());
                return self.look_everywhere();
            }
        }
        panic!("node {node}, which is well, still offers {} for a worker that left", self.name());
    }

    /// The same for a worker whose node was faulted while it was registered.
    fn end_after(&mut self, registration: &Registration, left_at: Instant, fault: Happened) {
        let (add, remove) = (Action::Add(registration.id), Action::Remove(registration.id));
        let ended_at = self.wait_until_settled(registration, fault);
        let recorder = &self.epoch.recorder;
        match fault.damage {
            Damage::Killed => {
                recorder.add(self.service, remove, fault.at.min(left_at), ended_at);
            }
            Damage::Silenced => {
                // The node may have been taken for gone, and may have offered it anew.
                let from = fault.at.min(left_at);
                recorder.add_optional(self.service, remove, from, ended_at);
                recorder.add_optional(self.service, add, from, ended_at);
                recorder.add(self.service, remove, left_at, ended_at);
            }
        }
    }

    /// Gives up a registration that was not acknowledged; it may have begun to count or not.
    fn abandon(&mut self, registration: &Registration, fault: Happened) {
        let left_at = Instant::now();
        registration.worker.disconnect();
        let ended_at = self.wait_until_settled(registration, fault);
        let (add, remove) = (Action::Add(registration.id), Action::Remove(registration.id));
        let (recorder, from) = (&self.epoch.recorder, registration.called_at);
        recorder.add_optional(self.service, add, from, ended_at);
        recorder.add_optional(self.service, remove, from, ended_at);
        recorder.add_optional(self.service, add, from, ended_at);
        recorder.add(self.service, remove, left_at, ended_at);
    }

    /// Waits until the fault is over and for a while nobody lists the node for the service.
    fn wait_until_settled(&mut self, registration: &Registration, fault: Happened) -> Instant {
        self.epoch.damages().wait_until_over(registration.node);
        if fault.damage == Damage::Silenced {
            // Its answer comes after the node has read that the worker left.
            let settles = registration.worker.settles_within(ENDED_WITHIN);
            assert!(settles, "node {} is well again and does not answer", registration.node);
        }
        let nodes = self.epoch.endpoints.len();
        let mut unlisted_since = Instant::now();
        let settled = look_for(ENDED_WITHIN, || {
            let listed: Vec<_> =
                (0..nodes).map(|by| self.is_listed_by(by, registration.node)).collect();
            let answers = listed.iter().flatten().count();
            if answers * 2 <= nodes || listed.contains(&Some(true)) {
                unlisted_since = Instant::now();
            }
            (unlisted_since.elapsed() >= SETTLED_AFTER).then(Instant::now)
        });
        settled.unwrap_or_else(|| panic!("{} is still offered after {fault:?}", self.name()))
    }

    /// Whether a node's copy of the catalog says that another node offers the service.
    fn is_listed_by(&mut self, by: usize, node: usize) -> Option<bool> {
        let page = self.askers[by].answer_to("mmi.directory", "", PAGE_WITHIN)?;
        let page: Value = serde_json::from_slice(page.get(1)?).ok()?;
        let mut services = page["services"].as_array()?.iter();
        let service = services.find(|service| service["name"] == self.name());
        let nodes = service.and_then(|service| service["nodes"].as_array());
        let wanted = format!("node-{}", node + 1);
        Some(nodes.is_some_and(|nodes| nodes.iter().any(|other| *other == wanted)))
    }
}
