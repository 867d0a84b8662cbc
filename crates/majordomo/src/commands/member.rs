//! `majordomo member`: who takes part in the cluster.

use serde_json::json;

use crate::{
    admin::AdminClient,
    args::{ChangeArgs, MemberCommand},
    commands::view::{cell, items},
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
        printer::json(&json!({ "leader": page.get("leader"), "nodes": items(&page, "nodes") }))?;
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
        let [role, state, at, id] =
            ["role", "state", "cluster_endpoint", "raft_id"].map(|key| cell(node, key));
        table.row([name, role, state, leads, at, id]);
    }
    printer::text(&table.to_string())?;
    Ok(Exit::Ok)
}
