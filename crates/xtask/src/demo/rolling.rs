//! All nodes are drained and restarted, one after the other, while clients ask.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use super::{
    PATIENCE,
    load::{Load, Outcome},
    nodes::{NODES, Nodes},
    show::Show,
};
use crate::{
    players::Players,
    run::{self, Failure},
    say,
};

/// How long the load runs before the first drain and after the last start.
const AROUND: Duration = Duration::from_millis(500);

/// A rolling restart under load. Nothing may be lost.
pub(super) fn restart_all(
    players: &Players,
    show: &mut Show,
    nodes: &mut Nodes<'_>,
) -> Result<(), Failure> {
    show.step("Drain and restart all three nodes, one after the other, while three clients ask six workers");
    let clients = |index| nodes.get(index).map(|node| node.clients);
    let addresses = (0..NODES).map(clients).collect::<Result<Vec<SocketAddr>, Failure>>()?;
    let load = Load::start(&addresses)?;
    thread::sleep(AROUND);
    let started = Instant::now();
    for index in 0..NODES {
        drain(players, show, nodes, index)?;
        nodes.start(show, index)?;
        nodes.settle()?;
    }
    show.took("a rolling restart of three nodes takes", started.elapsed());
    thread::sleep(AROUND);
    report(show, &load.stop()?)
}

/// Asks a node to drain, and waits until its process is gone.
fn drain(
    players: &Players,
    show: &Show,
    nodes: &mut Nodes<'_>,
    index: usize,
) -> Result<(), Failure> {
    let node = nodes.get_mut(index)?;
    let (name, admin) = (node.name.clone(), format!("http://{}", node.admin));
    let drain = ["drain", &name, "--wait", "--json", "--admin", &admin];
    let mut command = players.command("drain", &drain);
    show.does(&run::shown(&command));
    let receipt = run::output(&mut command)?;
    show.came_back(receipt.trim_end());
    match node.player.take() {
        Some(player) => player.ended_well(PATIENCE),
        None => Err(Failure::new(format!("{name} does not run"))),
    }
}

fn report(show: &mut Show, outcome: &Outcome) -> Result<(), Failure> {
    let Outcome { sent, answered, retried, lost, repeated, slowest } = *outcome;
    let heads = ["SENT", "ANSWERED", "RETRIED", "LOST", "EXECUTED TWICE", "SLOWEST REPLY"];
    let counts = [sent, answered, retried, lost, repeated].map(|count| count.to_string());
    let [sent_, answered_, retried_, lost_, repeated_] = counts;
    let row = [sent_, answered_, retried_, lost_, repeated_, say::duration(slowest)];
    show.table(&[heads.map(String::from), row]);
    show.measured("requests lost in a rolling restart", format!("{lost} of {sent}"));
    show.took("the slowest reply during that", slowest);
    if lost > 0 || answered != sent {
        return Err(Failure::new("the demo is wrong: requests were lost"));
    }
    // Only who asks twice may be served twice when nothing is killed.
    if repeated > retried {
        return Err(Failure::new("the demo is wrong: the cluster repeated requests by itself"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_repeated_requests_are_wrong() {
        let good = Outcome { sent: 9, answered: 9, retried: 1, repeated: 1, ..Outcome::default() };
        let lost = Outcome { answered: 8, lost: 1, ..good };
        let repeated = Outcome { repeated: 2, ..good };

        let verdicts =
            [good, lost, repeated].map(|outcome| report(&mut Show::begin(), &outcome).is_ok());

        assert_eq!(verdicts, [true, false, false]);
    }
}
