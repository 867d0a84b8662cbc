//! Where a worker is registered, for other threads to see.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A registration that a broker has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The broker.
    pub endpoint: String,
    /// When it was acknowledged.
    pub since: Instant,
}

/// Shows where a worker is registered: for a readiness probe, or a test. Give it to the worker by
/// [`WorkerOptions::observer`](crate::WorkerOptions::observer), and keep a clone.
///
/// ```
/// use mdp_client::{WorkerObserver, WorkerOptions};
///
/// let observer = WorkerObserver::new();
/// let options = WorkerOptions::new("echo").observer(observer.clone());
/// // Worker::run(options, ..) in another thread
/// assert!(!observer.is_registered());
/// # drop(options);
/// ```
#[derive(Clone, Debug, Default)]
pub struct WorkerObserver(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Of each connection.
    registrations: Mutex<Vec<Option<Registration>>>,
    changed: Condvar,
}

impl WorkerObserver {
    /// An observer of no worker.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The registrations of now, at most one for each connection of the worker.
    #[must_use]
    pub fn registrations(&self) -> Vec<Registration> {
        self.lock().iter().flatten().cloned().collect()
    }

    /// Whether the worker is registered at any broker.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.lock().iter().any(Option::is_some)
    }

    /// Waits until the worker is registered at any broker, at most for this time; whether it is.
    #[must_use]
    pub fn wait_until_registered(&self, timeout: Duration) -> bool {
        let is_missing = |all: &mut Vec<Option<Registration>>| !all.iter().any(Option::is_some);
        let waited = self.0.changed.wait_timeout_while(self.lock(), timeout, is_missing);
        let (all, _) = waited.unwrap_or_else(PoisonError::into_inner);
        all.iter().any(Option::is_some)
    }

    /// A worker with this many connections begins.
    pub(crate) fn begin(&self, connections: usize) {
        *self.lock() = vec![None; connections];
    }

    pub(crate) fn set(&self, connection: usize, registration: Option<Registration>) {
        if let Some(place) = self.lock().get_mut(connection) {
            *place = registration;
        }
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Registration>>> {
        self.0.registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
