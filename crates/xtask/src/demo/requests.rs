//! What becomes of requests: a worker dies, a node leaves.

use std::{
    fs,
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{PATIENCE, expect, nodes::Nodes, show::Show};
use crate::{
    players::{Player, Players},
    run::Failure,
    say,
};

/// Starts a worker that stays at its node, and waits until it knows that it is registered. Each
/// needs a role of its own: that is how it is killed.
pub(super) fn register(
    show: &Show,
    nodes: &Nodes<'_>,
    node: usize,
    role: &str,
    work: &[&str],
) -> Result<Player, Failure> {
    let endpoint = nodes.get(node)?.clients.to_string();
    let arguments: Vec<&str> = [&["work"], work, &["--no-learn", "--endpoint", &endpoint]].concat();
    let worker = show.start(nodes.players.command(role, &arguments))?;
    worker.wait_for("registered", PATIENCE)?;
    Ok(worker)
}

/// A request goes to a node where nobody offers the service.
pub(super) fn call(
    players: &Players,
    show: &mut Show,
    nodes: &Nodes<'_>,
    worker_at: usize,
) -> Result<(), Failure> {
    let other = nodes.running().into_iter().find(|index| *index != worker_at);
    let other = nodes.get(other.unwrap_or(worker_at))?;
    let worker_at = &nodes.get(worker_at)?.name;
    show.step(&format!("Call it at {}; its worker is at {worker_at}", other.name));
    let endpoint = other.clients.to_string();
    let call = ["echo", "Hello, Majordomo!", "--retries", "0", "--endpoint", &endpoint];
    let (answer, took) = show.call(players, &call)?;
    expect(&answer, "Hello, Majordomo!")?;
    show.took("a call over two nodes, with its process, takes", took);
    Ok(())
}

/// A worker dies with a request in its hands; another one answers it.
pub(super) fn survive(
    players: &Players,
    show: &mut Show,
    nodes: &Nodes<'_>,
    node: usize,
) -> Result<(), Failure> {
    show.step("Kill a worker while it holds a request");
    let held = players.file("held");
    let slow = ["slow", "--exec", "touch held; sleep 30; cat"];
    let doomed = register(show, nodes, node, "doomed", &slow)?;
    let arguments = ["slow", "I survive", "--timeout", "20s", "--retries", "0"];
    let client = show.start(players.call("client", &arguments))?;
    until_exists(&held)?;
    show.came_back("the worker has the request and sleeps on it");
    let other = register(show, nodes, node, "other", &["slow", "--echo"])?;

    show.does(&format!("kill -9 {} and the command that it runs", doomed.process()));
    let killed = Instant::now();
    players.kill(doomed);
    let answer = client.answer(PATIENCE)?;
    show.came_back(&answer);
    expect(&answer, "I survive")?;
    show.took("from the kill to the reply by another worker", killed.elapsed());
    drop(other);
    Ok(())
}

/// A request that a worker of another node holds, and the client that waits for its reply.
#[derive(Debug)]
pub(super) struct FarRequest {
    /// What came back, and when.
    reply: JoinHandle<Result<(String, Instant), Failure>>,
    worker: Player,
}

/// The service of [`FarRequest`].
const FAR: &str = "far";
const FAR_BODY: &str = "I outlive a node";

impl FarRequest {
    /// A client at one node, and a worker at another one that sleeps on the request.
    pub(super) fn send(
        players: &Players,
        show: &Show,
        nodes: &Nodes<'_>,
        client_at: usize,
        worker_at: usize,
    ) -> Result<Self, Failure> {
        let held = players.file("far");
        let slow = [FAR, "--exec", "touch far; sleep 30; cat"];
        let worker = register(show, nodes, worker_at, "far", &slow)?;
        let endpoint = nodes.get(client_at)?.clients.to_string();
        let call = [FAR, FAR_BODY, "--timeout", "20s", "--retries", "0", "--endpoint", &endpoint];
        let client = show.start(players.call("far-client", &call))?;
        until_exists(&held)?;
        show.came_back("the worker at the other node has the request and sleeps on it");
        let reply = thread::spawn(move || Ok((client.answer(PATIENCE)?, Instant::now())));
        Ok(Self { reply, worker })
    }

    /// Another worker, which gets the request when that one's node is lost.
    pub(super) fn second_worker(
        show: &Show,
        nodes: &Nodes<'_>,
        node: usize,
    ) -> Result<Player, Failure> {
        register(show, nodes, node, "near", &[FAR, "--echo"])
    }

    /// Waits for the reply, and returns when it came.
    pub(super) fn expect_reply(self, players: &Players, show: &Show) -> Result<Instant, Failure> {
        let replied = self.reply.join().map_err(|_| Failure::new("the thread that waits ended"))?;
        let (answer, at) = replied?;
        show.came_back(&answer);
        players.kill(self.worker);
        expect(&answer, FAR_BODY)?;
        Ok(at)
    }
}

/// A node stops while a worker is busy; the client still gets its reply.
pub(super) fn drain_busy(
    players: &Players,
    show: &mut Show,
    nodes: &mut Nodes<'_>,
    node: usize,
) -> Result<(), Failure> {
    let held = players.file("busy");
    let busy = ["busy", "--exec", "touch busy; sleep 1; cat"];
    let worker = register(show, nodes, node, "busy", &busy)?;
    let client =
        show.start(players.call("last", &["busy", "nothing is lost", "--retries", "0"]))?;
    until_exists(&held)?;

    let leaving = nodes.get_mut(node)?;
    let name = leaving.name.clone();
    let Some(player) = leaving.player.take() else {
        return Err(Failure::new(format!("{name} does not run")));
    };
    show.does(&format!("kill -TERM {}, {name}", player.process()));
    let stopped = Instant::now();
    players.terminate(&player)?;
    let answer = client.answer(PATIENCE)?;
    show.came_back(&answer);
    expect(&answer, "nothing is lost")?;
    ended(show, &name, player)?;
    show.took("a drain with a request of 1 s in flight takes", stopped.elapsed());
    drop(worker);
    Ok(())
}

/// The rest of the nodes stop at the same time.
pub(super) fn drain_rest(
    players: &Players,
    show: &mut Show,
    nodes: &mut Nodes<'_>,
) -> Result<(), Failure> {
    let stopped = Instant::now();
    let mut leaving = Vec::new();
    for node in &mut nodes.nodes {
        if let Some(player) = node.player.take() {
            show.does(&format!("kill -TERM {}, {}", player.process(), node.name));
            players.terminate(&player)?;
            leaving.push((node.name.clone(), player));
        }
    }
    for (name, player) in leaving {
        ended(show, &name, player)?;
    }
    show.took("two nodes that drain at the same time take", stopped.elapsed());
    Ok(())
}

/// Waits for the receipt and exit code 0.
fn ended(show: &Show, name: &str, player: Player) -> Result<(), Failure> {
    let receipt = player.wait_for("drained", PATIENCE)?;
    player.ended_well(PATIENCE)?;
    let receipt = receipt.find('{').and_then(|at| receipt.get(at..)).unwrap_or(&receipt);
    show.came_back(&format!("{name}: {receipt}"));
    Ok(())
}

fn until_exists(path: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if fs::exists(path).unwrap_or(false) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Err(Failure::new(format!("no worker got its request within {}", say::duration(PATIENCE))))
}
