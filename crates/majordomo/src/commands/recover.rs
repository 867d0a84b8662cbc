//! `majordomo recover`: a new cluster out of one stopped node.

use std::env;

use serde_json::json;

use crate::{
    args::RecoverArgs,
    exit::{Exit, UsageError},
    printer,
    settings::{Settings, Sources},
    table::Table,
};

pub(super) fn run(args: RecoverArgs) -> anyhow::Result<Exit> {
    // The parser lets nobody get here without it; who calls from elsewhere must mean it, too.
    if !args.force_new_cluster {
        return Err(UsageError("recover needs --force-new-cluster".to_owned()).into());
    }
    let variables = env::vars_os().collect();
    let sources = Sources { file: args.config, variables, flags: Vec::new() };
    let settings = Settings::load(&sources)?;
    for advice in settings.advice() {
        printer::warning(&advice);
    }
    let address = settings.cluster_address().ok_or_else(|| {
        let reason = "cluster.peers is empty: recover is for a node of a cluster; pass the \
                      configuration that the node is started with, by --config FILE or the environment";
        UsageError(reason.to_owned())
    })?;
    let (dir, name) = (settings.data_dir(), settings.node_name()?);
    let recovered = mdp_node::recover(&dir, &name, address)?;
    let node_id = recovered.node_id.to_string();
    if args.json {
        printer::json(&json!({
            "node": name.as_str(),
            "node_id": node_id,
            "cluster_id": recovered.cluster_id,
            "cluster_endpoint": address,
            "applied_index": recovered.applied_index,
            "services": recovered.services,
            "nodes": recovered.nodes,
            "data_dir": dir,
        }))?;
        return Ok(Exit::Ok);
    }
    let mut facts = Table::pairs();
    for (title, value) in [
        ("new cluster id", recovered.cluster_id),
        ("only member", format!("{name} at {address}, id {node_id}")),
        ("state of index", recovered.applied_index.to_string()),
        ("services offered", recovered.services.to_string()),
        ("nodes known", recovered.nodes.to_string()),
        ("data directory", dir.display().to_string()),
    ] {
        facts.row([title.to_owned(), value]);
    }
    printer::text(&format!(
        "{facts}\nStart this node now. The other nodes join it when they start with empty data \
         directories;\nthose of the old cluster are refused."
    ))?;
    Ok(Exit::Ok)
}
