//! What changes can be asked for, read from the bodies of requests.

use mdp_catalog::NodeName;
use mdp_raft::UpgradeChange;
use serde::{Deserialize, de::DeserializeOwned};

use super::failure::Failure;
use crate::Endpoint;

/// What a body of `/api/v1/members` should have been.
const MEMBERS_WANTED: &str = "send {\"action\":\"add\",\"name\":NAME,\"endpoint\":\"HOST:PORT\"}, or \
     {\"action\":\"remove\" or \"promote\",\"name\":NAME}";
/// What a body of `/api/v1/leader` should have been.
const LEADER_WANTED: &str = "send {\"to\":NAME}, or {\"to\":null} for the node that knows most";
/// What a body of `/api/v1/drain` should have been.
const DRAIN_WANTED: &str = "send {\"node\":NAME,\"wait\":true or false}, or nothing";

/// What a body of `/api/v1/connections` should have been.
const KICK_WANTED: &str =
    "send {\"kick\":ID}, with the id of a connection of GET /api/v1/connections";
/// What a body of `/api/v1/upgrade` should have been.
const UPGRADE_WANTED: &str = "send {\"action\":\"hold\", \"resume\" or \"finalize\"}";

/// A change of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MemberChange {
    /// Let a node in as a learner.
    Add {
        /// Its name.
        name: NodeName,
        /// Its cluster address.
        endpoint: String,
    },
    /// Remove a member for ever.
    Remove {
        /// Its name.
        name: NodeName,
    },
    /// Make a learner a voter.
    Promote {
        /// Its name.
        name: NodeName,
    },
}

