//! What can be typed to look at nodes, and to change their cluster.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueHint};

use super::{keys::OwnKeyArgs, values};

/// Where the administration port is when nothing else is said.
pub(crate) const ADMIN_DEFAULT: &str = "http://127.0.0.1:5580";

/// `majordomo services`, and what `majordomo status` has of it.
#[derive(Args, Debug)]
pub(crate) struct ViewArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Ask by MDP instead (mmi.status, mmi.directory): the brokers in order of preference, as
    /// HOST:PORT, tcp://HOST:PORT or ipc:///PATH; comma-separated.
    #[arg(
        long,
        short,
        value_name = "ENDPOINT,..",
        value_delimiter = ',',
        conflicts_with = "admin"
    )]
    pub(crate) endpoint: Vec<String>,
    #[command(flatten)]
    pub(crate) keys: OwnKeyArgs,
    /// How long each attempt waits for the answer.
    #[arg(long, short, value_name = "TIME", default_value = "2500ms", value_parser = values::time)]
    pub(crate) timeout: Duration,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `majordomo status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) view: ViewArgs,
    /// Only find out whether the node lives (/livez), for service managers and containers: exit code
    /// 0 if so. It says nothing of the cluster.
    #[arg(long, conflicts_with_all = ["endpoint", "json", "ready"])]
    pub(crate) live: bool,
    /// Only find out whether the node is ready (/readyz): exit code 0 if so, else it says what the node
    /// waits for.
    #[arg(long, conflicts_with_all = ["endpoint", "json"])]
    pub(crate) ready: bool,
}

/// `majordomo top`.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// The administration ports of the nodes to ask, comma-separated or the flag repeated: only a node
    /// itself knows its rates. Each as http://HOST:PORT, https://HOST:PORT or unix:PATH. [env: MAJORDOMO_ADMIN]
    /// [default: the node of this machine, as for the other commands]
    #[arg(long, value_name = "URL,..", value_delimiter = ',', value_hint = ValueHint::Url)]
    pub(crate) admin: Vec<String>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    /// How often to look.
    #[arg(long, short, value_name = "TIME", default_value = "2s", value_parser = values::time)]
    pub(crate) interval: Duration,
    /// Look twice, print what happened in between, and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// As --once, as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which running node.
#[derive(Args, Debug)]
pub(crate) struct NodeArgs {
    /// The administration port of the node to ask: http://HOST:PORT or https://HOST:PORT (its admin.bind), or
    /// unix:PATH (its admin.socket). [env: MAJORDOMO_ADMIN] [default: the first that is there of
    /// unix:/run/majordomo/admin.sock, unix:./majordomo-data/admin.sock and http://127.0.0.1:5580]
    // Not clap's own variable: that would conflict with --endpoint even when only the latter is typed.
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) admin: Option<String>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

/// What a node is shown, and how it is recognised.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct AccessArgs {
    /// A file with a token for the node (its admin.token_file, or for pages its admin.read_token_file). A Unix
    /// socket needs none. [env: MAJORDOMO_TOKEN_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// For https: a file with the certificate of the authority that signed the node's, or the node's own.
    /// [env: MAJORDOMO_CA_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ca_file: Option<PathBuf>,
}

/// How a running node is asked to change something.
#[derive(Args, Debug)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// How long to wait until it is done.
    #[arg(long, short, value_name = "TIME", default_value = "15s", value_parser = values::time)]
    pub(crate) timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `majordomo connections`.
#[derive(Args, Debug)]
pub(crate) struct ConnectionsArgs {
    /// Close this connection, by its ID in the list. A peer that connects again by itself comes back
    /// with another ID.
    #[arg(long, value_name = "ID")]
    pub(crate) kick: Option<u64>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// `majordomo member`.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Show the members, voters and learners.
    List(ChangeArgs),
    /// Let a node in as a learner; it is promoted when it has caught up.
    Add {
        /// The name of the node (its node.name).
        name: String,
        /// Where the others reach it: HOST:PORT of its cluster port.
        #[arg(value_parser = values::endpoint)]
        endpoint: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Remove a node for ever: its data directory can never take part again.
    Remove {
        /// The name of the node.
        name: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Let a learner vote.
    Promote {
        /// The name of the node.
        name: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// `majordomo upgrade`.
#[derive(Debug, Subcommand)]
pub(crate) enum UpgradeCommand {
    /// Show what the members run, the cluster's version, and what it waits for.
    Status(ChangeArgs),
    /// Keep the cluster's version where it is, so that nodes can go back for as long as you like.
    Hold(ChangeArgs),
    /// End the hold: the cluster's version rises by itself, upgrade.settle after the last node.
    Resume(ChangeArgs),
    /// Raise the cluster's version now, held or not. Nodes can not go back after that.
    Finalize(ChangeArgs),
}

/// `majordomo leader`.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaderCommand {
    /// Hand the leadership over.
    Transfer {
        /// The node that shall lead; without it the one that knows most of the log.
        #[arg(value_name = "NODE")]
        to: Option<String>,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// `majordomo drain`.
#[derive(Args, Debug)]
pub(crate) struct DrainArgs {
    /// The name of the node that is meant: another one refuses. Without it whoever is asked drains.
    #[arg(value_name = "NODE")]
    pub(crate) name: Option<String>,
    /// Wait until the node is gone, and print its receipt.
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// How long to wait. [default: 15s for the answer; with --wait the node's drain.timeout and 10s]
    #[arg(long, short, value_name = "TIME", value_parser = values::time)]
    pub(crate) timeout: Option<Duration>,
    /// Print JSON: with --wait the receipt in one line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `majordomo snapshot`.
#[derive(Args, Debug)]
pub(crate) struct SnapshotArgs {
    /// Where to write; "-" is stdout. Without it: majordomo-INDEX.snapshot in this directory.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// `majordomo recover`.
#[derive(Args, Debug)]
pub(crate) struct RecoverArgs {
    /// Do it: this node alone becomes a new cluster, and what only the lost nodes knew is given up.
    #[arg(long, required = true)]
    pub(crate) force_new_cluster: bool,
    /// The configuration of the stopped node; the environment counts too, as for serve.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}
