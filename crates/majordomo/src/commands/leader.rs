//! `majordomo leader`: who leads the cluster.

use serde_json::json;

use crate::{admin::AdminClient, args::LeaderCommand, commands::view::cell, exit::Exit, printer};

const LEADER: &str = "/api/v1/leader";

pub(super) fn run(command: LeaderCommand) -> anyhow::Result<Exit> {
    let LeaderCommand::Transfer { to, change } = command;
    let client = AdminClient::new(&change.node, change.timeout)?;
    let answer = client.change(LEADER, &json!({ "to": to }))?;
    if change.json {
        printer::json(&answer)?;
    } else {
        printer::text(&format!("{} leads", cell(&answer, "leader")))?;
    }
    Ok(Exit::Ok)
}
