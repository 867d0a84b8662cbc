//! The leader is killed, and comes back.

use std::time::{Duration, Instant};

use super::{
    HOME, PATIENCE,
    asker::{Asker, Sighting, Watch, longest_gap},
    nodes::Nodes,
    requests::{self, FarRequest},
    show::Show,
};
use crate::{
    players::{Player, Players},
    run::{self, Failure},
    say,
};

/// What the survivors are asked for: one service of a living node, one of the node that dies.
const WATCHED: [&str; 2] = ["echo", "tea"];
/// How long after the kill a survivor may be without an answer. The promise is 1.6 s in 99 of 100
/// cases; this leaves room for a machine that does other work.
const GAP_MAX: Duration = Duration::from_secs(3);
/// How long the services of a lost leader may be found: `cluster.node_timeout` from the election
/// on, and a bit.
const GONE_MAX: Duration = Duration::from_secs(7);
/// How long the survivors are asked before the kill.
const BEFORE: Duration = Duration::from_millis(250);
/// How long to wait between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Leadership goes to a node that may be killed. Returns that node.
pub(super) fn hand_over(
    players: &Players,
    show: &mut Show,
    nodes: &Nodes<'_>,
) -> Result<usize, Failure> {
    let before = nodes.settle()?;
    let leader = before.leader.unwrap_or_default();
    let running = nodes.running().into_iter().filter(|index| *index != HOME);
    let others: Vec<usize> =
        running.filter(|index| nodes.get(*index).is_ok_and(|node| node.name != leader)).collect();
    let to = *others.first().ok_or_else(|| Failure::new("there is no node to lead"))?;
    let name = nodes.get(to)?.name.clone();

    show.step(&format!("Hand leadership over from {leader} to {name}, on purpose"));
    let admin = format!("http://{}", nodes.get(HOME)?.admin);
    let transfer = ["leader", "transfer", &name, "--admin", &admin];
    let mut command = players.command("transfer", &transfer);
    show.does(&run::shown(&command));
    let started = Instant::now();
    run::output(&mut command)?;
    nodes.settle_with(|view| view.leader.as_deref() == Some(name.as_str()))?;
    show.took("a transfer of leadership takes", started.elapsed());
    nodes.show(show)?;
    Ok(to)
}

/// Kills the leader while the survivors are asked all the time. Returns the worker that was there.
pub(super) fn kill(
    players: &Players,
    show: &mut Show,
    nodes: &mut Nodes<'_>,
    leader: usize,
) -> Result<Player, Failure> {
    let name = nodes.get(leader)?.name.clone();
    show.step(&format!(
        "Kill the leader, {name}, which has the only worker for `tea`, and one that holds a request \
         of another node; the others are asked every 5 ms"
    ));
    let worker = requests::register(show, nodes, leader, "tea", &["tea", "--echo"])?;
    let request = FarRequest::send(players, show, nodes, HOME, leader)?;
    let second = FarRequest::second_worker(show, nodes, HOME)?;
    let mut watches = Vec::new();
    for index in nodes.running().into_iter().filter(|index| *index != leader) {
        let node = nodes.get(index)?;
        watches.push((node.name.clone(), Watch::start(Asker::connect(node.clients)?, &WATCHED)));
    }
    std::thread::sleep(BEFORE);
    let before = nodes.settle()?;

    let Some(doomed) = nodes.get_mut(leader)?.player.take() else {
        return Err(Failure::new(format!("{name} does not run")));
    };
    show.does(&format!("kill -9 {}, {name}", doomed.process()));
    let killed = Instant::now();
    players.kill(doomed);
    let after = nodes.settle_with(|view| view.leader.as_deref() != Some(name.as_str()))?;
    show.took("the survivors agree on a new leader after", killed.elapsed());
    let replied_at = request.expect_reply(players, show)?;
    show.took("from its death to a reply by another worker", replied_at.duration_since(killed));
    drop(second);
    nodes.show(show)?;
    if after.term <= before.term {
        return Err(Failure::new(format!("term {} after {}", after.term, before.term)));
    }
    for (_, watch) in &watches {
        until(|| watch.has_seen("tea", "404", killed))?;
    }
    report(show, watches, killed)?;
    show.measured("terms before and after", format!("{}, {}", before.term, after.term));
    Ok(worker)
}

/// What the survivors answered meanwhile.
fn report(show: &mut Show, watches: Vec<(String, Watch)>, killed: Instant) -> Result<(), Failure> {
    let mut rows = vec![
        ["NODE", "echo: 200", "503", "404", "LONGEST GAP", "tea: 404 AFTER"].map(String::from),
    ];
    let mut worst = Duration::ZERO;
    for (name, watch) in watches {
        let seen = watch.stop()?;
        let count = |code: &str| {
            let those = |one: &&Sighting| one.service == "echo" && one.code == code;
            seen.iter().filter(those).count()
        };
        let gap = longest_gap(&seen, "echo", "200");
        worst = worst.max(gap);
        let gone = gone_after(&seen, killed)?;
        if count("404") > 0 {
            return Err(Failure::new(format!(
                "the demo is wrong: {name} said that nobody offers `echo`"
            )));
        }
        if gap > GAP_MAX || gone > GONE_MAX {
            return Err(Failure::new(format!(
                "too slow: {name} was without an answer for {}, and `tea` was found for {}",
                say::duration(gap),
                say::duration(gone)
            )));
        }
        let counts = ["200", "503", "404"].map(|code| count(code).to_string());
        let [found, unavailable, lost] = counts;
        rows.push([name, found, unavailable, lost, say::duration(gap), say::duration(gone)]);
    }
    show.table(&rows);
    show.took("longest time without an answer after the kill", worst);
    Ok(())
}

/// When `tea`, which died with its node, was not found any more. It must stay so.
fn gone_after(seen: &[Sighting], killed: Instant) -> Result<Duration, Failure> {
    let tea: Vec<&Sighting> = seen.iter().filter(|one| one.service == "tea").collect();
    let first = tea.iter().position(|one| one.code == "404");
    let first = first.ok_or_else(|| Failure::new("`tea` is still found"))?;
    if tea.iter().skip(first).any(|one| one.code == "200") {
        return Err(Failure::new("the demo is wrong: `tea` was found again"));
    }
    let gone = tea.get(first).map(|one| one.answered_at.duration_since(killed));
    Ok(gone.unwrap_or_default())
}

/// The node comes back with the state that it had, and its worker by itself.
pub(super) fn restart(
    show: &mut Show,
    nodes: &mut Nodes<'_>,
    node: usize,
    worker: Player,
) -> Result<(), Failure> {
    let name = nodes.get(node)?.name.clone();
    show.step(&format!("Start {name} again; its worker has waited for it"));
    let started = Instant::now();
    nodes.start(show, node)?;
    nodes.settle()?;
    show.took("a restarted node has caught up after", started.elapsed());
    worker.wait_for("registered", PATIENCE)?;
    show.took("its worker is registered again after", started.elapsed());
    nodes.settle()?;
    nodes.show(show)?;
    let mut askers = nodes.askers()?;
    for service in WATCHED {
        nodes.ask_all(show, &mut askers, service, "200")?;
    }
    drop(worker);
    Ok(())
}

fn until(is_so: impl Fn() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if is_so() {
            return Ok(());
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    Err(Failure::new(format!("not within {}", say::duration(PATIENCE))))
}
