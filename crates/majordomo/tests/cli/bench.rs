//! `majordomo bench`.

use crate::program::{Broker, printed, printed_json};

#[test]
fn broker_is_measured() {
    let broker = Broker::start();
    let pid = broker.process.pid().to_string();
    let load = ["bench", "--seconds", "1", "--workers", "2", "--window", "2", "--size", "1KiB"];

    let report = printed_json(&broker.run(&[&load[..], &["--json", "--pid", &pid]].concat()));
    let table = broker.run(&[&load[..], &["--protocol", "0.2"]].concat());

    assert!(report["requests"].as_u64().unwrap() > 0, "{report}");
    assert_eq!((&report["timeouts"], &report["body_bytes"]), (&0.into(), &1_024.into()));
    assert!(report["broker"]["cpu_us_per_request"].as_f64().unwrap() > 0.0, "{report}");
    assert!(printed(&table).contains("requests/s"), "{}", printed(&table));
    assert!(printed(&table).contains("MDP 0.2"), "{}", printed(&table));
}
