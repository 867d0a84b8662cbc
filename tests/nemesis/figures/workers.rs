//! Workers fail, and their services must be gone.

use std::time::{Duration, Instant};

use cluster_tests::{Asker, Code, NetworkedCluster, Reachable, RecordedWorker};

use super::table::{Figure, Table};

/// The heartbeat interval that is recommended, with the liveness that is built in.
const HEARTBEAT: (&str, &str) = ("broker.heartbeat_interval", "1s");

/// How long what must come is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// For about 3 ms after the death of a process libzmq still takes messages to it; what it took is lost
/// with the worker, and only the next heartbeat finds that out. A call comes after that.
const CLOSED_WITHIN: Duration = Duration::from_millis(10);

pub(super) fn measure(rounds: usize, table: &mut Table) {
    let cluster = NetworkedCluster::start(&[HEARTBEAT]);
    for round in 0..rounds {
        for figure in [Figure::WorkerKilled, Figure::WorkerKilledCalled, Figure::WorkerFrozen] {
            let gone = lose_worker(&cluster, &format!("{figure:?}.{round}"), figure);
            table.add(figure, gone);
        }
    }
}

/// From the fault, or from the call after it, until every node says 404.
fn lose_worker(cluster: &NetworkedCluster, service: &str, figure: Figure) -> Duration {
    let node = cluster.follower();
    let record = tempfile::NamedTempFile::new().unwrap();
    let program = env!("CARGO_BIN_EXE_recording-worker");
    let endpoint = cluster.node(node).endpoint();
    let mut worker =
        RecordedWorker::start(program, record.path(), service, Duration::ZERO, &[endpoint]);
    let mut askers: Vec<Asker> = cluster.nodes().iter().map(Asker::connect).collect();
    for asker in &mut askers {
        asker.wait_for(service, Code::Found, PATIENCE);
    }

    let mut from = Instant::now();
    match figure {
        Figure::WorkerFrozen => worker.freeze(),
        _ => worker.kill(),
    }
    if figure == Figure::WorkerKilledCalled {
        // Nothing that a client can see tells of the closed connection but the call itself.
        std::thread::sleep(CLOSED_WITHIN);
        from = Instant::now();
        let _nobody_answers = askers[node].ask(service, "");
    }
    for asker in &mut askers {
        asker.wait_for(service, Code::NotFound, PATIENCE);
    }
    from.elapsed()
}
