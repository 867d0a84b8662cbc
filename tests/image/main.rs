#![cfg(test)]
//! The container image, as `cargo xtask image` builds it: what is in it, one node of it, and three
//! with Compose. Containers are reached at their addresses in Docker's own networks.

mod compose;
mod docker;
mod one_node;

use std::{
    env,
    io::{self, Write as _},
    sync::{
        Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// One test at a time.
static MACHINE: Mutex<()> = Mutex::new(());

/// How long a container may take to do what it is expected to.
const PATIENCE: Duration = Duration::from_secs(60);

/// The machine for one test, if it has an engine. Without one, that is said once, on the true standard
/// error, which is shown of tests that pass, too; and it is a failure where nobody would read it.
fn machine() -> Option<MutexGuard<'static, ()>> {
    static SAID: Once = Once::new();
    if docker::engine_answers() {
        return Some(MACHINE.lock().unwrap_or_else(PoisonError::into_inner));
    }
    let is_ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!is_ci, "no Docker engine: in CI the image must be tested");
    SAID.call_once(|| io::stderr().write_all(b"image tests not run: no Docker engine\n").unwrap());
    None
}

/// The image that is tested.
fn image() -> String {
    let built = concat!("majordomo:", env!("CARGO_PKG_VERSION")).to_owned();
    let image = env::var("MAJORDOMO_IMAGE").unwrap_or(built);
    assert!(docker::has_image(&image), "there is no {image}: `cargo xtask image` builds it");
    image
}

/// A name that nothing else on this machine has.
fn unique_name() -> String {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let number = GIVEN.fetch_add(1, Ordering::Relaxed);
    format!("majordomo-image-test-{}-{number}", std::process::id())
}
