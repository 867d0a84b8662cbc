//! The question `mmi.endpoints` and its answer: where clients of a cluster can go.

use mdp_wire::{Body, ServiceName, Version, client::Request};
use serde_json::Value;

/// The extension of 8/MMI by which nodes of a cluster name the endpoints of those that are up and
/// do not drain.
pub(crate) const MMI_ENDPOINTS: &str = "mmi.endpoints";

/// The extension of 8/MMI that lists services, the nodes that offer them, and how many workers the
/// node that answers has.
pub(crate) const MMI_DIRECTORY: &str = "mmi.directory";

/// A longer answer is not read. A node writes about 100 bytes for each node.
const LISTING_BYTES_MAX: usize = 64 << 10;

/// A longer directory is not read.
const DIRECTORY_BYTES_MAX: usize = 1 << 20;

/// One node that clients can go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedNode {
    /// As the broker writes it.
    pub(crate) endpoint: String,
    /// Which incarnation of the node this is; brokers of 0.1 do not say it.
    pub(crate) epoch: Option<u64>,
}

/// The nodes of a cluster that clients can go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nodes {
    pub(crate) listed: Vec<ListedNode>,
    /// Whether the node that answered is one of them; `None`: it does not say which it is.
    pub(crate) has_answering: Option<bool>,
    /// What one message to the node may hold, if it says so.
    pub(crate) limits: Option<MessageLimits>,
}

/// What a broker takes as one message, all frames together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageLimits {
    pub(crate) bytes_max: usize,
    pub(crate) frames_max: usize,
}

/// What a broker answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listing {
    /// These nodes.
    Nodes(Nodes),
    /// It has no such service (8/MMI: `501`).
    NotThere,
    /// Nothing that can be used.
    Unreadable,
}

impl Listing {
    /// Reads the body of a reply: `200` and
    /// `{"node": .., "endpoints": [{"node": .., "endpoint": .., "epoch": ..}, ..]}`.
    pub(crate) fn from_body(body: &[Vec<u8>]) -> Self {
        match body {
            [code, page, ..] if code == b"200" && page.len() <= LISTING_BYTES_MAX => {
                nodes(page).map_or(Self::Unreadable, Self::Nodes)
            }
            [code, ..] if code == b"501" => Self::NotThere,
            [] | [_, ..] => Self::Unreadable,
        }
    }
}

fn nodes(page: &[u8]) -> Option<Nodes> {
    let page: Value = serde_json::from_slice(page).ok()?;
    let entries = page.get("endpoints")?.as_array()?;
    let text = |value: &Value, key| Some(value.get(key)?.as_str()?.to_owned());
    let is_named =
        |name: &String| entries.iter().any(|entry| text(entry, "node") == Some(name.clone()));
    let listed = |entry: &Value| {
        let epoch = entry.get("epoch").and_then(Value::as_u64);
        Some(ListedNode { endpoint: text(entry, "endpoint")?, epoch })
    };
    Some(Nodes {
        listed: entries.iter().filter_map(listed).collect(),
        has_answering: text(&page, "node").map(|name| is_named(&name)),
        limits: limits(&page),
    })
}

fn limits(page: &Value) -> Option<MessageLimits> {
    let number = |key| usize::try_from(page.get(key)?.as_u64()?).ok();
    let bytes_max = number("max_message_bytes")?;
    let frames_max = number("max_message_frames")?;
    Some(MessageLimits { bytes_max, frames_max })
}

/// Whether the body of a reply of `mmi.directory` names at least two workers of a service: two at
/// the node that answers, or one each at two nodes.
pub(crate) fn has_two_workers(body: &[Vec<u8>], service: &ServiceName) -> bool {
    let [code, page, ..] = body else { return false };
    if code != b"200" || page.len() > DIRECTORY_BYTES_MAX {
        return false;
    }
    let page: Value = serde_json::from_slice(page).unwrap_or_default();
    let services = page.get("services").and_then(Value::as_array);
    let name = service.to_string();
    let mut entries = services.into_iter().flatten();
    let entry = entries.find(|entry| entry.get("name").and_then(Value::as_str) == Some(&name));
    entry.is_some_and(|entry| {
        let nodes = entry.get("nodes").and_then(Value::as_array).map_or(0, Vec::len);
        let workers = entry.get("workers").and_then(Value::as_u64).unwrap_or_default();
        nodes >= 2 || workers >= 2
    })
}

