#![cfg(test)]
//! Limits hold: memory under load, no reply lost, many connections, a quick start.
//!
//! The everyday numbers are short forms where the full ones take minutes; `MAJORDOMO_SOAK=1`
//! runs the full ones.

mod connections;
mod files;
mod memory;
mod order;
mod start;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One mebibyte.
const MIB: u64 = 1 << 20;

/// These tests measure the machine: one at a time.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}
