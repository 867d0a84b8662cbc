//! One module for each command.

mod bench;
mod call;
mod completions;
mod connections;
mod drain;
mod identity;
mod key;
mod keygen;
mod leader;
mod member;
mod own_keys;
mod recover;
mod serve;
mod services;
mod snapshot;
mod status;
mod top;
mod upgrade;
mod view;
mod work;

use std::time::Duration;

use mdp_client::ClientOptions;

use crate::{
    args::{BrokerArgs, Command},
    exit::{Exit, UsageError},
    settings::MESSAGE_BYTES_MAX,
};

pub(crate) use self::work::GUARD_COMMAND;

/// Carries out a command.
pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Serve(args) => serve::run(args),
        Command::Call(args) => call::run(args),
        Command::Work(args) => work::run(args),
        Command::Services(args) => services::run(args),
        Command::Status(args) => status::run(args),
        Command::Connections(args) => connections::run(args),
        Command::Member { command } => member::run(command),
        Command::Leader { command } => leader::run(command),
        Command::Top(args) => top::run(&args),
        Command::Upgrade { command } => upgrade::run(command),
        Command::Drain(args) => drain::run(&args),
        Command::Snapshot(args) => snapshot::run(args),
        Command::Recover(args) => recover::run(args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Key { command } => key::run(command),
        Command::Identity { command } => identity::run(command),
        Command::Bench(args) => bench::run(&args),
        Command::Completions { shell } => completions::run(shell),
        Command::Guard { id } => work::guard_commands(&id),
    }
}

fn client_options(
    brokers: BrokerArgs,
    timeout: Duration,
    retries: u32,
) -> Result<ClientOptions, UsageError> {
    let (key, server_key) = own_keys::read(&brokers.keys)?.unzip();
    let defaults = ClientOptions::default();
    let refresh = refresh(brokers.no_learn, defaults.endpoints_refresh);
    Ok(defaults
        .endpoints(brokers.endpoint)
        .endpoints_refresh(refresh)
        .timeout(timeout)
        .attempts(retries.saturating_add(1))
        .reply_bytes_max(message_bytes_max())
        .key(key)
        .server_key(server_key))
}

/// How often a broker is asked for the nodes of its cluster; zero is never.
fn refresh(no_learn: bool, by_default: Duration) -> Duration {
    if no_learn { Duration::ZERO } else { by_default }
}

/// A broker may be configured to take messages as long as this.
fn message_bytes_max() -> usize {
    usize::try_from(MESSAGE_BYTES_MAX).unwrap_or(usize::MAX)
}
