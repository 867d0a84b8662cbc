//! A full check of the engine's bookkeeping, for tests: every sum recomputed, every list compared.

use std::collections::{BTreeMap, BTreeSet};

use mdp_wire::Frame;

use super::Broker;
use crate::{
    IdentityId, Subject,
    request::Request,
    service::ServiceId,
    usage::Usage,
    worker::{WorkerId, WorkerState},
};

/// What is counted once more from the bottom.
#[derive(Debug, Default, PartialEq, Eq)]
struct Recount {
    queued_requests: usize,
    held_requests: usize,
    forwarded_requests: usize,
    bytes: usize,
    idle_workers: usize,
}

impl<F: Frame> Broker<F> {
    /// Recomputes what the engine keeps as it goes. Costs a walk over everything.
    ///
    /// # Errors
    /// Says which sum or list is wrong.
    #[doc(hidden)]
    pub fn audit(&self) -> Result<(), String> {
        let mut recount = Recount::default();
        for (id, service) in self.services.iter() {
            recount.queued_requests += service.queue.len();
            recount.bytes += service.queue.iter().map(|request| request.bytes).sum::<usize>();
            recount.idle_workers += service.idle.len();
            self.audit_owners(id)?;
            if service.is_unused() {
                return Err(format!("service {:?} is unused but kept", service.name));
            }
            if !service.queue.is_empty() && service.timer_at.is_none() {
                return Err(format!("service {:?} waits without a timer", service.name));
            }
            if !service.queue.is_empty() && !service.idle.is_empty() {
                return Err(format!(
                    "service {:?} has idle workers and waiting requests",
                    service.name
                ));
            }
        }
        for (id, worker) in self.workers.iter() {
            if let WorkerState::Busy { request, .. } = &worker.state {
                recount.held_requests += 1;
                recount.bytes += request.bytes;
            }
            self.audit_worker(id)?;
        }
        for forwarded in self.links.to_owners.values().flat_map(|link| link.forwarded.values()) {
            recount.forwarded_requests += 1;
            recount.bytes += forwarded.request.bytes;
        }
        let kept = Recount {
            queued_requests: self.totals.queued_requests,
            held_requests: self.totals.held_requests,
            forwarded_requests: self.totals.forwarded_requests,
            bytes: self.totals.bytes,
            idle_workers: self.totals.idle_workers,
        };
        if kept != recount {
            return Err(format!("sums are {kept:?}, counted anew {recount:?}"));
        }
        self.audit_usages()?;
        self.audit_clients(recount.queued_requests)
    }

    /// What identities use is what there is of theirs.
    fn audit_usages(&self) -> Result<(), String> {
        let mut counted = BTreeMap::<IdentityId, Usage>::new();
        let mut add = |subject: Subject, add: &dyn Fn(&mut Usage)| {
            if let Subject::Identity(id) = subject {
                add(counted.entry(id).or_default());
            }
        };
        let mut add_request = |request: &Request<F>, queued: usize| {
            let queued = u64::try_from(queued).unwrap_or(u64::MAX);
            add(request.subject, &|usage| {
                usage.in_flight += 1;
                usage.queued_bytes += queued;
            });
        };
        for (_, service) in self.services.iter() {
            service.queue.iter().for_each(|request| add_request(request, request.bytes));
        }
        for forwarded in self.links.to_owners.values().flat_map(|link| link.forwarded.values()) {
            add_request(&forwarded.request, 0);
        }
        for (_, worker) in self.workers.iter() {
            if let WorkerState::Busy { request, .. } = &worker.state {
                add_request(request, 0);
            }
        }
        for (_, worker) in self.workers.iter() {
            add(worker.subject, &|usage| usage.workers += 1);
        }
        let kept: BTreeMap<_, _> = self.usages.iter().collect();
        if kept == counted { Ok(()) } else { Err(format!("usages are {kept:?}, not {counted:?}")) }
    }

    /// What owners have, and whether somebody waits who could be served.
    fn audit_owners(&self, id: ServiceId) -> Result<(), String> {
        let Some(service) = self.services.find(id) else { return Ok(()) };
        for owner in &service.owners {
            let of_link = self.links.to_owners.get(&owner.link);
            let forwarded = of_link.into_iter().flat_map(|link| link.forwarded.values());
            let outstanding = forwarded.filter(|forwarded| forwarded.service == id).count();
            if of_link.is_none() || usize::try_from(owner.outstanding) != Ok(outstanding) {
                return Err(format!("{:?}: {owner:?} has {outstanding} requests", service.name));
            }
        }
        if service.queue.has_own() && service.best_owner().is_some() {
            return Err(format!("{:?} has waiting requests and an owner", service.name));
        }
        let waiting = service.queue.iter().filter(|request| !request.is_own()).count();
        let links = self.links.to_origins.values().flat_map(|link| link.waiting.values());
        if links.filter(|place| place.service == id).count() != waiting {
            return Err(format!("{:?}: {waiting} requests of other nodes wait", service.name));
        }
        Ok(())
    }

    /// A worker is in exactly the lists that fit its state.
    fn audit_worker(&self, id: WorkerId) -> Result<(), String> {
        let Some(worker) = self.workers.find(id) else { return Ok(()) };
        let Some(service) = self.services.find(worker.service) else {
            return Err(format!("worker {id:?} has no service"));
        };
        let idle: Vec<u64> = service
            .idle
            .iter()
            .filter(|(_, other)| **other == id)
            .map(|(order, _)| *order)
            .collect();
        let is_registering = service.registering.contains(&id);
        let fits = match &worker.state {
            WorkerState::Registering { .. } => idle.is_empty() && is_registering,
            WorkerState::Idle { order } => idle == [*order] && !is_registering,
            WorkerState::Busy { .. } => idle.is_empty() && !is_registering,
        };
        let of_service = self.workers.iter().filter(|(_, w)| w.service == worker.service).count();
        if !fits
            || self.workers.id_of(&worker.peer) != Some(id)
            || of_service != service.worker_count
        {
            return Err(format!("worker {id:?} is in the wrong lists: {:?}", worker.peer));
        }
        Ok(())
    }

    fn audit_clients(&self, queued: usize) -> Result<(), String> {
        let counted: usize = self.clients.iter().map(|(_, entry)| entry.requests).sum();
        if counted != queued {
            return Err(format!("clients have {counted} requests waiting, queues {queued}"));
        }
        let mut waiting = BTreeSet::new();
        for (_, service) in self.services.iter() {
            waiting.extend(service.queue.iter().map(|request| request.client_id()));
        }
        let known: BTreeSet<_> = self.clients.iter().map(|(peer, _)| peer.clone()).collect();
        if waiting == known { Ok(()) } else { Err("clients without waiting requests".to_owned()) }
    }
}
