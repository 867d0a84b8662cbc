//! `demo`: what three nodes do, shown in under a minute with real processes.

pub(crate) mod admin;
mod asker;
mod failover;
mod load;
mod nodes;
mod requests;
mod rolling;
mod show;
mod zmtp;

use std::time::{Duration, Instant};

use crate::{
    install::{self, Need},
    players::{Player, Players},
    run::Failure,
    say, suite,
    workspace::Workspace,
};
use asker::Asker;
use nodes::{NODES, Nodes};
use show::Show;

/// How long anything that is shown may take before the demo says that it is broken.
const PATIENCE: Duration = Duration::from_secs(15);
/// The node that workers and clients of the demo are at; it is never killed.
const HOME: usize = 0;

pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    install::missing(&[Need::Libzmq])?;
    say::line("==> build ...");
    let started = Instant::now();
    suite::build(workspace, &["majordomo"])?;
    say::line(&format!("==> build ... {}", say::duration(started.elapsed())));

    let players = Players::gather(&workspace.release("majordomo"))?;
    let mut show = Show::begin();
    let told = Nodes::prepare(workspace, &players)
        .and_then(|mut nodes| tell(&players, &mut show, &mut nodes));
    let left = players.leave();
    told?;
    show.step("Look what is left");
    left?;
    show.came_back("no process, no file");
    show.end();
    Ok(())
}

fn tell(players: &Players, show: &mut Show, nodes: &mut Nodes<'_>) -> Result<(), Failure> {
    form_a_cluster(players, show, nodes)?;
    let mut askers = nodes.askers()?;
    discover(players, show, nodes, &mut askers)?;
    let worker = register(show, nodes, &mut askers)?;
    requests::call(players, show, nodes, HOME)?;
    requests::survive(players, show, nodes, HOME)?;
    let leader = failover::hand_over(players, show, nodes)?;
    let other = failover::kill(players, show, nodes, leader)?;
    failover::restart(show, nodes, leader, other)?;
    rolling::restart_all(players, show, nodes)?;
    for node in &nodes.nodes {
        if let Some(kib) = node.player.as_ref().and_then(Player::memory_kib) {
            show.measured("memory of a node", format!("{:.1} MiB", kib / 1_024.0));
            break;
        }
    }
    leave(players, show, nodes)?;
    drop(worker);
    Ok(())
}

fn form_a_cluster(
    players: &Players,
    show: &mut Show,
    nodes: &mut Nodes<'_>,
) -> Result<(), Failure> {
    show.step("Start three nodes with the files of config/three-node, on free ports");
    let started = Instant::now();
    for index in 0..NODES {
        nodes.start(show, index)?;
    }
    nodes.settle()?;
    show.took("three nodes are one cluster after", started.elapsed());
    nodes.show(show)?;
    players.set_endpoint(&format!("tcp://{}", nodes.get(HOME)?.clients));
    Ok(())
}

fn discover(
    players: &Players,
    show: &mut Show,
    nodes: &Nodes<'_>,
    askers: &mut [(usize, Asker)],
) -> Result<(), Failure> {
    show.step("Ask every node whether anybody offers `echo`, and one for what no broker knows");
    nodes.ask_all(show, askers, "echo", "404")?;
    let (answer, _) = show.call(players, &["mmi.tea", "please"])?;
    expect(&answer, "501")
}

fn register(
    show: &mut Show,
    nodes: &Nodes<'_>,
    askers: &mut [(usize, Asker)],
) -> Result<Player, Failure> {
    let name = &nodes.get(HOME)?.name;
    show.step(&format!("Start a worker at {name}; when it is registered, ask every node at once"));
    let started = Instant::now();
    let worker = requests::register(show, nodes, HOME, "echo", &["echo", "--echo"])?;
    show.took("a new worker knows that it is registered after", started.elapsed());
    let slowest = nodes.ask_all(show, askers, "echo", "200")?;
    show.took("the slowest of the three answers takes", slowest);
    Ok(worker)
}

fn leave(players: &Players, show: &mut Show, nodes: &mut Nodes<'_>) -> Result<(), Failure> {
    let name = nodes.get(HOME)?.name.clone();
    show.step(&format!("Stop {name} while a worker is busy there, then the other two at once"));
    requests::drain_busy(players, show, nodes, HOME)?;
    let mut askers = nodes.askers()?;
    // Its worker was told to go, so nobody offers it any more.
    nodes.ask_all(show, &mut askers, "echo", "404")?;
    requests::drain_rest(players, show, nodes)
}

fn expect(answer: &str, wanted: &str) -> Result<(), Failure> {
    if answer == wanted {
        return Ok(());
    }
    Err(Failure::new(format!("the demo is wrong: expected `{wanted}`, and `{answer}` came back")))
}
