//! Pages that a node shows: over HTTP from its administration port, or as extensions of 8/MMI.

use anyhow::{Context as _, bail};
use mdp_client::Client;
use serde_json::Value;

use crate::{
    admin::{AdminClient, AdminError},
    args::{BrokerArgs, ViewArgs},
    commands::client_options,
    files,
};

/// The broker's own names cost nothing to ask again.
const RETRIES: u32 = 2;

/// Where a page is found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// At the administration port.
    pub(super) path: &'static str,
    /// What says less, for a node of 0.1.0 or one whose broker thread does not answer.
    pub(super) otherwise: Option<&'static str>,
    /// As an extension of 8/MMI.
    pub(super) service: &'static str,
}

/// Asks for a page, by HTTP unless an endpoint was typed.
pub(super) fn page(args: ViewArgs, page: Page) -> anyhow::Result<Value> {
    if args.endpoint.is_empty() {
        let client = AdminClient::new(&args.node, args.timeout)?;
        return Ok(match (client.view(page.path), page.otherwise) {
            (Err(AdminError::Refused { .. }), Some(path)) => client.view(path)?,
            (page, _) => page?,
        });
    }
    files::provide(0)?;
    // The page is that of the node that was named, not of one that it knows.
    let brokers = BrokerArgs { endpoint: args.endpoint, no_learn: true, keys: args.keys };
    let mut client = Client::connect(client_options(brokers, args.timeout, RETRIES)?)?;
    let service = page.service;
    let reply = client.call(service, "")?;
    let mut frames = reply.frames.iter();
    let code = frames.next().map(|code| String::from_utf8_lossy(code));
    match (code.as_deref(), frames.next()) {
        (Some("200"), Some(page)) => serde_json::from_slice(page)
            .with_context(|| format!("{service} of {} is not JSON", reply.endpoint)),
        (Some("501"), _) => bail!(
            "{} does not answer {service}: it is another broker, or mmi.extensions is false",
            reply.endpoint
        ),
        (code, _) => bail!(
            "{} answers {service} with {:?}, which is no page",
            reply.endpoint,
            code.unwrap_or_default()
        ),
    }
}

/// A text or number of a page as a cell; `-` if there is none.
pub(super) fn cell(page: &Value, key: &str) -> String {
    match page.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let texts = items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
            texts.collect::<Vec<_>>().join(",")
        }
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::Object(_))) => value.to_string(),
    }
}

/// A node's state as a cell, and for how long it has been unheard.
pub(super) fn state_cell(node: &Value) -> String {
    let state = cell(node, "state");
    match node.get("unheard_ms").and_then(Value::as_u64) {
        Some(unheard) if state == "unheard" => format!("unheard {} s", unheard / 1_000),
        _ => state,
    }
}

/// What is said in front of a page about the cluster of a node that hears no majority: the rest is
/// as old as that. Empty if it hears one.
pub(super) fn last_known(page: &Value) -> &'static str {
    // 0.1.0 says only who leads, and that not on each page.
    let has_leader = || page.get("leader").is_none_or(Value::is_string);
    let is_known = page.get("majority").and_then(Value::as_bool).unwrap_or_else(has_leader);
    if is_known { "" } else { "last known, no majority\n" }
}

/// The items of a list of a page.
pub(super) fn items<'a>(page: &'a Value, key: &str) -> &'a [Value] {
    page.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The change of members that is in progress, in words, if one is.
pub(super) fn change_in_progress(page: &Value) -> Option<&str> {
    page.get("member_change")?.get("text")?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unheard_nodes_show_for_how_long() {
        let node = |state: &str| json!({ "state": state, "unheard_ms": 34_900 });
        assert_eq!(state_cell(&node("unheard")), "unheard 34 s");
        assert_eq!(state_cell(&node("up")), "up");
        assert_eq!(state_cell(&json!({ "state": "gone", "unheard_ms": null })), "gone");
    }

    #[test]
    fn page_without_a_majority_is_what_was_known_last() {
        let said = "last known, no majority\n";
        assert_eq!(last_known(&json!({ "leader": "node-1", "majority": true })), "");
        assert_eq!(last_known(&json!({ "leader": null, "majority": false })), said);
        assert_eq!(last_known(&json!({ "leader": "node-1" })), "");
        assert_eq!(last_known(&json!({ "leader": null })), said);
        assert_eq!(last_known(&json!({ "services": [] })), "");
    }
}
