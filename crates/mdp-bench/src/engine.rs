//! The engine alone, without sockets: what one request and its reply cost inside the broker.
//!
//! The driver plays shell, catalog, clients and workers. What it does itself per request, building
//! two messages whose frames are shared, is part of what is measured.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use mdp_broker::{
    Broker, Effect, Input, LookupOutcome, Outgoing, PeerId, PeerSource, Seed, Settings,
};
use mdp_catalog::{
    Boot, Catalog, CatalogChange, CatalogEntry, Endpoints, Epoch, NodeId, NodeName, NodeUp,
    SoftwareVersion,
};
use mdp_wire::{
    AtBroker, Body, ServiceFrame, Token, Version,
    client::Request,
    worker::{FromBroker, ToBroker},
};

/// A frame whose clone costs a reference count, as a frame of libzmq does.
type Frame = Arc<[u8]>;

/// The time that passes for the engine with each message.
const MESSAGE_INTERVAL: Duration = Duration::from_micros(10);

/// The length of each body in bytes.
const BODY_BYTES: usize = 64;

/// A shape of load on the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// One service with 32 workers, 64 requests outstanding.
    OneService,
    /// 1,000 services with one worker each, 256 requests outstanding.
    ManyServices,
    /// One service with 32 workers, 100,000 requests outstanding.
    Queued,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 3] = [Self::OneService, Self::ManyServices, Self::Queued];

    /// The name, as on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneService => "one-service",
            Self::ManyServices => "many-services",
            Self::Queued => "queued",
        }
    }

    const fn services(self) -> usize {
        match self {
            Self::OneService | Self::Queued => 1,
            Self::ManyServices => 1_000,
        }
    }

    const fn workers(self) -> usize {
        match self {
            Self::OneService | Self::Queued => 32,
            Self::ManyServices => 1_000,
        }
    }

    const fn window(self) -> usize {
        match self {
            Self::OneService => 64,
            Self::ManyServices => 256,
            Self::Queued => 100_000,
        }
    }
}

/// An engine under load.
#[derive(Debug)]
pub struct Driver {
    broker: Broker<Frame>,
    catalog: Catalog,
    applied: u64,
    now: Instant,
    client: PeerId,
    services: Vec<ServiceFrame<Frame>>,
    next_service: usize,
    body: Frame,
    /// Requests that workers have, oldest first.
    held: VecDeque<(PeerId, Token)>,
    replied: u64,
}

impl Driver {
    /// An engine with its workers registered and the window of the shape outstanding. `None` only
    /// if the engine or the catalog refuses what it should accept.
    #[must_use]
    pub fn new(shape: Shape) -> Option<Self> {
        let (mut catalog, applied) = (Catalog::new(), 1);
        let node: NodeName = "bench".parse().ok()?;
        let up = NodeUp {
            node,
            node_id: NodeId(1),
            boot: Boot::default(),
            expected_epoch: Epoch::default(),
            endpoints: Endpoints::default(),
            version: SoftwareVersion::default(),
        };
        let CatalogChange::NodeUp { incarnation } =
            catalog.apply(applied, CatalogEntry::NodeUp(up)).ok()?
        else {
            return None;
        };
        let services: Option<Vec<_>> = (0..shape.services()).map(service).collect();
        let now = Instant::now();
        let mut driver = Self {
            broker: Broker::new(incarnation, Settings::default(), Seed([7; 32]), now),
            catalog,
            applied,
            now,
            client: peer(0)?,
            services: services?,
            next_service: 0,
            body: Frame::from([b'x'; BODY_BYTES].as_slice()),
            held: VecDeque::new(),
            replied: 0,
        };
        for index in 0..shape.workers() {
            let service = driver.services.get(index % shape.services())?.clone();
            let version = Version::V01;
            let ready = AtBroker::Worker { version, message: ToBroker::Ready { service } };
            driver.receive(peer(index + 1)?, ready);
        }
        for _ in 0..shape.window() {
            driver.request()?;
        }
        Some(driver)
    }

