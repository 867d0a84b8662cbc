//! The three nodes of the demo.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    PATIENCE,
    admin::{self, Page},
    asker::Asker,
    show::Show,
};
use crate::{
    players::{Player, Players},
    ports::Ports,
    run::Failure,
    say, toml,
    workspace::Workspace,
};

/// How many nodes there are.
pub(super) const NODES: usize = 3;

/// The broker looks for dead connections this often; 2.5 s is the default, which is dull to watch.
const HEARTBEAT_INTERVAL: &str = "500ms";
/// Workers keep their own, slower interval, so that many of the broker's may pass in silence.
const HEARTBEAT_LIVENESS: &str = "20";
/// How long to wait between two looks at a page.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// One node, running or not.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) clients: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) player: Option<Player>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Nodes<'a> {
    pub(super) players: &'a Players,
    pub(super) nodes: Vec<Node>,
}

/// What a node says of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) is_ready: bool,
    pub(super) leader: Option<String>,
    pub(super) term: u64,
    pub(super) applied: u64,
}

impl<'a> Nodes<'a> {
    /// Writes the files of `config/three-node` with free ports in them.
    pub(super) fn prepare(workspace: &Workspace, players: &'a Players) -> Result<Self, Failure> {
        let (mut ports, mut nodes) = (Ports::default(), Vec::new());
        for number in 1..=NODES {
            let name = format!("node-{number}");
            let path = workspace.root.join(format!("config/three-node/{name}.toml"));
            let failed = |error| Failure::new(format!("{}: {error}", path.display()));
            let text = ports.replace(&fs::read_to_string(&path).map_err(failed)?)?;
            fs::write(players.file(&format!("{name}.toml")), &text).map_err(failed)?;
            let (clients, admin) = (address(&text, "broker.bind")?, address(&text, "admin.bind")?);
            nodes.push(Node { name, clients, admin, player: None });
        }
        Ok(Self { players, nodes })
    }

    /// Starts one node, which then looks for the others.
    pub(super) fn start(&mut self, show: &Show, index: usize) -> Result<(), Failure> {
        let players = self.players;
        let node = self.get_mut(index)?;
        let file = format!("{}.toml", node.name);
        let mut serve = players.command(&node.name, &["serve", "--config", &file]);
        serve.env_remove("MAJORDOMO__ADMIN__BIND");
        serve.env("MAJORDOMO__BROKER__HEARTBEAT_INTERVAL", HEARTBEAT_INTERVAL);
        serve.env("MAJORDOMO__BROKER__HEARTBEAT_LIVENESS", HEARTBEAT_LIVENESS);
        let player = show.start(serve)?;
        player.wait_for("listening", PATIENCE)?;
        node.player = Some(player);
        Ok(())
    }

