#![cfg(test)]
//! The procedures of `deploy/procedures`, run as an operator runs them, with three nodes under load.

mod refusals;
mod site;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use cluster_tests::{AtEnd, next_program, program, wait_until};
use mdp_client::{Client, ClientOptions, Request, StopHandle, Worker, WorkerOptions};

use self::site::Site;

const SERVICE: &str = "echo";
/// Of the workers.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Between two calls.
const PERIOD: Duration = Duration::from_millis(5);
/// How long workers may take to register.
const REGISTERED_WITHIN: Duration = Duration::from_secs(15);

/// Calls and workers, while something is done; none of the calls fails.
fn under_load(site: &Site, act: impl FnOnce()) {
    let endpoints = site.endpoints();
    let (is_over, stop, answered) = (AtomicBool::default(), StopHandle::new(), AtomicU64::new(0));
    thread::scope(|scope| {
        let (is_over, stop, answered) = (&is_over, &stop, &answered);
        let _ending = AtEnd::new(|| {
            is_over.store(true, Ordering::SeqCst);
            stop.stop();
        });
        for number in 0..6 {
            let mut endpoints = endpoints.clone();
            let first = number % endpoints.len();
            endpoints.rotate_left(first);
            scope.spawn(move || {
                let options = WorkerOptions::default()
                    .endpoints(endpoints)
                    .service(SERVICE.into())
                    .heartbeat_interval(HEARTBEAT);
                Worker::run(options, |request: Request| request.frames, stop).unwrap();
            });
        }
        let client = scope.spawn(|| {
            let options = ClientOptions::default().endpoints(endpoints);
            let mut client = Client::connect(options).unwrap();
            while !is_over.load(Ordering::SeqCst) {
                let reply = client.call(SERVICE, "hello").unwrap();
                assert_eq!(reply.frames, [b"hello"]);
                answered.fetch_add(1, Ordering::SeqCst);
                thread::sleep(PERIOD);
            }
        });
        wait_until("calls are answered", REGISTERED_WITHIN, || {
            answered.load(Ordering::SeqCst) > 20
        });
        act();
        is_over.store(true, Ordering::SeqCst);
        client.join().unwrap();
    });
    println!("{} calls answered, none failed", answered.load(Ordering::SeqCst));
}

#[test]
fn nodes_are_deployed_restarted_added_removed_and_replaced_without_a_failed_call() {
    let site = Site::new(&[]);
    site.run("deploy.sh", &[]);
    under_load(&site, || {
        site.run("restart.sh", &[]);
        let members = site.run("add-node.sh", &["node-4"]);
        assert_eq!(members.matches("voter").count(), 4, "{members}");
        let members = site.run("remove-node.sh", &["node-4"]);
        assert_eq!(members.matches("voter").count(), 3, "{members}");
        let members = site.run("replace-node.sh", &["--yes", "node-2"]);
        assert_eq!(members.matches("voter").count(), 3, "{members}");
    });
}

#[test]
fn versions_are_brought_forward_back_and_forward_for_good_without_a_failed_call() {
    let site = Site::new(&[("this", program()), ("next", next_program())]);
    site.run("deploy.sh", &[]);
    under_load(&site, || {
        let told = site.run("upgrade.sh", &["next"]);
        assert!(
            told.contains("All members run 0.2.0; `majordomo upgrade hold` keeps 0.1.0"),
            "{told}"
        );
        let told = site.run("roll-back.sh", &["this"]);
        assert!(told.contains("version is 0.1.0. All members run it"), "{told}");
        site.run("upgrade.sh", &["next"]);
        let told = site.run("finalize.sh", &[]);
        assert!(told.contains("version is 0.2.0. All members run it"), "{told}");
    });
    // Too late.
    let told = site.fail("roll-back.sh", &["this"]);
    assert!(told.contains("node-1 is ready: not within"), "{told}");
    // By its log, which it cannot read, or by what the cluster says.
    assert!(site.log("node-1").contains("newer"), "{}", site.log("node-1"));
}

#[test]
fn majority_that_is_lost_and_all_volumes_that_are_lost_are_recovered_from() {
    let site = Site::new(&[]);
    site.run("deploy.sh", &[]);
    let copy = site.path("node-3.tar.gz");
    under_load(&site, || drop(site.run("back-up.sh", &[&copy, "node-3"])));
    let before = site.cluster_id("node-3");

    site.lose("node-1");
    site.lose("node-2");
    let members = site.run("recover.sh", &["node-3"]);
    assert_eq!(members.matches("voter").count(), 3, "{members}");
    let recovered = site.cluster_id("node-1");
    assert_ne!(recovered, before);
    under_load(&site, || {});

    for node in ["node-1", "node-2", "node-3"] {
        site.lose(node);
    }
    let members = site.run("restore.sh", &[&copy, "node-3"]);
    assert_eq!(members.matches("voter").count(), 3, "{members}");
    assert!(![before, recovered].contains(&site.cluster_id("node-2")));
    under_load(&site, || {});
}