/// A drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DrainRequest {
    /// The node that is meant; `None`: whoever is asked.
    pub(super) node: Option<NodeName>,
    /// Whether the answer shall go on until the receipt.
    pub(super) wait: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KickBody {
    kick: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpgradeBody {
    action: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberBody {
    action: String,
    name: String,
    endpoint: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaderBody {
    to: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainBody {
    node: Option<String>,
    #[serde(default)]
    wait: bool,
}

impl MemberChange {
    /// Reads the body of a request.
    pub(super) fn read(body: &[u8]) -> Result<Self, Failure> {
        let MemberBody { action, name, endpoint } = json(body, MEMBERS_WANTED)?;
        let name = node_name(&name)?;
        match (action.as_str(), endpoint) {
            ("add", Some(endpoint)) => Ok(Self::Add { name, endpoint: address(&endpoint)? }),
            ("add", None) => {
                let reason = format!("endpoint is missing; {MEMBERS_WANTED}");
                Err(Failure::bad_request(reason))
            }
            ("remove", None) => Ok(Self::Remove { name }),
            ("promote", None) => Ok(Self::Promote { name }),
            ("remove" | "promote", Some(_)) => {
                let reason = format!("endpoint is for \"add\" only; {MEMBERS_WANTED}");
                Err(Failure::bad_request(reason))
            }
            (other, _) => {
                let reason = format!("action {other:?} is unknown; {MEMBERS_WANTED}");
                Err(Failure::bad_request(reason))
            }
        }
    }
}

/// Reads who shall lead; an empty body names nobody.
pub(super) fn read_leader(body: &[u8]) -> Result<Option<NodeName>, Failure> {
    let body = if body.is_empty() { LeaderBody::default() } else { json(body, LEADER_WANTED)? };
    body.to.as_deref().map(node_name).transpose()
}

/// Reads which connection is to be closed.
pub(super) fn read_kick(body: &[u8]) -> Result<u64, Failure> {
    let KickBody { kick } = json(body, KICK_WANTED)?;
    Ok(kick)
}

/// Reads what shall become of the cluster's version.
pub(super) fn read_upgrade(body: &[u8]) -> Result<UpgradeChange, Failure> {
    let UpgradeBody { action } = json(body, UPGRADE_WANTED)?;
    match action.as_str() {
        "hold" => Ok(UpgradeChange::Hold),
        "resume" => Ok(UpgradeChange::Resume),
        "finalize" => Ok(UpgradeChange::Finalize),
        other => {
            let reason = format!("action {other:?} is unknown; {UPGRADE_WANTED}");
            Err(Failure::bad_request(reason))
        }
    }
}

impl DrainRequest {
    /// Reads the body of a request; an empty one means whoever is asked, and does not wait.
    pub(super) fn read(body: &[u8]) -> Result<Self, Failure> {
        let body = if body.is_empty() { DrainBody::default() } else { json(body, DRAIN_WANTED)? };
        let node = body.node.as_deref().map(node_name).transpose()?;
        Ok(Self { node, wait: body.wait })
    }
}

fn json<T: DeserializeOwned>(body: &[u8], wanted: &str) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("the body is not valid: {error}; {wanted}")))
}

fn node_name(name: &str) -> Result<NodeName, Failure> {
    name.parse().map_err(|error| Failure::bad_request(format!("{error}")))
}

fn address(text: &str) -> Result<String, Failure> {
    let endpoint: Option<Endpoint> = text.parse().ok();
    let endpoint = endpoint.filter(|endpoint| !endpoint.is_wildcard() && endpoint.port() != 0);
    endpoint.map(|endpoint| endpoint.to_string()).ok_or_else(|| {
        let reason = format!(
            "endpoint {text:?} is not valid: use HOST:PORT that the other nodes can connect to (not \
             *, 0.0.0.0, [::] or port 0)"
        );
        Failure::bad_request(reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> NodeName {
        "node-4".parse().unwrap()
    }

    #[test]
    fn changes_are_read_with_checked_names_and_addresses() {
        let add = br#"{"action":"add","name":"node-4","endpoint":"h:1"}"#;
        let add = MemberChange::read(add).unwrap();
        assert_eq!(add, MemberChange::Add { name: name(), endpoint: "tcp://h:1".into() });
        let remove = MemberChange::read(br#"{"action":"remove","name":"node-4"}"#).unwrap();
        assert_eq!(remove, MemberChange::Remove { name: name() });
        let promote = MemberChange::read(br#"{"action":"promote","name":"node-4"}"#).unwrap();
        assert_eq!(promote, MemberChange::Promote { name: name() });
    }

    #[test]
    fn wrong_bodies_are_refused_with_what_is_right() {
        for (body, reason) in [
            ("", "EOF"),
            ("[]", "send {"),
            (r#"{"action":"add","name":"a"}"#, "endpoint is missing"),
            (r#"{"action":"add","name":"a","endpoint":"*:1"}"#, "0.0.0.0"),
            (r#"{"action":"add","name":"a","endpoint":"h"}"#, "HOST:PORT"),
            (r#"{"action":"add","name":"a b","endpoint":"h:1"}"#, "node name"),
            (r#"{"action":"remove","name":"a","endpoint":"h:1"}"#, "for \\\"add\\\" only"),
            (r#"{"action":"evict","name":"a"}"#, "action \\\"evict\\\" is unknown"),
            (r#"{"action":"remove","name":"a","force":true}"#, "unknown field"),
        ] {
            let failure = format!("{:?}", MemberChange::read(body.as_bytes()).unwrap_err());
            assert!(failure.contains(reason) && failure.contains("400"), "{body}: {failure}");
        }
    }

    #[test]
    fn drain_may_name_its_node_and_wait() {
        assert_eq!(DrainRequest::read(b"").unwrap(), DrainRequest::default());
        let named = DrainRequest::read(br#"{"node":"node-4","wait":true}"#).unwrap();
        assert_eq!(named, DrainRequest { node: Some(name()), wait: true });
        assert!(DrainRequest::read(br#"{"wait":"yes"}"#).is_err());
    }

    #[test]
    fn upgrade_is_held_resumed_or_made_final() {
        let read = |action: &str| read_upgrade(format!("{{\"action\":\"{action}\"}}").as_bytes());
        assert_eq!(read("hold").unwrap(), UpgradeChange::Hold);
        assert_eq!(read("resume").unwrap(), UpgradeChange::Resume);
        assert_eq!(read("finalize").unwrap(), UpgradeChange::Finalize);
        let failure = format!("{:?}", read("undo").unwrap_err());
        assert!(failure.contains("undo") && failure.contains("finalize"), "{failure}");
    }

    #[test]
    fn leader_may_be_left_open() {
        for body in ["", "{}", r#"{"to":null}"#] {
            assert_eq!(read_leader(body.as_bytes()).unwrap(), None, "{body}");
        }
        assert_eq!(read_leader(br#"{"to":"node-4"}"#).unwrap(), Some(name()));
        assert!(read_leader(br#"{"to":4}"#).is_err());
    }
}
