//! A client that asks all the time, and what it saw.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{ASK_PATIENCE, Asker, Code, Reachable, Ticket, look_for};

/// One answer of `mmi.service`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Which of the services that are asked for.
    pub service: usize,
    /// When the question was handed to the socket.
    pub asked_at: Instant,
    /// When the answer came.
    pub answered_at: Instant,
    /// The answer.
    pub code: Code,
}

impl Sighting {
    /// How long it took.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.answered_at - self.asked_at
    }
}

/// A thread that asks one node for each service in turn, without waiting for answers.
#[derive(Debug)]
pub struct Watch {
    sightings: Arc<Mutex<Vec<Sighting>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Watch {
    /// Begins to ask, one question each period.
    #[must_use]
    pub fn start(node: &impl Reachable, services: &[&str], period: Duration) -> Self {
        let sightings = Arc::<Mutex<Vec<Sighting>>>::default();
        let is_over = Arc::<AtomicBool>::default();
        let asking = Asking {
            asker: Asker::connect(node),
            services: services.iter().map(|&service| service.to_owned()).collect(),
            period,
            open: BTreeMap::new(),
            sightings: Arc::clone(&sightings),
        };
        let thread = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || asking.run(&is_over)
        });
        Self { sightings, is_over, thread: Some(thread) }
    }

    /// What it saw so far.
    #[must_use]
    pub fn sightings(&self) -> Vec<Sighting> {
        self.sightings.lock().unwrap().clone()
    }

    /// The first sighting of this kind, if there is one by now.
    pub fn find(&self, wanted: impl Fn(&Sighting) -> bool) -> Option<Sighting> {
        self.sightings.lock().unwrap().iter().copied().find(|sighting| wanted(sighting))
    }

    /// Lets it ask for so long.
    pub fn let_pass(&self, length: Duration) {
        let is_over = look_for(length, || self.is_over.load(Ordering::SeqCst).then_some(()));
        assert!(is_over.is_none(), "it does not ask any more");
    }

    /// Ends the asking, waits for the answers that are due, and returns what was seen, with the
    /// number of questions that were never answered.
    #[must_use]
    pub fn finish(mut self) -> (Vec<Sighting>, usize) {
        let unanswered = self.end();
        (self.sightings(), unanswered)
    }

    fn end(&mut self) -> usize {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.take().map(|thread| thread.join().unwrap()).unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

/// The thread's own.
struct Asking {
    asker: Asker,
    services: Vec<String>,
    period: Duration,
    open: BTreeMap<Ticket, (usize, Instant)>,
    sightings: Arc<Mutex<Vec<Sighting>>>,
}

impl Asking {
    fn run(mut self, is_over: &AtomicBool) -> usize {
        let mut due_at = Instant::now();
        for service in (0..self.services.len()).cycle() {
            if is_over.load(Ordering::SeqCst) {
                break;
            }
            if let Some(name) = self.services.get(service) {
                let asked_at = Instant::now();
                let ticket = self.asker.ask("mmi.service", name);
                self.open.insert(ticket, (service, asked_at));
            }
            // No faster after a pause than before it.
            due_at = (due_at + self.period).max(Instant::now());
            self.take_until(due_at);
        }
        let deadline = Instant::now() + ASK_PATIENCE;
        while !self.open.is_empty() && Instant::now() < deadline {
            self.take_one(deadline);
        }
        self.open.len()
    }

    fn take_until(&mut self, deadline: Instant) {
        while Instant::now() < deadline {
            self.take_one(deadline);
        }
    }

    fn take_one(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(answer) = self.asker.answer_within(left) else { return };
        let answered_at = Instant::now();
        if let Some((service, asked_at)) = self.open.remove(&answer.ticket) {
            let sighting = Sighting { service, asked_at, answered_at, code: answer.code() };
            self.sightings.lock().unwrap().push(sighting);
        }
    }
}
