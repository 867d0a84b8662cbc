//! `majordomo services`: who offers what.

use crate::{
    args::ViewArgs,
    commands::view::{cell, items, page},
    exit::Exit,
    printer,
    table::{Align, Table},
};

pub(super) fn run(args: ViewArgs) -> anyhow::Result<Exit> {
    let is_json = args.json;
    let page = page(args, "mmi.directory")?;
    if is_json {
        printer::json(&page)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("SERVICE", Align::Left),
        ("NODES", Align::Left),
        ("WORKERS", Align::Right),
        ("IDLE", Align::Right),
        ("QUEUED", Align::Right),
    ]);
    for service in items(&page, "services") {
        table.row(["name", "nodes", "workers", "idle", "queued"].map(|key| cell(service, key)));
    }
    printer::text(&table.to_string())?;
    Ok(Exit::Ok)
}
