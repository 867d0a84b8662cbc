//! Pages that a node shows: over HTTP from its administration port, or as extensions of 8/MMI.

use anyhow::{Context as _, bail};
use mdp_client::Client;
use serde_json::Value;

use crate::{
    admin::AdminClient,
    args::{BrokerArgs, ViewArgs},
    commands::client_options,
};

/// The broker's own names cost nothing to ask again.
const RETRIES: u32 = 2;

/// Where a page is found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// At the administration port.
    pub(super) path: &'static str,
    /// As an extension of 8/MMI.
    pub(super) service: &'static str,
}

/// Asks for a page, by HTTP unless an endpoint was typed.
pub(super) fn page(args: ViewArgs, page: Page) -> anyhow::Result<Value> {
    if args.endpoint.is_empty() {
        return Ok(AdminClient::new(&args.node, args.timeout)?.view(page.path)?);
    }
    // The page is that of the node that was named, not of one that it knows.
    let brokers = BrokerArgs { endpoint: args.endpoint, no_learn: true };
    let mut client = Client::connect(client_options(brokers, args.timeout, RETRIES))?;
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

/// The items of a list of a page.
pub(super) fn items<'a>(page: &'a Value, key: &str) -> &'a [Value] {
    page.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
