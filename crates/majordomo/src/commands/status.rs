//! `majordomo status`: a node's view of itself and its cluster.

use serde_json::Value;

use crate::{
    admin::AdminClient,
    args::{StatusArgs, ViewArgs},
    commands::view::{Page, cell, change_in_progress, items, last_known, page, state_cell},
    exit::Exit,
    printer,
    table::{Align, Table},
};

const PAGE: Page =
    Page { path: "/api/v1/status", otherwise: Some("/api/v1/cluster"), service: "mmi.status" };
const READINESS: &str = "/readyz";
const LIVENESS: &str = "/livez";

/// What is shown of the answering node, and under which name.
const FACTS: [(&str, &str); 7] = [
    ("node", "node"),
    ("cluster id", "cluster_id"),
    ("cluster version", "cluster_version"),
    ("leader", "leader"),
    ("term", "term"),
    ("committed index", "committed_index"),
    ("applied index", "applied_index"),
];

pub(super) fn run(args: StatusArgs) -> anyhow::Result<Exit> {
    if args.live {
        live(&args.view)
    } else if args.ready {
        ready(&args.view)
    } else {
        show(args.view)
    }
}

/// Looks at liveness alone: what a supervisor asks must not depend on the cluster.
fn live(args: &ViewArgs) -> anyhow::Result<Exit> {
    AdminClient::new(&args.node, args.timeout)?.view(LIVENESS)?;
    printer::text("live\n")?;
    Ok(Exit::Ok)
}

/// Looks at readiness alone.
fn ready(args: &ViewArgs) -> anyhow::Result<Exit> {
    let page = AdminClient::new(&args.node, args.timeout)?.page(READINESS)?;
    let is_ready = page.get("ready").and_then(Value::as_bool) == Some(true);
    printer::text(&if is_ready { "ready".to_owned() } else { in_words(&page) })?;
    Ok(if is_ready { Exit::Ok } else { Exit::Failure })
}

fn show(args: ViewArgs) -> anyhow::Result<Exit> {
    let is_json = args.json;
    let readiness = readiness(&args)?;
    let mut page = page(args, PAGE)?;
    if is_json {
        if let (Value::Object(page), Some(Value::Object(readiness))) = (&mut page, readiness) {
            page.extend(readiness);
        }
        printer::json(&page)?;
        return Ok(Exit::Ok);
    }
    let mut facts = Table::pairs();
    for (title, key) in FACTS.into_iter().filter(|(_, key)| page.get(key).is_some()) {
        facts.row([title.to_owned(), cell(&page, key)]);
    }
    if let Some(change) = change_in_progress(&page) {
        facts.row(["change of members".to_owned(), change.to_owned()]);
    }
    if let Some(readiness) = readiness {
        facts.row(["ready".to_owned(), in_words(&readiness)]);
    }
    let warnings = warnings(&page);
    let mut nodes = Table::new(&[
        ("NODE", Align::Left),
        ("STATE", Align::Left),
        ("ROLE", Align::Left),
        ("EPOCH", Align::Right),
        ("VERSION", Align::Left),
        ("CLIENTS AT", Align::Left),
        ("CLUSTER AT", Align::Left),
    ]);
    for node in items(&page, "nodes") {
        let keys = ["role", "epoch", "version", "client_endpoint", "cluster_endpoint"];
        let cells = keys.iter().map(|key| cell(node, key));
        nodes.row([cell(node, "name"), state_cell(node)].into_iter().chain(cells));
    }
    let (last_known, networks, numbers) = (last_known(&page), networks(&page), numbers(&page));
    printer::text(&format!("{facts}\n{warnings}{last_known}{nodes}{networks}{numbers}"))?;
    Ok(Exit::Ok)
}

/// What the node warned of when it started.
fn warnings(page: &Value) -> String {
    let texts = items(page, "warnings").iter().filter_map(Value::as_str);
    let lines: String = texts.map(|text| format!("warning: {text}\n")).collect();
    if lines.is_empty() { lines } else { format!("{lines}\n") }
}

/// The addresses that nodes tell the clients of some networks instead, if there are any.
fn networks(page: &Value) -> String {
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("CLIENTS OF", Align::Left),
        ("CLIENTS AT", Align::Left),
    ]);
    let mut is_empty = true;
    for node in items(page, "nodes") {
        for entry in items(node, "client_networks") {
            is_empty = false;
            table.row([cell(node, "name"), cell(entry, "from"), cell(entry, "address")]);
        }
    }
    if is_empty { String::new() } else { format!("\n{table}") }
}

/// Whether the node is ready, which only its administration port tells.
fn readiness(args: &ViewArgs) -> anyhow::Result<Option<Value>> {
    if !args.endpoint.is_empty() {
        return Ok(None);
    }
    let page = AdminClient::new(&args.node, args.timeout)?.page(READINESS)?;
    Ok(Some(page))
}

fn in_words(readiness: &Value) -> String {
    if readiness.get("ready").and_then(Value::as_bool) == Some(true) {
        return "yes".to_owned();
    }
    let details = items(readiness, "details").iter().filter_map(Value::as_str);
    format!("no: {}", details.collect::<Vec<_>>().join("; "))
}

/// The answering node's gauges and counters, those of dropped messages by their reason.
fn numbers(page: &Value) -> String {
    let mut table = Table::new(&[("THIS NODE", Align::Left), ("", Align::Right)]);
    let mut row = |name: &str, value: &Value| table.row([name.to_owned(), value.to_string()]);
    let sections = ["gauges", "counters"].into_iter().filter_map(|key| page.get(key)?.as_object());
    let mut is_empty = true;
    for (name, value) in sections.flatten() {
        is_empty = false;
        match value.as_object() {
            None => row(name, value),
            Some(parts) => {
                parts.iter().for_each(|(part, value)| row(&format!("{name}: {part}"), value));
            }
        }
    }
    if is_empty { String::new() } else { format!("\n{table}") }
}
