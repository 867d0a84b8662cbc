//! What a node's administration port says, read.

use serde_json::Value;

use crate::Page;

/// The page `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Whether the node may get clients.
    pub is_ready: bool,
    /// Why not, as codes.
    pub reasons: Vec<String>,
}

/// The page `/api/v1/cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// The node that says so.
    pub node: String,
    /// None before the node belongs to a cluster.
    pub cluster_id: Option<String>,
    /// The name of the leader, if one is known.
    pub leader: Option<String>,
    /// Raft's term.
    pub term: u64,
    /// The last entry known to be committed.
    pub committed_index: u64,
    /// The last entry that was applied.
    pub applied_index: u64,
    /// All nodes that are known.
    pub nodes: Vec<NodeView>,
    /// The change of members that is in progress, if one is.
    pub change: Option<ChangeView>,
}

/// A change of members that is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeView {
    /// The voters before it.
    pub from: Vec<String>,
    /// The voters after it.
    pub to: Vec<String>,
    /// Whether a majority of both is needed.
    pub is_joint: bool,
}

/// What is said of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its identity, as text.
    pub raft_id: String,
    /// `voter` or `learner`.
    pub role: String,
    /// `up`, `draining` or `gone`.
    pub state: String,
    /// Its current life; 0 if it had none yet.
    pub epoch: u64,
}

impl Readiness {
    /// Reads the page; none if it is not one.
    #[must_use]
    pub fn read(page: &Page) -> Option<Self> {
        let value: Value = serde_json::from_str(&page.body).ok()?;
        let is_ready = value.get("ready")?.as_bool()?;
        assert_eq!(is_ready, page.status == 200, "code and page of /readyz differ: {page:?}");
        let reasons = value.get("reasons").and_then(Value::as_array).cloned().unwrap_or_default();
        Some(Self { is_ready, reasons: reasons.iter().map(text).collect() })
    }
}

impl ClusterView {
    /// Reads the page; none if it is not one.
    #[must_use]
    pub fn read(page: &Page) -> Option<Self> {
        Self::parse(&page.body)
    }

    /// Reads the same shape out of JSON.
    #[must_use]
    pub fn parse(json: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(json).ok()?;
        let number = |key: &str| value.get(key).and_then(Value::as_u64);
        let name = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            node: name("node")?,
            cluster_id: name("cluster_id"),
            leader: name("leader"),
            term: number("term")?,
            committed_index: number("committed_index").unwrap_or_default(),
            applied_index: number("applied_index")?,
            nodes: value.get("nodes")?.as_array()?.iter().map(NodeView::read).collect(),
            change: value.get("member_change").and_then(ChangeView::read),
        })
    }

    /// What is said of the node of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// What is said of the node of this name, which must be known.
    #[must_use]
    #[track_caller]
    pub fn expect(&self, name: &str) -> &NodeView {
        self.find(name).unwrap_or_else(|| panic!("{name} is unknown to {}: {self:?}", self.node))
    }

    /// The names of the voters.
    #[must_use]
    pub fn voters(&self) -> Vec<&str> {
        let voters = self.nodes.iter().filter(|node| node.role == "voter");
        voters.map(|node| node.name.as_str()).collect()
    }
}

impl ChangeView {
    fn read(value: &Value) -> Option<Self> {
        let names = |key: &str| Some(value.get(key)?.as_array()?.iter().map(text).collect());
        let is_joint = value.get("joint")?.as_bool()?;
        Some(Self { from: names("from")?, to: names("to")?, is_joint })
    }
}

impl NodeView {
    fn read(value: &Value) -> Self {
        let field = |key: &str| value.get(key).map(text).unwrap_or_default();
        Self {
            name: field("name"),
            raft_id: field("raft_id"),
            role: field("role"),
            state: field("state"),
            epoch: value.get("epoch").and_then(Value::as_u64).unwrap_or_default(),
        }
    }
}

/// Ids may be numbers or text: 64 bits are too many for a number of JavaScript.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn view_is_read() {
        let view = ClusterView::parse(
            r#"{"node":"node-1","cluster_id":null,"leader":"node-2","term":3,"committed_index":9,
                "applied_index":8,"nodes":[{"name":"node-1","raft_id":7,"role":"voter",
                "state":"up","epoch":5}]}"#,
        )
        .unwrap();

        assert_eq!((view.cluster_id.as_ref(), view.leader.as_deref()), (None, Some("node-2")));
        assert_eq!((view.term, view.committed_index, view.applied_index), (3, 9, 8));
        assert_eq!(view.change, None);
        assert_eq!((view.expect("node-1").raft_id.as_str(), view.voters()), ("7", vec!["node-1"]));
    }

    #[test]
    fn change_in_progress_is_read() {
        let view = ClusterView::parse(
            r#"{"node":"node-1","cluster_id":null,"leader":null,"term":3,"applied_index":8,
                "nodes":[],"member_change":{"from":["a","b"],"to":["b"],"joint":true}}"#,
        )
        .unwrap();

        let (from, to) = (vec!["a".to_owned(), "b".to_owned()], vec!["b".to_owned()]);
        assert_eq!(view.change, Some(ChangeView { from, to, is_joint: true }));
    }

    #[test]
    fn reasons_are_read() {
        let body = r#"{"ready":false,"reasons":["no_leader"]}"#.to_owned();

        let readiness = Readiness::read(&Page { status: 503, body }).unwrap();

        assert_eq!(readiness, Readiness { is_ready: false, reasons: vec!["no_leader".to_owned()] });
    }
}
