//! What happened to which pod, and when.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use cluster_tests::now_ns;

use crate::Disruption;

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
    /// It is about to be killed, frozen or cut off.
    Disrupted,
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
    /// The same moment on the clock that all processes of the machine share.
    began_at: u64,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Events {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), began_at: now_ns(), events: Arc::default() }
    }

    pub(crate) fn add(&self, pod: usize, what: What) {
        let event = Event { at: self.began.elapsed(), pod, what };
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// What was done to pods: each of these is written down just before it is done.
    pub(crate) fn disruptions(&self) -> Vec<Disruption> {
        let is_one = |event: &Event| matches!(event.what, What::Disrupted | What::Stopping);
        let disruption = |event: Event| {
            let since_began = u64::try_from(event.at.as_nanos()).unwrap_or(u64::MAX);
            Disruption { pod: event.pod, at: self.began_at.saturating_add(since_began) }
        };
        self.all().into_iter().filter(is_one).map(disruption).collect()
    }

    pub(crate) fn all(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
