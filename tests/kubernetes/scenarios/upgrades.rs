//! New images: rolled out and back, tried on one node, and bad ones.

use std::time::Duration;

use cluster_tests::scale;
use kubernetes_tests::{Driver, What};

use crate::{
    ROLLOUT_WITHIN, deployed, image, load::Load, machine, next_image, part_of_the_machine,
};

/// The longest that a call may take while nodes leave and come back in turn.
const STALL_MAX: Duration = Duration::from_secs(1);

/// Every stop since an event of this number was asked for and ended by itself, with code 0.
#[track_caller]
fn all_drained(driver: &Driver, since: usize) {
    for event in &driver.events()[since..] {
        if let What::Exited { code, after } = &event.what {
            assert_eq!(*code, 0, "{event}");
            assert!(after.is_some_and(|after| after < Duration::from_secs(50)), "{event}");
        }
    }
}

#[test]
fn rollout_and_rollback_under_calls_fail_none() {
    let Some(_machine) = machine() else { return };
    let driver = deployed(&image());
    let mut load = Load::start(&driver, &image());
    for round in 1..=scale().pick(1, 20) {
        for next in [next_image(), image()] {
            load.wait_until_spread(0..3);
            let since = driver.events().len();
            driver.set_image(&next);
            driver.wait_for_rollout(ROLLOUT_WITHIN);
            load.holds(&driver, &format!("round {round}: to {next}"), STALL_MAX);
            all_drained(&driver, since);
        }
    }
    let state = driver.exec(0, &["/bin/majordomo", "upgrade", "status", "--json"]).unwrap();
    assert!(state.contains("\"current\"") && state.contains("\"0.1.0\""), "{state}");
}

#[test]
fn canary_stays_alone_and_goes_back_and_a_bad_image_heals_when_undone() {
    let Some(_machine) = part_of_the_machine() else { return };
    let driver = deployed(&image());
    let images = || [0, 1, 2].map(|ordinal| driver.image(ordinal).unwrap_or_default());

    driver.set_partition(2);
    driver.set_image(&next_image());
    driver.wait_for_rollout(ROLLOUT_WITHIN);
    assert_eq!(images(), [image(), image(), next_image()]);
    driver.undo();
    driver.set_partition(0);
    driver.wait_for_rollout(ROLLOUT_WITHIN);
    assert_eq!(images(), [image(), image(), image()]);

    driver.set_image("majordomo:there-is-no-such-version");
    let is_bad = || driver.events().iter().any(|event| event.what == What::NoImage);
    cluster_tests::wait_until("a pod has no image", ROLLOUT_WITHIN, is_bad);
    assert_eq!(driver.ready(), 2, "the rollout went on past a pod that is not ready");
    driver.undo();
    let took = driver.wait_until_ready(Duration::from_secs(30));
    println!("a bad image, undone: all ready after {took:.1?}, without another hand");
}
