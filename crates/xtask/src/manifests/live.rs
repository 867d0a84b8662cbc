//! What running nodes show at `/metrics`.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use super::names;
use crate::{
    demo::admin,
    players::{Player, Players},
    ports::Ports,
    run::Failure,
    workspace::Workspace,
};

/// How long nodes may take until they are ready.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait between two looks at a page.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Where the files of three nodes are.
const THREE_NODES: &str = "config/three-node";

/// The names of all metrics of one node alone and of three.
pub(super) fn metrics(workspace: &Workspace) -> Result<BTreeSet<String>, Failure> {
    let players = Players::gather(&workspace.release("majordomo"))?;
    let shown = one_node(&players).and_then(|mut shown| {
        shown.extend(three_nodes(workspace, &players)?);
        Ok(shown)
    });
    players.leave()?;
    shown
}

fn one_node(players: &Players) -> Result<BTreeSet<String>, Failure> {
    let mut ports = Ports::default();
    let (bind, admin) = (ports.replace("127.0.0.1:1")?, ports.replace("127.0.0.1:2")?);
    drop(ports);
    let mut serve = players.command("alone", &["serve", "--bind", &format!("tcp://{bind}")]);
    serve.env("MAJORDOMO__ADMIN__BIND", &admin);
    let _node = Player::start(serve)?;
    page_when_ready(&admin)
}

fn three_nodes(workspace: &Workspace, players: &Players) -> Result<BTreeSet<String>, Failure> {
    let (mut ports, mut admins, mut serves) = (Ports::default(), Vec::new(), Vec::new());
    for node in ["node-1", "node-2", "node-3"] {
        let (file, path) = (format!("{node}.toml"), workspace.root.join(THREE_NODES));
        let failed = |error| Failure::new(format!("{file}: {error}"));
        let text = ports.replace(&fs::read_to_string(path.join(&file)).map_err(failed)?)?;
        fs::write(players.file(&file), &text).map_err(failed)?;
        admins.push(admin_address(&text)?);
        let mut serve = players.command(node, &["serve", "--config", &file]);
        serve.env_remove("MAJORDOMO__ADMIN__BIND");
        serves.push(serve);
    }
    drop(ports);
    let _nodes: Vec<Player> = serves.into_iter().map(Player::start).collect::<Result<_, _>>()?;
    // Some are shown by the leader only, and nobody knows yet who that is.
    let mut shown = BTreeSet::new();
    for admin in admins {
        shown.extend(page_when_ready(&admin)?);
    }
    Ok(shown)
}

fn admin_address(text: &str) -> Result<String, Failure> {
    let entries = crate::toml::entries(text);
    let entry = entries.iter().find(|entry| entry.path() == "admin.bind");
    let entry = entry.ok_or_else(|| Failure::new(format!("{THREE_NODES}: no admin.bind")))?;
    Ok(entry.value.trim_matches('"').to_owned())
}

fn page_when_ready(address: &str) -> Result<BTreeSet<String>, Failure> {
    let admin: SocketAddr = address
        .parse()
        .map_err(|error| Failure::new(format!("`{address}` is no address: {error}")))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match admin::get(admin, "/readyz") {
            Ok(page) if page.status == 200 => break,
            answer if Instant::now() >= deadline => {
                return Err(Failure::new(format!("{address} is not ready: {answer:?}")));
            }
            _ => thread::sleep(LOOK_INTERVAL),
        }
    }
    let page = admin::get(admin, "/metrics").map_err(Failure::new)?;
    Ok(names::shown(&page.body))
}
