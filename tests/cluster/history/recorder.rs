//! Writes operations down, with times of one clock.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use cluster_tests::{Action, Asker, Operation};

/// The histories of some services.
#[derive(Debug)]
pub(super) struct Recorder {
    started_at: Instant,
    histories: Vec<Mutex<Vec<Operation>>>,
    /// Questions that got no answer, or 503.
    unknown: AtomicUsize,
}

impl Recorder {
    pub(super) fn new(services: usize) -> Self {
        Self {
            started_at: Instant::now(),
            histories: (0..services).map(|_| Mutex::default()).collect(),
            unknown: AtomicUsize::new(0),
        }
    }

    /// Writes down a registration or removal.
    pub(super) fn add(&self, service: usize, action: Action, from: Instant, to: Instant) {
        self.push(service, action, (from, to), false);
    }

    /// The same for one that may have happened in this time, or not at all.
    pub(super) fn add_optional(&self, service: usize, action: Action, from: Instant, to: Instant) {
        self.push(service, action, (from, to), true);
    }

    /// Asks about a service and writes the answer down, if there is one.
    pub(super) fn lookup(&self, asker: &mut Asker, service: usize, name: &str) {
        let from = Instant::now();
        match asker.try_lookup(name).filter(|code| code.is_certain()) {
            Some(code) => {
                let found = code == cluster_tests::Code::Found;
                self.add(service, Action::Lookup { found }, from, Instant::now());
            }
            None => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn push(
        &self,
        service: usize,
        action: Action,
        (from, to): (Instant, Instant),
        is_optional: bool,
    ) {
        let nanoseconds = |at: Instant| u64::try_from((at - self.started_at).as_nanos()).unwrap();
        let (called_at, returned_at) = (nanoseconds(from), Some(nanoseconds(to)));
        let operation = Operation { action, called_at, returned_at, is_optional };
        self.histories[service].lock().unwrap().push(operation);
    }

    /// What was written down, by service.
    pub(super) fn histories(&self) -> Vec<Vec<Operation>> {
        self.histories.iter().map(|history| history.lock().unwrap().clone()).collect()
    }

    /// How many questions were answered, and how many were not.
    pub(super) fn lookups(&self) -> (usize, usize) {
        let is_lookup = |operation: &&Operation| matches!(operation.action, Action::Lookup { .. });
        (self.count(is_lookup), self.unknown.load(Ordering::Relaxed))
    }

    /// How many workers were acknowledged.
    pub(super) fn registrations(&self) -> usize {
        self.count(|operation| matches!(operation.action, Action::Add(_)) && !operation.is_optional)
    }

    fn count(&self, is_counted: impl Fn(&&Operation) -> bool) -> usize {
        let of = |history: &Mutex<Vec<Operation>>| {
            history.lock().unwrap().iter().filter(|operation| is_counted(operation)).count()
        };
        self.histories.iter().map(of).sum()
    }
}
