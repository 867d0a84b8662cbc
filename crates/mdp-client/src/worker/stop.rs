//! Ends a worker from another thread.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU8, Ordering},
};

use crate::bell::Bell;

/// What was asked of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    No,
    AfterReply,
    Now,
}

const AFTER_REPLY: u8 = 1;
const NOW: u8 = 2;

/// Ends the workers that were started with it, in any thread. Clones are the same handle.
///
/// ```
/// let stop = mdp_client::StopHandle::new();
/// stop.clone().stop();
/// assert!(stop.is_stopped());
/// ```
#[derive(Clone, Debug, Default)]
pub struct StopHandle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicU8,
    parent: Option<StopHandle>,
    bells: Mutex<Vec<Weak<Bell>>>,
}

impl StopHandle {
    /// A handle that has not been used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the workers to leave: each finishes the reply that it works on, sends DISCONNECT and
    /// returns. A worker that is started with a used handle returns at once.
    pub fn stop(&self) {
        self.ask(AFTER_REPLY);
    }

    /// Asks the workers to leave at once. A handler that still works is not waited for; its
    /// request goes to another worker, if the broker's policy allows that.
    pub fn stop_now(&self) {
        self.ask(NOW);
    }

    /// Whether the handle was used.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.asked() != Stop::No
    }

    /// A handle that is used when this one is, but can be used alone.
    pub(crate) fn child(&self) -> Self {
        let parent = Some(self.clone());
        Self(Arc::new(Shared { parent, ..Shared::default() }))
    }

    pub(crate) fn asked(&self) -> Stop {
        let own = match self.0.asked.load(Ordering::Acquire) {
            0 => Stop::No,
            AFTER_REPLY => Stop::AfterReply,
            _ => Stop::Now,
        };
        self.0.parent.as_ref().map_or(own, |parent| own.max(parent.asked()))
    }

    /// Rings this bell when the handle is used. Look at [`Self::asked`] afterwards.
    pub(crate) fn listen(&self, bell: &Arc<Bell>) {
        let mut bells = self.0.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.retain(|bell| bell.strong_count() > 0);
        bells.push(Arc::downgrade(bell));
        drop(bells);
        if let Some(parent) = &self.0.parent {
            parent.listen(bell);
        }
    }

    fn ask(&self, what: u8) {
        self.0.asked.fetch_max(what, Ordering::AcqRel);
        let bells = self.0.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.iter().filter_map(Weak::upgrade).for_each(|bell| bell.ring());
    }
}
