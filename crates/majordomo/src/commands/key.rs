//! `majordomo key`: what a key file has.

use std::fs;

use anyhow::Context as _;
use mdp_node::{KeyFile, fingerprint};
use serde_json::json;

use crate::{
    args::{KeyCommand, KeyShowArgs},
    exit::{Exit, UsageError},
    printer,
    table::Table,
};

pub(super) fn run(command: KeyCommand) -> anyhow::Result<Exit> {
    match command {
        KeyCommand::Show(args) => show(&args),
    }
}

fn show(args: &KeyShowArgs) -> anyhow::Result<Exit> {
    let shown = args.file.display();
    let text = fs::read_to_string(&args.file).with_context(|| format!("{shown} cannot be read"))?;
    let file = KeyFile::parse(&text).map_err(|error| UsageError(format!("{shown}: {error}")))?;
    let (public, short) = (file.public.to_string(), fingerprint(&file.public));
    let has_secret = file.secret.is_some();
    if args.json {
        printer::json(
            &json!({ "public_key": public, "fingerprint": short, "secret": has_secret }),
        )?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::pairs();
    table.row(["public key".to_owned(), public]);
    table.row(["fingerprint".to_owned(), short]);
    let secret = if has_secret { "in this file, not shown" } else { "not in this file" };
    table.row(["secret key".to_owned(), secret.to_owned()]);
    printer::text(&table.to_string())?;
    Ok(Exit::Ok)
}
