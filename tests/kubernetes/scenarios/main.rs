#![cfg(test)]
//! The rendered manifests with the image, enacted by the driver, under load.

mod hooks;
mod load;
mod outages;
mod probes;
mod upgrades;

use std::{
    env,
    io::{self, Write as _},
    sync::{Once, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use cluster_tests::{Scale, scale};
use kubernetes_tests::{Driver, Manifests, engine_answers, has_image};

const RENDERED: &str = include_str!("../../../deploy/kubernetes/majordomo.yaml");

/// For one test that measures, or for several that mostly wait.
static MACHINE: RwLock<()> = RwLock::new(());

/// From nothing, or with new addresses, to all ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// All pods of a revision: each leaves within its drain, comes back, and must have been ready for ten
/// seconds.
const ROLLOUT_WITHIN: Duration = Duration::from_secs(180);

/// The machine for one test, if it has an engine.
fn machine() -> Option<RwLockWriteGuard<'static, ()>> {
    has_engine().then(|| MACHINE.write().unwrap_or_else(PoisonError::into_inner))
}

/// For tests that mostly wait.
fn part_of_the_machine() -> Option<RwLockReadGuard<'static, ()>> {
    has_engine().then(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner))
}

/// Without an engine, that is said once, on the true standard error, which is shown of tests that pass,
/// too; and it is a failure where nobody would read it.
fn has_engine() -> bool {
    static SAID: Once = Once::new();
    if engine_answers() {
        return true;
    }
    let is_ci = env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!is_ci, "no Docker engine: in CI the manifests must be enacted");
    SAID.call_once(|| {
        io::stderr().write_all(b"tests of Kubernetes not run: no Docker engine\n").unwrap();
    });
    false
}

/// This version's image.
fn image() -> String {
    named(concat!("majordomo:", env!("CARGO_PKG_VERSION")), "cargo xtask image")
}

/// The image of the program that stands in for the next version.
fn next_image() -> String {
    named("majordomo:0.2.0-test-next", "cargo xtask test kubernetes")
}

fn named(image: &str, by: &str) -> String {
    assert!(has_image(image), "there is no {image}: `{by}` builds it");
    image.to_owned()
}

/// Three nodes, all ready.
fn deployed(image: &str) -> Driver {
    // The short form does not wait for ten seconds after each pod.
    let rendered = match scale() {
        Scale::Short => RENDERED.replace("minReadySeconds: 10", "minReadySeconds: 2"),
        Scale::Full => RENDERED.to_owned(),
    };
    let driver = Driver::apply(Manifests::read(&rendered).unwrap(), image);
    let took = driver.wait_until_ready(READY_WITHIN);
    println!("from nothing to all ready: {took:.1?}");
    driver
}
