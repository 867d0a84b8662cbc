//! How long clients and workers are without what they need when something fails, in figures that are
//! held against their bounds.
//!
//! A gap is the longest time without a correct answer of `mmi.service`, at a node that nothing
//! happened to, from the fault on. A service is gone when every such node says 404.

mod nodes;
mod table;
mod workers;

use cluster_tests::{NetworkedCluster, means, scale};

use self::table::Table;
use crate::machine;

/// How often each row is measured, in the short form and in the long one.
struct Rounds {
    short: usize,
    long: usize,
}

impl Rounds {
    fn count(&self) -> usize {
        scale().pick(self.short, self.long)
    }
}

const KILLS: Rounds = Rounds { short: 2, long: 50 };
const FOLLOWER_KILLS: Rounds = Rounds { short: 1, long: 30 };
const PARTITIONS: Rounds = Rounds { short: 1, long: 30 };
const ONE_WAY_CUTS: Rounds = Rounds { short: 1, long: 20 };
const FREEZES: [(u64, Rounds); 3] = [
    (1, Rounds { short: 1, long: 20 }),
    (10, Rounds { short: 0, long: 10 }),
    (30, Rounds { short: 0, long: 5 }),
];
const DRAINS: Rounds = Rounds { short: 1, long: 20 };
const WORKERS: Rounds = Rounds { short: 2, long: 30 };

#[test]
fn failing_nodes_and_workers_are_replaced_within_their_bounds() {
    let _machine = machine();
    println!("means: {:?}", means());
    let mut table = Table::default();
    let mut cluster = NetworkedCluster::start(&[]);
    for _ in 0..KILLS.count() {
        nodes::kill_leader(&mut cluster, &mut table);
    }
    for _ in 0..FOLLOWER_KILLS.count() {
        nodes::kill_follower(&mut cluster, &mut table);
    }
    for _ in 0..PARTITIONS.count() {
        nodes::partition_leader(&cluster, &mut table);
    }
    for _ in 0..ONE_WAY_CUTS.count() {
        nodes::cut_leader_one_way(&cluster, true, &mut table);
        nodes::cut_leader_one_way(&cluster, false, &mut table);
    }
    for (seconds, rounds) in FREEZES {
        for _ in 0..rounds.count() {
            nodes::freeze_leader(&cluster, seconds, &mut table);
        }
    }
    for _ in 0..DRAINS.count() {
        nodes::drain_leader(&mut cluster, &mut table);
    }
    drop(cluster);
    workers::measure(WORKERS.count(), &mut table);
    println!("{table}");
    table.assert_within_bounds();
}
