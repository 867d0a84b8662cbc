//! The question `mmi.endpoints` and its answer: where clients of a cluster can go.

use mdp_wire::{Body, ServiceName, Version, client::Request};
use serde_json::Value;

/// The extension of 8/MMI by which nodes of a cluster name the endpoints of those that are up and
/// do not drain.
pub(crate) const MMI_ENDPOINTS: &str = "mmi.endpoints";

/// A longer answer is not read. A node writes less than 200 bytes.
const LISTING_BYTES_MAX: usize = 64 << 10;

/// The nodes of a cluster that clients can go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nodes {
    /// Their endpoints, as the broker writes them.
    pub(crate) endpoints: Vec<String>,
    /// Whether the node that answered is one of them; `None`: it does not say which it is.
    pub(crate) has_answering: Option<bool>,
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
    /// `{"node": .., "endpoints": [{"node": .., "endpoint": ..}, ..]}`.
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
    Some(Nodes {
        endpoints: entries.iter().filter_map(|entry| text(entry, "endpoint")).collect(),
        has_answering: text(&page, "node").map(|name| is_named(&name)),
    })
}

/// The question as a message of a client. It has no envelope, so that any broker understands it;
/// its answer is known by the service frame.
pub(crate) fn question(version: Version) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = Vec::with_capacity(4);
    // The name is a valid one.
    if let Ok(service) = ServiceName::try_from(MMI_ENDPOINTS) {
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
        let page = r#"{"endpoints":[{"node":"n1","endpoint":"tcp://a:1"},{"node":"n2"},
            {"endpoint":"tcp://b:2"}],"more":1}"#;

        let expected = ["tcp://a:1", "tcp://b:2"].map(str::to_owned).to_vec();
        let nodes = Nodes { endpoints: expected, has_answering: None };
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

            let nodes = Nodes { endpoints: vec!["a:1".to_owned()], has_answering };
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
        assert_eq!(question(Version::V01), plain);
        let plain: [&[u8]; 4] = [b"MDPC02", b"\x01", b"mmi.endpoints", b""];
        assert_eq!(question(Version::V02), plain);
    }
}
