//! `majordomo identity`: folders of identities.

use mdp_broker::{Enforcement, Grants, Identity, Patterns};
use mdp_node::{IdentityFiles, PublicKey, fingerprint};
use serde_json::{Value, json};

use crate::{
    admin::AdminClient,
    args::{ChangeArgs, IdentityCheckArgs, IdentityCommand},
    commands::view::{cell, items},
    exit::Exit,
    printer,
    table::{Align, Table},
};

/// How wide a table may be.
const COLUMNS_MAX: usize = 80;

pub(super) fn run(command: IdentityCommand) -> anyhow::Result<Exit> {
    match command {
        IdentityCommand::Check(args) => check(&args),
        IdentityCommand::Who(args) => who(&args),
    }
}

/// The connections of a node by identity; those without a key come last.
fn who(args: &ChangeArgs) -> anyhow::Result<Exit> {
    let page = AdminClient::new(&args.node, args.timeout)?.view("/api/v1/connections")?;
    if args.json {
        printer::json(&page)?;
        return Ok(Exit::Ok);
    }
    let mut connections: Vec<&Value> = items(&page, "connections").iter().collect();
    let name = |connection: &Value| connection.get("identity")?.as_str().map(str::to_owned);
    connections.sort_by_key(|connection| (name(connection).is_none(), name(connection)));
    let mut table = Table::new(&[
        ("IDENTITY", Align::Left),
        ("KEY", Align::Left),
        ("ID", Align::Right),
        ("ADDRESS", Align::Left),
        ("ROLE", Align::Left),
        ("SERVICE", Align::Left),
    ]);
    for connection in connections {
        table.row(
            ["identity", "key", "id", "address", "role", "service"]
                .map(|key| cell(connection, key)),
        );
    }
    table.fit(COLUMNS_MAX, &["ROLE", "ID"]);
    let is_truncated = page.get("truncated").and_then(Value::as_bool).unwrap_or_default();
    let more = if is_truncated { "there are more; only some are listed\n" } else { "" };
    printer::text(&format!("{table}{more}"))?;
    Ok(Exit::Ok)
}

fn check(args: &IdentityCheckArgs) -> anyhow::Result<Exit> {
    let files = IdentityFiles::load(&args.directory, Enforcement::Enforce)?;
    let (access, digest) = (files.access(), files.digest());
    if args.json {
        let identities: Vec<Value> = access.identities().map(page).collect();
        let anonymous = access.anonymous().map(grants);
        printer::json(
            &json!({ "digest": digest, "identities": identities, "anonymous": anonymous }),
        )?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("IDENTITY", Align::Left),
        ("KEYS", Align::Left),
        ("CALL", Align::Left),
        ("REGISTER", Align::Left),
        ("MMI", Align::Left),
    ]);
    for identity in access.identities() {
        let keys: Vec<_> = fingerprints(identity);
        table.row(row(identity.name.as_str(), &keys.join(" "), &identity.grants));
    }
    if let Some(grants) = access.anonymous() {
        table.row(row("(without a key)", "-", grants));
    }
    table.fit(COLUMNS_MAX, &[]);
    let count = access.identities().count();
    printer::text(&format!("{table}\n{count} identities, digest {digest}"))?;
    Ok(Exit::Ok)
}

fn row(name: &str, keys: &str, grants: &Grants) -> [String; 5] {
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    [
        name.to_owned(),
        or_none(keys.to_owned()),
        or_none(texts(&grants.call).join(" ")),
        or_none(texts(&grants.register).join(" ")),
        or_none(questions(grants).join(" ")),
    ]
}

fn page(identity: &Identity) -> Value {
    let quotas = identity.quotas;
    let mut page = grants(&identity.grants);
    let more = json!({
        "name": identity.name.as_str(),
        "keys": fingerprints(identity),
        "max_in_flight": quotas.max_in_flight,
        "max_requests_per_second": quotas.max_requests_per_second,
        "max_queued_bytes": quotas.max_queued_bytes,
        "max_workers": quotas.max_workers,
        "max_connections": quotas.max_connections,
        "not_after": identity.not_after,
    });
    if let (Value::Object(page), Value::Object(more)) = (&mut page, more) {
        page.extend(more);
    }
    page
}

fn grants(grants: &Grants) -> Value {
    json!({
        "call": texts(&grants.call),
        "register": texts(&grants.register),
        "mmi": questions(grants),
    })
}

fn fingerprints(identity: &Identity) -> Vec<String> {
    identity.keys.iter().map(|key| fingerprint(&PublicKey::from_bytes(key.0))).collect()
}

fn texts(patterns: &Patterns) -> Vec<String> {
    patterns.iter().map(|pattern| String::from_utf8_lossy(pattern).into_owned()).collect()
}

fn questions(grants: &Grants) -> Vec<&'static str> {
    let all = [("directory", grants.directory), ("full-status", grants.full_status)];
    all.into_iter().filter(|(_, is_granted)| *is_granted).map(|(name, _)| name).collect()
}
