//! `majordomo serve`: the life of a broker.

mod administration;
mod dev;
mod watch;

use std::{env, path::Path};

use anyhow::Context as _;
use mdp_node::{AdminSecrets, DrainReceipt, Node};

use self::{administration::Administration, watch::Watch};
use crate::{
    args::ServeArgs,
    children,
    exit::Exit,
    logging::{self, Format},
    printer,
    settings::{FlagValue, Settings, Sources},
    signals::{HangUp, Second, StopSignals},
};

pub(super) fn run(args: ServeArgs) -> anyhow::Result<Exit> {
    if let Some(count) = args.dev {
        return dev::run(&args, count);
    }
    if let Some(parent) = args.ends_with {
        children::end_with(parent).context("--ends-with")?;
    }
    let check = args.check.then_some(Check { is_json: args.json, is_strict: args.strict });
    let sources = sources(args);
    let settings = Settings::load(&sources)?;
    if let Some(check) = check {
        return check.run(&settings);
    }
    let levels = logging::levels(settings.text("log.level"))?;
    let node = settings.node_name()?.as_str().to_owned();
    let format = match settings.text("log.format") {
        "json" => Format::Json { node },
        _ => Format::Text { node: Some(node) },
    };
    let _log = logging::start(levels, &format);
    log_start(sources.file.as_deref());
    serve(&settings, &format).or_else(|error| {
        // From here on stderr is the log and nothing else, for a program may read it.
        if !tracing::enabled!(tracing::Level::ERROR) {
            return Err(error);
        }
        tracing::error!("{error:#}");
        Ok(Exit::after(&error))
    })
}

/// What `--check` prints.
#[derive(Clone, Copy, Debug)]
struct Check {
    is_json: bool,
    /// Whether what would be warned of is an error.
    is_strict: bool,
}

impl Check {
    fn run(self, settings: &Settings) -> anyhow::Result<Exit> {
        AdminSecrets::load(settings.admin_files())?;
        let advice = settings.advice();
        for advice in &advice {
            printer::warning(advice);
        }
        if self.is_strict && !advice.is_empty() {
            return Ok(Exit::Usage);
        }
        if self.is_json {
            printer::json(&settings.to_json())?;
        } else {
            printer::text(&settings.to_string())?;
        }
        Ok(Exit::Ok)
    }
}

/// The first line: what runs here, and by which configuration.
fn log_start(file: Option<&Path>) {
    let config = file.map_or_else(|| "none".into(), Path::to_string_lossy);
    tracing::info!(version = mdp_node::VERSION, %config, "majordomo starts");
}

/// Serves until a signal and the drain after it.
fn serve(settings: &Settings, format: &Format) -> anyhow::Result<Exit> {
    for advice in settings.advice() {
        tracing::warn!("{advice}");
    }
    let signals = StopSignals::catch(Second::Ends, HangUp::ReopensLogs);
    let mut signals = signals.context("signals cannot be caught")?;
    if children::is_first() {
        children::inherit_orphans();
    }
    let secrets = AdminSecrets::load(settings.admin_files())?;
    let admin = Administration::bind(settings, secrets)?;
    let node = Node::start(settings.node()?)?;
    let _admin = admin.serve(&node, settings)?;
    let endpoint = node.endpoints().join(",");
    tracing::info!(endpoint, "listening on {}", node.endpoints().join(", "));
    let _watch = Watch::start(node.view()).context("no thread for the log of the cluster")?;
    let (drainer, view) = (node.drainer(), node.view());
    if view.identities().is_some() {
        signals.on_hang_up(move || view.read_identities());
    }
    signals.on_first(move || drainer.drain()).context("no thread for signals")?;
    let receipt = node.wait()?;
    log_receipt(&receipt, format)?;
    Ok(Exit::Ok)
}

/// The receipt as JSON: the fields of the line, or its text.
fn log_receipt(receipt: &DrainReceipt, format: &Format) -> anyhow::Result<()> {
    let DrainReceipt { finished, handed_over, dropped, leader_moved, took_ms } = *receipt;
    match format {
        Format::Text { .. } => tracing::info!("{}", serde_json::to_string(receipt)?),
        Format::Json { .. } => tracing::info!(
            event = "drained",
            finished,
            handed_over,
            dropped,
            leader_moved,
            took_ms,
            "drained"
        ),
    }
    Ok(())
}

/// The layers of the configuration, flags last.
fn sources(args: ServeArgs) -> Sources {
    let flags = [
        ("broker.bind", (!args.bind.is_empty()).then(|| args.bind.join(",")), "--bind"),
        ("node.name", args.name, "--name"),
        ("node.data_dir", args.data_dir, "--data-dir"),
        ("cluster.peers", args.peers, "--peers"),
        ("admin.bind", args.admin, "--admin"),
        ("log.level", args.log_level, "--log-level"),
        ("log.format", args.log_format, "--log-format"),
    ];
    let given = |(key, value, flag): (_, Option<String>, _)| {
        value.map(|value| FlagValue { key, value, flag })
    };
    Sources {
        file: args.config,
        variables: env::vars_os().collect(),
        flags: flags.into_iter().filter_map(given).collect(),
    }
}
