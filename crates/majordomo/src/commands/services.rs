//! `majordomo services`: who offers what.

use crate::{
    args::ViewArgs,
    commands::view::{Page, cell, items, last_known, page},
    exit::Exit,
    printer,
    table::{Align, Table},
};

const PAGE: Page = Page { path: "/api/v1/services", otherwise: None, service: "mmi.directory" };

pub(super) fn run(args: ViewArgs) -> anyhow::Result<Exit> {
    let is_json = args.json;
    let page = page(args, PAGE)?;
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
    printer::text(&format!("{}{table}", last_known(&page)))?;
    Ok(Exit::Ok)
}
