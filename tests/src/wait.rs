//! Waiting for something outside of this process that rings no bell.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long between two looks.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Looks until there is something to see, at most so long.
pub fn look_for<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(LOOK_AGAIN_AFTER);
    }
}

/// Looks until this holds; stops the test if it does not within the time. Returns how long it took.
#[track_caller]
pub fn wait_until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let started_at = Instant::now();
    let held = look_for(patience, || holds().then_some(()));
    assert!(held.is_some(), "not within {patience:?}: {what}");
    started_at.elapsed()
}

/// Looks all the time whether this holds; stops the test if it ever does not.
#[track_caller]
pub fn hold_for(what: &str, length: Duration, mut holds: impl FnMut() -> bool) {
    let broken = look_for(length, || (!holds()).then_some(()));
    assert!(broken.is_none(), "it did not hold for {length:?}: {what}");
}
