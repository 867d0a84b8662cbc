//! How long the machine itself lets threads wait: where others build and test, a figure of some
//! milliseconds says nothing without it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use cluster_tests::Durations;

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(1);

/// A thread that wants to run every millisecond, and writes down how late it is.
pub(super) struct Canary {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Durations>,
}

impl Canary {
    pub(super) fn start() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let mut late = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    let due_at = Instant::now() + PERIOD;
                    thread::sleep(PERIOD);
                    late.push(due_at.elapsed());
                }
                late.into_iter().collect()
            }
        });
        Self { is_over, thread }
    }

    /// How late it was.
    pub(super) fn finish(self) -> Durations {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}
