//! The commands about keys and identities.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::ChangeArgs;

/// The keys of a client or worker.
#[derive(Args, Debug, Default)]
pub(crate) struct OwnKeyArgs {
    /// Speak CURVE, with the secret key of this file (NAME.key_secret of majordomo keygen, czmq or pyzmq).
    /// Needs --server-key.
    #[arg(long, env = "MAJORDOMO_KEY", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    /// The public key of the brokers (NAME.key): others are not talked to. Needs --key.
    #[arg(long, env = "MAJORDOMO_SERVER_KEY", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) server_key: Option<PathBuf>,
}

/// `majordomo keygen`.
#[derive(Args, Debug)]
pub(crate) struct KeygenArgs {
    /// Whose keys: the name of a client, of a worker, or with --node of a node.
    #[arg(value_name = "NAME", required_unless_present = "kubernetes")]
    pub(crate) name: Option<String>,
    /// The keys are those of a node, NAME is its node.name.
    #[arg(long, conflicts_with = "kubernetes")]
    pub(crate) node: bool,
    /// Write the files to this folder.
    #[arg(
        long,
        value_name = "DIR",
        value_hint = ValueHint::DirPath,
        default_value = ".",
        conflicts_with = "kubernetes"
    )]
    pub(crate) out: PathBuf,
    /// Print the Secrets and the ConfigMap of a new cluster for kubectl instead: a key for clients, and one
    /// for each node.
    #[arg(long, conflicts_with = "name")]
    pub(crate) kubernetes: bool,
    /// With --kubernetes: how many nodes.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 3,
        requires = "kubernetes",
        value_parser = clap::value_parser!(u8).range(1..=9)
    )]
    pub(crate) nodes: u8,
    /// Print one JSON object instead of the text.
    #[arg(long, conflicts_with = "kubernetes")]
    pub(crate) json: bool,
}

/// `majordomo key`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Show the public key of a key file, never the secret one.
    Show(KeyShowArgs),
}

/// `majordomo key show`.
#[derive(Args, Debug)]
pub(crate) struct KeyShowArgs {
    /// NAME.key or NAME.key_secret.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `majordomo identity`.
#[derive(Debug, Subcommand)]
pub(crate) enum IdentityCommand {
    /// Read a folder of identities as a node does, and show what it says.
    Check(IdentityCheckArgs),
    /// Show who is connected to a node, and with which key.
    Who(ChangeArgs),
}

/// `majordomo identity check`.
#[derive(Args, Debug)]
pub(crate) struct IdentityCheckArgs {
    /// The folder.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}
