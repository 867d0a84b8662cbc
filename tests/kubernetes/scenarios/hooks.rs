//! What users add to the manifests: secrets, hooks and gates.

use std::time::Duration;

use cluster_tests::{hold_for, wait_until};
use kubernetes_tests::{Driver, Manifests, What};

use crate::{READY_WITHIN, RENDERED, image, part_of_the_machine};

const GATE: &str = "example.org/balancer-knows";

const SECRET: &str = r#"apiVersion: v1
kind: Secret
metadata:
  name: keys
type: Opaque
data:
  majordomo.toml: W2Jyb2tlcl0KcmVxdWVzdF90dGwgPSAiNzdzIgo=
---
"#;

/// What is added behind which line; in the place of `HOOK`, a hook.
const ADDED: [(&str, &str); 4] = [
    (
        "        imagePullPolicy: IfNotPresent\n",
        "        lifecycle:\n          preStop:\n            HOOK\n",
    ),
    ("        volumeMounts:\n", "        - mountPath: /etc/keys\n          name: keys\n"),
    ("      enableServiceLinks: false\n", "      readinessGates:\n      - conditionType: GATE\n"),
    ("      volumes:\n", "      - secret:\n          secretName: keys\n        name: keys\n"),
];

fn extended(hook: &str) -> Manifests {
    let extended = ADDED.iter().fold(format!("{SECRET}{RENDERED}"), |text, (line, added)| {
        assert_eq!(text.matches(line).count(), 1, "{line}");
        text.replace(line, &format!("{line}{added}"))
    });
    Manifests::read(&extended.replace("HOOK", hook).replace("GATE", GATE)).unwrap()
}

/// How many containers of this pod, and of those before it, have come to life.
fn lives(driver: &Driver, ordinal: usize) -> usize {
    let events = driver.events();
    events.iter().filter(|event| event.pod == ordinal && event.what == What::Alive).count()
}

fn secrets_hooks_and_gates(hook: &str, takes: Duration) {
    let driver = Driver::apply(extended(hook), &image());
    wait_until("all pods live", READY_WITHIN, || (0..3).all(|pod| lives(&driver, pod) == 1));
    hold_for("gates are closed", Duration::from_secs(5), || driver.ready() == 0);
    let open = |ordinal| driver.set_condition(ordinal, GATE, true);
    (0..3).for_each(open);
    driver.wait_until_ready(READY_WITHIN);

    let check = ["/bin/majordomo", "serve", "--check", "--config", "/etc/keys/majordomo.toml"];
    let settings = driver.exec(0, &check).unwrap();
    assert!(settings.contains("77s"), "{settings}");

    driver.delete_pod(1, false);
    wait_until("its successor lives", READY_WITHIN, || lives(&driver, 1) == 2);
    let events = driver.events();
    let of_pod: Vec<&What> = events.iter().filter(|e| e.pod == 1).map(|e| &e.what).collect();
    let stopping = of_pod.iter().position(|what| **what == What::Stopping).unwrap();
    let [_, What::Hook { succeeded: true, after }, What::Exited { code: 0, .. }, What::Deleted, ..] =
        of_pod[stopping..]
    else {
        panic!("{of_pod:?}")
    };
    assert!(*after >= takes, "{after:?}");
    hold_for("its gate is closed", Duration::from_secs(3), || driver.ready() == 2);
    open(1);
    driver.wait_until_ready(READY_WITHIN);
}

#[test]
fn command_is_run_before_a_pod_is_told_to_end_and_its_successor_waits_for_its_gate() {
    let Some(_machine) = part_of_the_machine() else { return };
    secrets_hooks_and_gates("exec: {command: [/bin/majordomo, status, --live]}", Duration::ZERO);
}

#[test]
fn pod_sleeps_before_it_is_told_to_end_and_its_successor_waits_for_its_gate() {
    let Some(_machine) = part_of_the_machine() else { return };
    secrets_hooks_and_gates("sleep: {seconds: 2}", Duration::from_secs(2));
}
