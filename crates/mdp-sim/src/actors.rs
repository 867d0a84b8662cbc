//! The clients and workers of a run.
//!
//! They write and read frames byte by byte, without the broker's own decoders and encoders.

mod asker;
mod client;
mod frames;
mod intruder;
mod outbox;
mod worker;
mod worker_v1;
mod worker_v2;
mod workload;

pub(crate) use self::workload::Workload;
use self::{asker::Asker, client::Client, intruder::Intruder, worker::Worker};
use crate::{Rng, actor::Actor, roster::Addresses};

/// Everybody who takes part; the place of an actor is its number. Nobody lives until `revive`.
pub(crate) fn cast(workload: &Workload, nodes: &Addresses, rng: &mut Rng) -> Vec<Box<dyn Actor>> {
    let nodes = || nodes.clone();
    let mut cast: Vec<Box<dyn Actor>> = Vec::new();
    for (service, planned) in workload.services.iter().enumerate() {
        for _ in 0..planned.workers {
            let worker = Worker::new(cast.len(), nodes(), (service, workload), rng.fork());
            cast.push(Box::new(worker));
        }
    }
    for _ in 0..workload.clients {
        cast.push(Box::new(Client::new(cast.len(), nodes(), workload, rng.fork())));
    }
    for _ in 0..workload.askers {
        cast.push(Box::new(Asker::new(cast.len(), nodes(), workload, rng.fork())));
    }
    for _ in 0..workload.intruders {
        cast.push(Box::new(Intruder::new(cast.len(), nodes(), rng.fork())));
    }
    cast
}

#[cfg(test)]
mod tests;
