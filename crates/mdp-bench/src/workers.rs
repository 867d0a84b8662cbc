//! The workers: many connections on one thread, each of which replies at once, or after a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    BenchError, BenchOptions,
    jobs::Jobs,
    peers::{Peers, Received, Sent},
};

/// How long the thread sleeps at most: it looks for heartbeats that are due, and for the end.
const TURN_MAX: Duration = Duration::from_millis(50);

/// What the workers and whoever started them tell each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    stop: Arc<AtomicBool>,
    disconnected: Arc<AtomicU64>,
    registered: Arc<AtomicU64>,
}

impl Shared {
    /// Tells the workers to leave.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// How many workers have got a sign of life after their READY.
    pub(crate) fn registered(&self) -> u64 {
        self.registered.load(Ordering::Relaxed)
    }

    /// How many workers the broker has sent DISCONNECT to.
    pub(crate) fn disconnected(&self) -> u64 {
        self.disconnected.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Worker {
    last_sent_at: Instant,
    is_registered: bool,
    /// Whether anything has come from the broker.
    is_known: bool,
    has_worked: bool,
}

/// All workers, on one thread.
pub(crate) struct Workers<P: Peers> {
    peers: P,
    heartbeat_interval: Duration,
    workers: Vec<Worker>,
    /// Replies that are held back, unless workers reply at once.
    jobs: Option<Jobs<P::Frame>>,
    inbox: Vec<Received<P::Frame>>,
    shared: Shared,
}

impl<P: Peers> Workers<P> {
    /// Connects and registers every worker.
    pub(crate) fn connect(
        options: &BenchOptions,
        services: &[Vec<u8>],
        shared: Shared,
    ) -> Result<Self, BenchError> {
        let (endpoint, keys) = (options.worker_endpoint(), options.keys.as_ref());
        let mut peers = P::connect(endpoint, options.workers, options.protocol, keys)?;
        let mut workers = Vec::with_capacity(options.workers);
        for (index, service) in (0..options.workers).zip(services.iter().cycle()) {
            peers.send(index, Sent::Ready { service })?;
            let last_sent_at = Instant::now();
            let (is_known, has_worked) = (false, false);
            workers.push(Worker { last_sent_at, is_registered: true, is_known, has_worked });
        }
        peers.settle()?;
        let jobs = Jobs::lasting(options.job)?;
        if let Some(jobs) = &jobs {
            // Behind the workers' indices: nothing is read there, it only ends the wait.
            peers.watch(workers.len(), jobs.descriptor())?;
        }
        Ok(Self {
            peers,
            heartbeat_interval: options.heartbeat_interval,
            workers,
            jobs,
            inbox: Vec::new(),
            shared,
        })
    }

    /// Replies until told to stop, leaves, and returns how many workers had work.
    pub(crate) fn run(mut self) -> Result<usize, BenchError> {
        let mut ready = Vec::new();
        let mut heartbeats_at = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.peers.wait(TURN_MAX, &mut ready)?;
            let now = Instant::now();
            for &index in &ready {
                self.read(index, now)?;
            }
            self.finish_jobs()?;
            if now >= heartbeats_at {
                self.send_heartbeats(now)?;
                heartbeats_at = now + TURN_MAX;
            }
            self.peers.flush()?;
        }
        // The broker shall not wait for the workers of a run that is over.
        for index in 0..self.workers.len() {
            if self.workers.get(index).is_some_and(|worker| worker.is_registered) {
                self.peers.send(index, Sent::Disconnect)?;
            }
        }
        self.peers.linger()?;
        Ok(self.workers.iter().filter(|worker| worker.has_worked).count())
    }

    /// Replies to everything that one worker has received, or notes when to.
    fn read(&mut self, index: usize, now: Instant) -> Result<(), BenchError> {
        let Some(worker) = self.workers.get_mut(index) else { return Ok(()) };
        let mut inbox = std::mem::take(&mut self.inbox);
        self.peers.receive(index, &mut inbox)?;
        if !inbox.is_empty() && !std::mem::replace(&mut worker.is_known, true) {
            self.shared.registered.fetch_add(1, Ordering::Relaxed);
        }
        for received in inbox.drain(..) {
            match received {
                Received::Request { from: to, body } => {
                    worker.has_worked = true;
                    match &mut self.jobs {
                        Some(jobs) => jobs.begin(index, to, body, now),
                        None => {
                            worker.last_sent_at = now;
                            self.peers.send(index, Sent::Reply { to, body })?;
                        }
                    }
                }
                Received::Disconnect | Received::Closed if worker.is_registered => {
                    worker.is_registered = false;
                    self.shared.disconnected.fetch_add(1, Ordering::Relaxed);
                }
                Received::Reply { .. }
                | Received::Disconnect
                | Received::Closed
                | Received::Other => {}
            }
        }
        self.inbox = inbox;
        Ok(())
    }

    /// Sends the replies that are due and waits for the next one.
    fn finish_jobs(&mut self) -> Result<(), BenchError> {
        let Some(jobs) = &mut self.jobs else { return Ok(()) };
        let now = Instant::now();
        while let Some(job) = jobs.take_due(now) {
            let Some(worker) = self.workers.get_mut(job.worker) else { continue };
            worker.last_sent_at = now;
            self.peers.send(job.worker, Sent::Reply { to: job.to, body: job.body })?;
        }
        jobs.set_timer(now)
    }

    /// Sends a heartbeat for each worker that has been silent for an interval.
    fn send_heartbeats(&mut self, now: Instant) -> Result<(), BenchError> {
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let silent = now.saturating_duration_since(worker.last_sent_at);
            if worker.is_registered && silent >= self.heartbeat_interval {
                self.peers.send(index, Sent::Heartbeat)?;
                worker.last_sent_at = now;
            }
        }
        Ok(())
    }
}
