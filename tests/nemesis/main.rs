#![cfg(test)]
//! Three real processes, each with a network namespace of its own, while everything goes wrong that
//! this machine can bring about. What it cannot fails the run, unless it is left out by its name.
//!
//! The everyday numbers are short forms; `MAJORDOMO_SOAK=1` runs the full ones. Each test has the machine
//! for itself.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a kind of fault is named where it differs from the others"
)]

mod figures;
mod history;

use std::{
    env,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cluster_tests::look_for;

/// One test at a time: all of them measure.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Random choices that a failed run shows, and `MAJORDOMO_SEED` repeats.
fn random() -> fastrand::Rng {
    let given = env::var("MAJORDOMO_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("MAJORDOMO_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

fn let_pass(length: Duration) {
    assert!(look_for(length, || None::<()>).is_none());
}
