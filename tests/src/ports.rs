//! Ports for processes that must know each other's before they start.

use std::{
    net::TcpListener,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ports that systems give to outgoing connections, so that no client takes one while
/// its node is down.
const FIRST: u32 = 12_000;

/// How many there are to choose from.
const COUNT: u32 = 20_000;

/// How many are tried before the test gives up.
const ATTEMPTS_MAX: u32 = 2_000;

/// How far apart the first ports of two test programs are that run at the same time.
const STRIDE: u32 = 101;

static GIVEN: AtomicU32 = AtomicU32::new(0);

/// A port of loopback that nobody listens on, never given twice by this process.
#[must_use]
pub fn free_port() -> u16 {
    let start = process::id().wrapping_mul(STRIDE);
    for _ in 0..ATTEMPTS_MAX {
        let offset = start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port among {ATTEMPTS_MAX} from {FIRST} up");
}
