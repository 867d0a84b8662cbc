//! `majordomo upgrade`: the cluster's version, from the first upgraded node until it is final.

use serde_json::{Value, json};

use crate::{
    admin::AdminClient,
    args::{ChangeArgs, UpgradeCommand},
    commands::view::{cell, items, last_known, state_cell},
    exit::Exit,
    printer,
    table::{Align, Table},
};

const UPGRADE: &str = "/api/v1/upgrade";
const CLUSTER: &str = "/api/v1/cluster";

pub(super) fn run(command: UpgradeCommand) -> anyhow::Result<Exit> {
    match command {
        UpgradeCommand::Status(args) => status(&args),
        UpgradeCommand::Hold(args) => change(&args, "hold"),
        UpgradeCommand::Resume(args) => change(&args, "resume"),
        UpgradeCommand::Finalize(args) => change(&args, "finalize"),
    }
}

fn status(args: &ChangeArgs) -> anyhow::Result<Exit> {
    let client = AdminClient::new(&args.node, args.timeout)?;
    let mut page = client.view(UPGRADE)?;
    let cluster = client.view(CLUSTER)?;
    let nodes: Vec<Value> = items(&cluster, "nodes")
        .iter()
        .map(|node| {
            let [name, version, state, unheard_ms] =
                ["name", "version", "state", "unheard_ms"].map(|key| node.get(key));
            json!({ "name": name, "version": version, "state": state, "unheard_ms": unheard_ms })
        })
        .collect();
    if args.json {
        if let Some(page) = page.as_object_mut() {
            page.insert("nodes".to_owned(), Value::Array(nodes));
            let majority = cluster.get("majority").cloned().unwrap_or_default();
            page.insert("majority".to_owned(), majority);
        }
        printer::json(&page)?;
        return Ok(Exit::Ok);
    }
    printer::text(&format!("{}{}\n", last_known(&cluster), summary(&page)))?;
    let mut table =
        Table::new(&[("NODE", Align::Left), ("VERSION", Align::Left), ("STATE", Align::Left)]);
    for node in &nodes {
        table.row([cell(node, "name"), cell(node, "version"), state_cell(node)]);
    }
    printer::text(&table.to_string())?;
    Ok(Exit::Ok)
}

fn change(args: &ChangeArgs, action: &str) -> anyhow::Result<Exit> {
    let client = AdminClient::new(&args.node, args.timeout)?;
    let page = client.change(UPGRADE, &json!({ "action": action }))?;
    if args.json {
        printer::json(&page)?;
    } else {
        printer::text(&match action {
            "hold" => "the cluster's version stays where it is".to_owned(),
            "resume" => "the cluster's version rises by itself again".to_owned(),
            _ => "the cluster's version is final; older programs are refused now".to_owned(),
        })?;
    }
    Ok(Exit::Ok)
}

/// The page in sentences.
fn summary(page: &Value) -> String {
    let now = cell(page, "cluster_version");
    let target = cell(page, "target");
    let names =
        items(page, "waits_for").iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let next = match cell(page, "state").as_str() {
        "mixed" => format!("Members run two versions; the older one still: {names}."),
        "incomplete" => format!("It cannot rise while these members are not up: {names}."),
        "held" => {
            let by = match page.get("held_at") {
                None | Some(Value::Null) => "upgrade.hold of the configuration",
                Some(_) => "`majordomo upgrade hold`",
            };
            format!("All members run {target}; {by} keeps {now}.")
        }
        "settling" => match page.get("settles_in_ms").and_then(Value::as_u64) {
            Some(left) => format!(
                "All members run {target}; it becomes final in {} s, and nodes can go back until then.",
                left.div_ceil(1_000)
            ),
            None => format!(
                "All members run {target}; it becomes final soon, and {}, which leads, knows when.",
                cell(page, "leader")
            ),
        },
        _ => "All members run it.".to_owned(),
    };
    format!("The cluster's version is {now}. {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_a_sentence() {
        let page = |state: &str| {
            json!({
                "cluster_version": "0.1.0", "target": "0.2.0", "state": state, "leader": "n1",
                "waits_for": ["n2", "n3"], "held_at": null, "settles_in_ms": null,
            })
        };
        for (state, said) in [
            ("current", "0.1.0. All members run it."),
            ("mixed", "the older one still: n2, n3."),
            ("incomplete", "not up: n2, n3."),
            ("held", "run 0.2.0; upgrade.hold of the configuration keeps 0.1.0."),
            ("settling", "n1, which leads, knows when"),
        ] {
            let text = summary(&page(state));
            assert!(text.contains(said), "{text}");
        }
        let mut settling = page("settling");
        settling["settles_in_ms"] = json!(1_400);
        assert!(summary(&settling).contains("final in 2 s"));
    }
}
