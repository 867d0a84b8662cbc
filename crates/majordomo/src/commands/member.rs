//! `majordomo member`: who takes part in the cluster.

use serde_json::json;

use crate::{
    admin::AdminClient,
    args::{ChangeArgs, MemberCommand},
    commands::view::{cell, change_in_progress, items, last_known, state_cell},
    exit::Exit,
    printer,
    table::{Align, Table},
};

const MEMBERS: &str = "/api/v1/members";
const CLUSTER: &str = "/api/v1/cluster";

pub(super) fn run(command: MemberCommand) -> anyhow::Result<Exit> {
    match command {
        MemberCommand::List(args) => list(&args),
        MemberCommand::Add { name, endpoint, change } => {
            let body = json!({ "action": "add", "name": name, "endpoint": endpoint });
            let done = format!("{name} is a learner; it is promoted when it has caught up");
            ask(&change, &body, &done)
        }
        MemberCommand::Remove { name, change } => {
            let body = json!({ "action": "remove", "name": name });
            ask(&change, &body, &format!("{name} is removed"))
        }
        MemberCommand::Promote { name, change } => {
            let body = json!({ "action": "promote", "name": name });
            ask(&change, &body, &format!("{name} is a voter"))
        }
    }
}

fn ask(args: &ChangeArgs, body: &serde_json::Value, done: &str) -> anyhow::Result<Exit> {
    let answer = AdminClient::new(&args.node, args.timeout)?.change(MEMBERS, body)?;
    if args.json {
        printer::json(&answer)?;
    } else {
        printer::text(done)?;
    }
    Ok(Exit::Ok)
}

fn list(args: &ChangeArgs) -> anyhow::Result<Exit> {
    let page = AdminClient::new(&args.node, args.timeout)?.view(CLUSTER)?;
    if args.json {
        let [leader, majority, change] =
            ["leader", "majority", "member_change"].map(|key| page.get(key));
        printer::json(&json!({
            "leader": leader,
            "majority": majority,
            "member_change": change,
            "nodes": items(&page, "nodes"),
        }))?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("ROLE", Align::Left),
        ("STATE", Align::Left),
        ("LEADS", Align::Left),
        ("CLUSTER AT", Align::Left),
        ("ID", Align::Left),
    ]);
    let leader = cell(&page, "leader");
    for node in items(&page, "nodes") {
        let name = cell(node, "name");
        let leads = if name == leader { "yes" } else { "-" }.to_owned();
        let [role, at, id] = ["role", "cluster_endpoint", "raft_id"].map(|key| cell(node, key));
        table.row([name, role, state_cell(node), leads, at, id]);
    }
    let change = change_in_progress(&page).map(|text| format!("\nchange in progress: {text}\n"));
    printer::text(&format!("{}{table}{}", last_known(&page), change.unwrap_or_default()))?;
    Ok(Exit::Ok)
}
