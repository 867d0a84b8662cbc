//! Pods and volumes that go, one at a time and all at once, and a set that grows and shrinks.

use std::time::Duration;

use cluster_tests::{scale, wait_until};
use kubernetes_tests::{Driver, Evicted};

use crate::{READY_WITHIN, deployed, image, load::Load, machine};

/// The longest that a call may take while pods leave and come back.
const STALL_MAX: Duration = Duration::from_secs(1);

/// And when they are killed.
const STALL_MAX_OF_KILLS: Duration = Duration::from_secs(2);

/// And when one is cut off: nothing is closed. The first attempt of a call to it ends after 2.5 s at the latest
/// (`ClientOptions::timeout`), and the second one has a second to connect to another pod (`connect_timeout`).
const STALL_MAX_OF_CUTS: Duration = Duration::from_millis(3_500);

/// All pods at once, with new addresses: the cluster is back.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// How long the leader may take to know of a change.
const KNOWN_WITHIN: Duration = Duration::from_secs(20);

fn member_count(driver: &Driver) -> usize {
    let list = driver.exec(0, &["/bin/majordomo", "member", "list", "--json"]);
    list.map_or(0, |list| list.matches("\"voter\"").count())
}

/// Drains the node of a pod: the eviction is asked for until it is granted.
fn drain_machine_of(driver: &Driver, ordinal: usize) {
    wait_until("the eviction is granted", KNOWN_WITHIN, || driver.evict(ordinal) == Evicted::Yes);
    // The budget is spent: nobody else goes meanwhile.
    for other in (0..3).filter(|other| *other != ordinal) {
        assert_eq!(driver.evict(other), Evicted::WouldViolateBudget);
    }
    driver.wait_until_ready(Duration::from_secs(60));
}

#[test]
fn evictions_kills_a_lost_volume_and_scaling_fail_no_call() {
    let Some(_machine) = machine() else { return };
    let driver = deployed(&image());
    let mut load = Load::start(&driver, &image());

    // Before each fault every pod has workers, so that no fault takes the service away from all: what
    // fails then is the nodes' or the library's fault, and not the place where the workers happened to be.
    load.wait_until_spread(0..3);
    drain_machine_of(&driver, 1);
    load.holds(&driver, "node drain", STALL_MAX);

    for round in 1..=scale().pick(2, 20) {
        load.wait_until_spread(0..3);
        let victim = fastrand::usize(..3);
        // In the same pod, and as a new pod with another address, in turn.
        if round % 2 == 0 {
            driver.delete_pod(victim, true);
        } else {
            driver.kill_container(victim);
        }
        wait_until("the pod is away", KNOWN_WITHIN, || driver.ready() < 3);
        driver.wait_until_ready(Duration::from_secs(60));
        load.holds(&driver, &format!("kill {round}: majordomo-{victim}"), STALL_MAX_OF_KILLS);
    }

    // No pod hears it, and it hears none; nothing is closed, so that each has to notice.
    load.wait_until_spread(0..3);
    let cut_off = fastrand::usize(..3);
    driver.set_cut_off(cut_off, true);
    wait_until("the pod is away", KNOWN_WITHIN, || driver.ready() < 3);
    driver.set_cut_off(cut_off, false);
    driver.wait_until_ready(Duration::from_secs(60));
    load.holds(&driver, &format!("cut off: majordomo-{cut_off}"), STALL_MAX_OF_CUTS);

    load.wait_until_spread(0..3);
    driver.lose_volume(2);
    driver.wait_until_ready(Duration::from_secs(60));
    wait_until("the newcomer votes alone", KNOWN_WITHIN, || member_count(&driver) == 3);
    load.holds(&driver, "lost volume", STALL_MAX_OF_KILLS);

    load.wait_until_spread(0..3);
    driver.scale(5);
    driver.wait_until_ready(Duration::from_secs(60));
    wait_until("five vote", KNOWN_WITHIN, || member_count(&driver) == 5);
    load.holds(&driver, "scale to 5", STALL_MAX);
    for removed in [4, 3] {
        let name = format!("majordomo-{removed}");
        driver.exec(0, &["/bin/majordomo", "member", "remove", &name]).unwrap();
        driver.scale(removed);
        driver.wait_until_ready(Duration::from_secs(60));
        driver.delete_claims(removed);
    }
    assert_eq!(member_count(&driver), 3);
    load.holds(&driver, "scale to 3", STALL_MAX_OF_KILLS);
}

#[test]
fn all_pods_at_once_come_back_by_themselves_with_new_addresses() {
    let Some(_machine) = machine() else { return };
    let driver = deployed(&image());
    for round in 1..=scale().pick(2, 10) {
        let before: Vec<_> = (0..3).map(|ordinal| driver.address(ordinal)).collect();
        let mut order = [0, 1, 2];
        fastrand::shuffle(&mut order);
        for ordinal in order {
            driver.delete_pod(ordinal, true);
        }
        wait_until("all pods are new", READY_WITHIN, || {
            (0..3).all(|ordinal| {
                let address = driver.address(ordinal);
                address.is_some() && !before.contains(&address)
            })
        });
        let took = driver.wait_until_ready(READY_WITHIN);
        println!("round {round}, in the order {order:?}: back after {took:.1?}");
        assert!(took < BACK_WITHIN, "{took:?}\n{}", driver.story());
    }
}
