//! `demo`: what the broker does, shown in under a minute with real processes.

mod show;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    install::{self, Need},
    players::{Player, Players},
    run::Failure,
    say, suite,
    workspace::Workspace,
};
use show::Show;

/// How long anything that is shown may take before the demo says that it is broken.
const PATIENCE: Duration = Duration::from_secs(15);
/// The broker looks for dead connections this often; 2.5 s is the default, which is dull to watch.
const HEARTBEAT_INTERVAL: &str = "500ms";
/// Workers keep their own, slower interval, so that many of the broker's may pass in silence.
const HEARTBEAT_LIVENESS: &str = "20";

pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    install::missing(&[Need::Libzmq])?;
    say::line("==> build ...");
    let started = Instant::now();
    suite::build(workspace, &["majordomo"])?;
    say::line(&format!("==> build ... {}", say::duration(started.elapsed())));

    let players = Players::gather(&workspace.release("majordomo"))?;
    let mut show = Show::begin();
    let told = tell(&players, &mut show);
    let left = players.leave();
    told?;
    show.step("Look what is left");
    left?;
    show.came_back("no process, no file");
    show.end();
    Ok(())
}

fn tell(players: &Players, show: &mut Show) -> Result<(), Failure> {
    let broker = start_broker(players, show)?;
    discover(players, show)?;
    let worker = register(players, show)?;
    call(players, show)?;
    survive(players, show)?;
    if let Some(kib) = broker.memory_kib() {
        show.measured("memory of the broker", format!("{:.1} MiB", kib / 1_024.0));
    }
    drain(players, show, broker)?;
    drop(worker);
    Ok(())
}

fn start_broker(players: &Players, show: &mut Show) -> Result<Player, Failure> {
    show.step("Start a broker, with no configuration but a faster heartbeat");
    let started = Instant::now();
    let mut serve = players.command("broker", &["serve", "--bind", "tcp://127.0.0.1:0"]);
    serve.env("MAJORDOMO__BROKER__HEARTBEAT_INTERVAL", HEARTBEAT_INTERVAL);
    serve.env("MAJORDOMO__BROKER__HEARTBEAT_LIVENESS", HEARTBEAT_LIVENESS);
    let broker = show.start(serve)?;
    let line = broker.wait_for("listening", PATIENCE)?;
    let endpoint = address_in(&line)
        .ok_or_else(|| Failure::new(format!("no address in the broker's line: {line}")))?;
    players.set_endpoint(endpoint);
    show.came_back(&format!("listening on {endpoint}"));
    show.took("the broker serves after", started.elapsed());
    Ok(broker)
}

/// The first address of a log line.
fn address_in(line: &str) -> Option<&str> {
    let address = line.get(line.find("tcp://")?..)?;
    address.split([' ', '"', ',']).next()
}

fn discover(players: &Players, show: &mut Show) -> Result<(), Failure> {
    show.step("Ask whether anybody offers `echo`, then for something that no broker knows");
    let (answer, took) = show.call(players, &["mmi.service", "echo"])?;
    expect(&answer, "404")?;
    show.took("mmi.service says 404 within", took);
    let (answer, _) = show.call(players, &["mmi.tea", "please"])?;
    expect(&answer, "501")
}

fn register(players: &Players, show: &mut Show) -> Result<Player, Failure> {
    show.step("Start a worker, and ask again");
    let started = Instant::now();
    let worker = show.start(players.command("worker", &["work", "echo", "--echo"]))?;
    until_offered(players, "echo")?;
    show.took("a new worker is known to mmi.service after", started.elapsed());
    let (answer, _) = show.call(players, &["mmi.service", "echo"])?;
    expect(&answer, "200")?;
    Ok(worker)
}

fn call(players: &Players, show: &mut Show) -> Result<(), Failure> {
    show.step("Call it");
    let (answer, took) = show.call(players, &["echo", "Hello, Majordomo!"])?;
    expect(&answer, "Hello, Majordomo!")?;
    show.took("a call, with the start of its process, takes", took);
    Ok(())
}

/// A worker dies with a request in its hands; another one answers it.
fn survive(players: &Players, show: &mut Show) -> Result<(), Failure> {
    show.step("Kill a worker while it holds a request");
    let held = players.file("held");
    let slow = ["work", "slow", "--exec", "touch held; sleep 30; cat"];
    let doomed = show.start(players.command("doomed", &slow))?;
    until_offered(players, "slow")?;
    let arguments = ["slow", "I survive", "--timeout", "20s", "--retries", "0"];
    let client = show.start(players.call("client", &arguments))?;
    until_exists(&held)?;
    show.came_back("the worker has the request and sleeps on it");
    let other = show.start(players.command("other", &["work", "slow", "--echo"]))?;
    other.wait_for("registered", PATIENCE)?;

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

/// The broker stops while a worker is busy; the client still gets its reply.
fn drain(players: &Players, show: &mut Show, broker: Player) -> Result<(), Failure> {
    show.step("Stop the broker while a worker is busy");
    let held = players.file("busy");
    let busy = ["work", "busy", "--exec", "touch busy; sleep 1; cat"];
    let worker = show.start(players.command("busy", &busy))?;
    until_offered(players, "busy")?;
    let client =
        show.start(players.call("last", &["busy", "nothing is lost", "--retries", "0"]))?;
    until_exists(&held)?;

    show.does(&format!("kill -TERM {}, the broker", broker.process()));
    let stopped = Instant::now();
    players.terminate(&broker)?;
    let answer = client.answer(PATIENCE)?;
    show.came_back(&answer);
    expect(&answer, "nothing is lost")?;
    let receipt = broker.wait_for("drained", PATIENCE)?;
    broker.ended_well(PATIENCE)?;
    show.came_back(receipt.find('{').and_then(|at| receipt.get(at..)).unwrap_or(&receipt));
    show.took("a drain with a request of 1 s in flight takes", stopped.elapsed());
    drop(worker);
    Ok(())
}

fn expect(answer: &str, wanted: &str) -> Result<(), Failure> {
    if answer == wanted {
        return Ok(());
    }
    Err(Failure::new(format!("the demo is wrong: expected `{wanted}`, and `{answer}` came back")))
}

/// Asks until the service is offered. Each question is a process, which is pause enough.
fn until_offered(players: &Players, service: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if players
            .call("question", &["mmi.service", service])
            .output()
            .is_ok_and(|output| output.stdout.starts_with(b"200"))
        {
            return Ok(());
        }
    }
    Err(Failure::new(format!("nobody offered `{service}` within {}", say::duration(PATIENCE))))
}

fn until_exists(path: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if fs::exists(path).unwrap_or(false) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(Failure::new(format!("no worker got its request within {}", say::duration(PATIENCE))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_found_in_any_form_of_the_line() {
        for line in
            ["listening on tcp://127.0.0.1:1", r#"listening endpoint="tcp://127.0.0.1:1" x=1"#]
        {
            assert_eq!(address_in(line), Some("tcp://127.0.0.1:1"));
        }
        assert_eq!(address_in("listening"), None);
    }
}
