//! What happened to which pod, and when.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What happened to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its container runs, from this image.
    Started {
        /// The image.
        image: String,
    },
    /// The image can not be had.
    NoImage,
    /// Its startup probe succeeded.
    Alive,
    /// Its readiness probe succeeded.
    Ready,
    /// It failed as often as it may.
    NotReady,
    /// Its liveness or startup probe failed once.
    LivenessFailed,
    /// It failed as often as it may: the container is restarted.
    Unhealthy,
    /// The container is to end.
    Stopping,
    /// What it does before it is told so was done.
    Hook {
        /// Whether it ended well, and in time.
        succeeded: bool,
        /// How long it took.
        after: Duration,
    },
    /// The container ended with this code.
    Exited {
        /// 137: it was killed.
        code: i32,
        /// How long it took since it was told, if it was.
        after: Option<Duration>,
    },
    /// The pod is gone.
    Deleted,
}

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Event {
    /// Since the driver began.
    pub at: Duration,
    /// The pod's ordinal.
    pub pod: usize,
    /// What happened.
    pub what: What,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.2} s  pod {}  {:?}", self.at.as_secs_f64(), self.pod, self.what)
    }
}

/// The log of a driver. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    began: Instant,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Events {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), events: Arc::default() }
    }

    pub(crate) fn add(&self, pod: usize, what: What) {
        let event = Event { at: self.began.elapsed(), pod, what };
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    pub(crate) fn all(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