    /// Lets a worker reply and the client ask again, so many times. Returns how many replies the
    /// client got.
    pub fn turn(&mut self, cycles: u64) -> u64 {
        let before = self.replied;
        for _ in 0..cycles {
            let Some((worker, token)) = self.held.pop_front() else { break };
            let client = Frame::from(token.as_ref());
            let message = ToBroker::Final { client, body: self.body() };
            self.receive(worker, AtBroker::Worker { version: Version::V01, message });
            if self.request().is_none() {
                break;
            }
        }
        self.replied - before
    }

    fn body(&self) -> Body<Frame> {
        std::iter::once(Frame::clone(&self.body)).collect()
    }

    fn request(&mut self) -> Option<()> {
        let service = self.services.get(self.next_service)?.clone();
        self.next_service = (self.next_service + 1) % self.services.len();
        let (version, envelope, body) = (Version::V01, Vec::new(), self.body());
        let request = Request { version, envelope, service, body };
        self.receive(self.client.clone(), AtBroker::Client(request));
        Some(())
    }

    fn receive(&mut self, from: PeerId, message: AtBroker<Frame>) {
        self.now += MESSAGE_INTERVAL;
        if self.broker.poll_timeout().is_some_and(|due| due <= self.now) {
            self.broker.handle_timeout(self.now);
            self.run_effects();
        }
        self.broker.handle_input(
            self.now,
            Input::Received { from, source: PeerSource::default(), message },
        );
        self.run_effects();
    }

    fn run_effects(&mut self) {
        while let Some(effect) = self.broker.poll_effect() {
            match effect {
                Effect::Send { message: Outgoing::Client(_), .. } => self.replied += 1,
                Effect::Send { to, message: Outgoing::Worker { message, .. } } => match message {
                    FromBroker::Request { client, .. } => self.held.push_back((to, client)),
                    FromBroker::Heartbeat | FromBroker::Disconnect => {}
                },
                Effect::Propose(entry) => {
                    self.applied += 1;
                    if let Ok(change) = self.catalog.apply(self.applied, entry) {
                        self.broker.handle_input(self.now, Input::Committed(change));
                    }
                }
                Effect::Lookup { query, .. } => {
                    let outcome = LookupOutcome::OfferedHere;
                    self.broker.handle_input(self.now, Input::LookedUp { query, outcome });
                }
                Effect::Describe { .. }
                | Effect::ToOwner { .. }
                | Effect::ToOrigin { .. }
                | Effect::Note(_)
                | Effect::Drained(_) => {}
            }
        }
    }
}

fn service(index: usize) -> Option<ServiceFrame<Frame>> {
    ServiceFrame::try_new(Frame::from(format!("echo-{index}").as_bytes())).ok()
}

/// A routing id as libzmq makes them: a zero, then a number.
fn peer(index: usize) -> Option<PeerId> {
    let [a, b, c, d] = u32::try_from(index).ok()?.to_be_bytes();
    Some(PeerId::from([0, a, b, c, d].as_slice()))
}

/// How many instructions callgrind has counted, from what it prints.
#[must_use]
pub fn collected(output: &str) -> Option<u64> {
    let count = output.lines().find_map(|line| line.split_once("Collected :"))?.1;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cycle_is_one_reply_whatever_the_shape() {
        for shape in Shape::ALL {
            let mut driver = Driver::new(shape).unwrap();

            assert_eq!(driver.held.len(), shape.workers().min(shape.window()), "{shape:?}");
            assert_eq!(driver.turn(3_000), 3_000, "{shape:?}");
        }
    }

    #[test]
    fn instruction_count_is_found_in_the_output() {
        let output = "==7== Callgrind\n==7== \n==7== Events    : Ir\n==7== Collected : 123456\n";
        assert_eq!(collected(output), Some(123_456));
        assert_eq!(collected("==7== Collected"), None);
    }
}