/// A question to the broker as a message of a client. It has no envelope, so that any broker
/// understands it; its answer is known by the service frame.
pub(crate) fn question(version: Version, name: &str) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = Vec::with_capacity(4);
    // The name is a valid one.
    if let Ok(service) = ServiceName::try_from(name) {
        let body = [&b""[..]].into_iter().collect::<Body<_>>();
        let request = Request { version, envelope: Vec::new(), service, body };
        let Ok(()) = request.encode(&mut frames);
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(frames: &[&str]) -> Listing {
        let body: Vec<Vec<u8>> = frames.iter().map(|frame| frame.as_bytes().to_vec()).collect();
        Listing::from_body(&body)
    }

    #[test]
    fn endpoints_of_the_nodes_are_read() {
        let page = r#"{"endpoints":[{"node":"n1","endpoint":"tcp://a:1","epoch":7},{"node":"n2"},
            {"endpoint":"tcp://b:2","epoch":"x"}],"max_message_bytes":7,"max_message_frames":5}"#;

        let node = |endpoint: &str, epoch| ListedNode { endpoint: endpoint.to_owned(), epoch };
        let listed = vec![node("tcp://a:1", Some(7)), node("tcp://b:2", None)];
        let limits = Some(MessageLimits { bytes_max: 7, frames_max: 5 });
        let nodes = Nodes { listed, has_answering: None, limits };
        assert_eq!(listing(&["200", page]), Listing::Nodes(nodes));
        assert_eq!(listing(&["200", r#"{"endpoints":[]}"#]), Listing::Nodes(Nodes::default()));
    }

    #[test]
    fn node_that_answers_is_looked_up_in_its_own_list() {
        for (node, has_answering) in
            [(r#""n1""#, Some(true)), (r#""n2""#, Some(false)), ("null", None), ("1", None)]
        {
            let page =
                format!(r#"{{"endpoints":[{{"endpoint":"a:1","node":"n1"}}],"node":{node}}}"#);

            let listed = vec![ListedNode { endpoint: "a:1".to_owned(), epoch: None }];
            let nodes = Nodes { listed, has_answering, limits: None };
            assert_eq!(listing(&["200", &page]), Listing::Nodes(nodes), "{node}");
        }
    }

    #[test]
    fn brokers_without_the_service_are_told_from_unreadable_answers() {
        assert_eq!(listing(&["501"]), Listing::NotThere);
        for frames in [&[][..], &["200"], &["503"], &["200", "no JSON"], &["200", "[1]"], &["x"]] {
            assert_eq!(listing(frames), Listing::Unreadable, "{frames:?}");
        }
        let long = format!(r#"{{"endpoints":[],"x":"{}"}}"#, "x".repeat(LISTING_BYTES_MAX));
        assert_eq!(listing(&["200", &long]), Listing::Unreadable);
    }

    #[test]
    fn question_is_a_plain_request_of_both_versions() {
        let plain: [&[u8]; 4] = [b"", b"MDPC01", b"mmi.endpoints", b""];
        assert_eq!(question(Version::V01, MMI_ENDPOINTS), plain);
        let plain: [&[u8]; 4] = [b"MDPC02", b"\x01", b"mmi.endpoints", b""];
        assert_eq!(question(Version::V02, MMI_ENDPOINTS), plain);
    }

    #[test]
    fn directory_tells_whether_a_service_has_a_second_worker() {
        let service = ServiceName::try_from("echo").unwrap();
        for (entry, expected) in [
            (r#"{"name":"echo","nodes":["a"],"workers":2}"#, true),
            (r#"{"name":"echo","nodes":["a","b"],"workers":1}"#, true),
            (r#"{"name":"echo","nodes":["a"],"workers":1}"#, false),
            (r#"{"name":"other","nodes":["a","b"],"workers":5}"#, false),
        ] {
            let page = format!(r#"{{"services":[{entry}]}}"#).into_bytes();
            assert_eq!(has_two_workers(&[b"200".to_vec(), page], &service), expected, "{entry}");
        }
        for body in [&[][..], &[b"501".to_vec()], &[b"200".to_vec(), b"x".to_vec()]] {
            assert!(!has_two_workers(body, &service), "{body:?}");
        }
    }
}