    pub(super) fn get(&self, index: usize) -> Result<&Node, Failure> {
        self.nodes.get(index).ok_or_else(|| Failure::new("there is no such node"))
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Result<&mut Node, Failure> {
        self.nodes.get_mut(index).ok_or_else(|| Failure::new("there is no such node"))
    }

    /// The indices of the nodes that run.
    pub(super) fn running(&self) -> Vec<usize> {
        let running = |(index, node): (usize, &Node)| node.player.is_some().then_some(index);
        self.nodes.iter().enumerate().filter_map(running).collect()
    }

    /// The index of a node.
    pub(super) fn index_of(&self, name: &str) -> Result<usize, Failure> {
        let index = self.nodes.iter().position(|node| node.name == name);
        index.ok_or_else(|| Failure::new(format!("there is no node {name}")))
    }

    /// Waits until all running nodes are ready, follow one leader, and have applied the same.
    pub(super) fn settle(&self) -> Result<View, Failure> {
        self.settle_with(|_| true)
    }

    /// The same, and the leader is to the liking of `is_wanted`.
    pub(super) fn settle_with(&self, is_wanted: impl Fn(&View) -> bool) -> Result<View, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let views: Vec<Result<View, String>> =
                self.running().into_iter().map(|index| self.view(index)).collect();
            if let Some(Ok(first)) = views.first()
                && first.is_ready
                && first.leader.is_some()
                && views.iter().all(|view| view.as_ref() == Ok(first))
                && is_wanted(first)
            {
                return Ok(first.clone());
            }
            if Instant::now() >= deadline {
                let patience = say::duration(PATIENCE);
                return Err(Failure::new(format!("no agreement within {patience}: {views:?}")));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    fn view(&self, index: usize) -> Result<View, String> {
        let node = self.get(index).map_err(|error| error.to_string())?;
        let ready = admin::get(node.admin, "/readyz")?;
        let page = admin::get(node.admin, "/api/v1/cluster")?;
        View::read(&ready, &page).ok_or_else(|| format!("{}: {}", node.name, page.body))
    }

    /// Shows how each node sees its cluster.
    pub(super) fn show(&self, show: &Show) -> Result<(), Failure> {
        let mut rows = vec![["NODE", "READY", "LEADER", "TERM", "APPLIED"].map(String::from)];
        for node in &self.nodes {
            rows.push(self.row(node)?);
        }
        show.table(&rows);
        Ok(())
    }

    fn row(&self, node: &Node) -> Result<[String; 5], Failure> {
        if node.player.is_none() {
            return Ok([node.name.as_str(), "dead", "", "", ""].map(String::from));
        }
        let view = self.view(self.index_of(&node.name)?).map_err(Failure::new)?;
        let ready = if view.is_ready { "yes" } else { "no" };
        let leader = view.leader.unwrap_or_else(|| "-".to_owned());
        let (term, applied) = (view.term.to_string(), view.applied.to_string());
        Ok([node.name.clone(), ready.to_owned(), leader, term, applied])
    }

    /// A client of each running node.
    pub(super) fn askers(&self) -> Result<Vec<(usize, Asker)>, Failure> {
        let running = self.running().into_iter();
        running.map(|index| Ok((index, Asker::connect(self.get(index)?.clients)?))).collect()
    }

    /// Asks every running node for a service, shows the answers, and compares them.
    pub(super) fn ask_all(
        &self,
        show: &Show,
        askers: &mut [(usize, Asker)],
        service: &str,
        wanted: &str,
    ) -> Result<Duration, Failure> {
        let mut rows = vec![["NODE", service, "ANSWERED IN"].map(String::from)];
        let (mut slowest, mut wrong) = (Duration::ZERO, None);
        for (index, asker) in askers {
            let (code, took) = asker.ask("mmi.service", service)?;
            let name = self.get(*index)?.name.clone();
            slowest = slowest.max(took);
            if code != wanted {
                wrong = Some(format!("{name} answers `{code}` for `{service}`, not `{wanted}`"));
            }
            rows.push([name, code, format!("{:.1} ms", took.as_secs_f64() * 1e3)]);
        }
        show.table(&rows);
        match wrong {
            None => Ok(slowest),
            Some(wrong) => Err(Failure::new(format!("the demo is wrong: {wrong}"))),
        }
    }
}

impl View {
    fn read(ready: &Page, page: &Page) -> Option<Self> {
        Some(Self {
            is_ready: ready.status == 200,
            leader: page.field("leader").map(str::to_owned),
            term: page.field("term")?.parse().ok()?,
            applied: page.field("applied_index")?.parse().ok()?,
        })
    }
}

/// The address under a key of a configuration file.
fn address(text: &str, key: &str) -> Result<SocketAddr, Failure> {
    let entries = toml::entries(text);
    let value = entries.iter().find(|entry| entry.path() == key).map(|entry| entry.value);
    let value = value.unwrap_or_default().trim_matches('"').trim_start_matches("tcp://");
    value.parse().map_err(|_| Failure::new(format!("{key}: `{value}` is no address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn view_is_what_two_pages_say() {
        let page = |status, body: &str| Page { status, body: body.to_owned() };
        let cluster = page(200, r#"{"leader":"node-1","term":2,"applied_index":9}"#);

        let view = View::read(&page(503, "{}"), &cluster).unwrap();

        let leader = Some("node-1".to_owned());
        assert_eq!(view, View { is_ready: false, leader, term: 2, applied: 9 });
        assert_eq!(View::read(&page(200, ""), &page(404, "")), None);
    }
}
