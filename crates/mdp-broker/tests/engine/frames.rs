//! Frames with a reference count, as the transport has them: shared on their way, and never copied.

use std::{sync::Arc, time::Instant};

use mdp_broker::{Broker, Effect, Input, Outgoing, PeerSource, Seed, Settings};
use mdp_catalog::{CatalogChange, CatalogEntry, Epoch, Incarnation};
use mdp_wire::{
    AtBroker, ServiceFrame, Version,
    client::Request,
    worker::{FromBroker, ToBroker},
};

use crate::support::{any_instant, peer};

type Shared = Arc<[u8]>;

struct Transport {
    broker: Broker<Shared>,
    now: Instant,
}

impl Transport {
    fn new() -> Self {
        let incarnation = Incarnation { node: "node-1".parse().unwrap(), epoch: Epoch(1) };
        let now = any_instant();
        let broker = Broker::new(incarnation, Settings::default(), Seed([1; 32]), now);
        Self { broker, now }
    }

    fn receive(&mut self, from: &str, message: AtBroker<Shared>) {
        self.broker.handle_input(
            self.now,
            Input::Received { from: peer(from), source: PeerSource::default(), message },
        );
    }

    fn request(&mut self, body: &Shared) {
        let service = ServiceFrame::try_new(Shared::from(b"echo".as_slice())).unwrap();
        let (version, envelope) = (Version::V02, Vec::new());
        let body = std::iter::once(Shared::clone(body)).collect();
        self.receive("c1", AtBroker::Client(Request { version, envelope, service, body }));
    }

    fn worker_says(&mut self, message: ToBroker<ServiceFrame<Shared>, Shared>) {
        self.receive("w1", AtBroker::Worker { version: Version::V02, message });
    }

    /// Registers the worker, whose offer is applied at once.
    fn worker(&mut self) {
        let service = ServiceFrame::try_new(Shared::from(b"echo".as_slice())).unwrap();
        self.worker_says(ToBroker::Ready { service });
        while let Some(effect) = self.broker.poll_effect() {
            if let Effect::Propose(CatalogEntry::Offer { incarnation, seq, services }) = effect {
                let change = CatalogChange::Offered { incarnation, seq, services };
                return self.broker.handle_input(self.now, Input::Committed(change));
            }
        }
    }

    /// The body of the request that the worker gets, and then answers.
    fn handed_over(&mut self) -> Shared {
        while let Some(effect) = self.broker.poll_effect() {
            if let Effect::Send { message: Outgoing::Worker { message, .. }, .. } = effect
                && let FromBroker::Request { client, mut body } = message
            {
                let handed_over = body.remove(0);
                let client = Shared::from(client.as_ref());
                self.worker_says(ToBroker::Final { client, body });
                return handed_over;
            }
        }
        panic!("no request for the worker")
    }
}

#[test]
fn body_is_shared_on_its_way_to_an_idle_worker() {
    let mut transport = Transport::new();
    transport.worker();
    let body = Shared::from(b"body".as_slice());

    transport.request(&body);

    assert!(Arc::ptr_eq(&transport.handed_over(), &body));
}

#[test]
fn bodies_that_wait_are_shared_too() {
    let mut transport = Transport::new();
    let (small, large) = (Shared::from([1; 64].as_slice()), Shared::from([2; 8_192].as_slice()));
    transport.request(&small);
    transport.request(&large);
    transport.worker();

    for body in [small, large] {
        assert!(Arc::ptr_eq(&transport.handed_over(), &body));
    }
}
