//! `majordomo snapshot`: the catalog of a running node as a file.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::json;

use crate::{admin::AdminClient, args::SnapshotArgs, exit::Exit, printer};

const SNAPSHOT: &str = "/api/v1/snapshot";
/// The name of a file that stands for stdout.
const STDOUT: &str = "-";

pub(super) fn run(args: SnapshotArgs) -> anyhow::Result<Exit> {
    let change = args.change;
    let snapshot = AdminClient::new(&change.node, change.timeout)?.snapshot(SNAPSHOT)?;
    let (index, bytes) = (snapshot.index, snapshot.bytes.len());
    let default = || PathBuf::from(format!("majordomo-{index}.snapshot"));
    let file = args.output.unwrap_or_else(default);
    if file == Path::new(STDOUT) {
        printer::raw(&snapshot.bytes)?;
        return Ok(Exit::Ok);
    }
    save(&file, &snapshot.bytes)
        .with_context(|| format!("{} cannot be written", file.display()))?;
    if change.json {
        printer::json(&json!({ "file": file, "index": index, "bytes": bytes }))?;
    } else {
        let file = file.display();
        printer::text(&format!("{file}: {bytes} bytes, the catalog at index {index}"))?;
    }
    Ok(Exit::Ok)
}

/// Whoever finds the file finds all of it.
fn save(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".part");
    // It names the services and nodes of the cluster: for its owner alone.
    let mut options = OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&unfinished, file)
}
