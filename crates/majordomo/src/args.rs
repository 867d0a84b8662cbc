//! The command line: what can be typed, with its help.

mod help;
mod keys;
mod nodes;
mod values;
mod words;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    ArgGroup, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueHint,
    builder::PossibleValuesParser,
};

pub(crate) use self::keys::{
    IdentityCheckArgs, IdentityCommand, KeyCommand, KeyShowArgs, KeygenArgs, OwnKeyArgs,
};
pub(crate) use self::nodes::{
    ADMIN_DEFAULT, ChangeArgs, ConnectionsArgs, DrainArgs, LeaderCommand, MemberCommand, NodeArgs,
    RecoverArgs, SnapshotArgs, StatusArgs, TopArgs, UpgradeCommand, ViewArgs,
};
use self::values::Protocol;

/// Where a broker listens when nothing else is said.
const ENDPOINT_DEFAULT: &str = "tcp://127.0.0.1:5555";

/// A broker for ZeroMQ's Majordomo protocol, with its tools.
#[derive(Debug, Parser)]
#[command(
    name = "majordomo",
    version = mdp_node::VERSION,
    about = help::ABOUT,
    long_about = help::LONG_ABOUT,
    after_long_help = help::EXIT_CODES,
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the words of a command line, of which the first one is the program.
    pub(crate) fn read(words: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut program = Self::command();
        let words = words::sort(&mut program, words);
        let matches = program.try_get_matches_from_mut(words)?;
        if let Some((_, of_command)) = matches.subcommand() {
            values::check_endpoint_variable(&mut program, of_command)?;
        }
        Self::from_arg_matches(&matches)
    }
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a broker.
    #[command(long_about = help::SERVE, after_long_help = help::SERVE_AFTER)]
    Serve(ServeArgs),
    /// Send one request and print the reply.
    #[command(long_about = help::CALL, after_long_help = help::CALL_AFTER)]
    Call(CallArgs),
    /// Offer a service with a shell command, or as an echo.
    #[command(long_about = help::WORK, after_long_help = help::WORK_AFTER)]
    Work(WorkArgs),
    /// List the services that have workers.
    #[command(long_about = help::SERVICES, after_long_help = help::VIEW_AFTER)]
    Services(ViewArgs),
    /// Show a node's view of itself and its cluster.
    #[command(long_about = help::STATUS, after_long_help = help::STATUS_AFTER)]
    Status(StatusArgs),
    /// List the connections of clients and workers of a node, or close one.
    #[command(long_about = help::CONNECTIONS, after_long_help = help::CONNECTIONS_AFTER)]
    Connections(ConnectionsArgs),
    /// Watch nodes and services in the terminal.
    #[command(long_about = help::TOP, after_long_help = help::TOP_AFTER)]
    Top(TopArgs),
    /// List, add, promote or remove the members of the cluster.
    #[command(long_about = help::MEMBER, after_long_help = help::MEMBER_AFTER)]
    Member {
        /// What to do.
        #[command(subcommand)]
        command: MemberCommand,
    },
    /// Move the leadership of the cluster to another node.
    #[command(long_about = help::LEADER, after_long_help = help::LEADER_AFTER)]
    Leader {
        /// What to do.
        #[command(subcommand)]
        command: LeaderCommand,
    },
    /// Show the cluster's version during an upgrade; hold it, or make it final.
    #[command(long_about = help::UPGRADE, after_long_help = help::UPGRADE_AFTER)]
    Upgrade {
        /// What to do.
        #[command(subcommand)]
        command: UpgradeCommand,
    },
    /// Let a running node leave its cluster, without losing a request.
    #[command(long_about = help::DRAIN, after_long_help = help::DRAIN_AFTER)]
    Drain(DrainArgs),
    /// Save the replicated catalog of a running node to a file.
    #[command(long_about = help::SNAPSHOT, after_long_help = help::SNAPSHOT_AFTER)]
    Snapshot(SnapshotArgs),
    /// Make a new cluster out of one stopped node, after the others were lost for ever.
    #[command(long_about = help::RECOVER, after_long_help = help::RECOVER_AFTER)]
    Recover(RecoverArgs),
    /// Make a pair of keys.
    #[command(long_about = help::KEYGEN, after_long_help = help::KEYGEN_AFTER)]
    Keygen(KeygenArgs),
    /// Show what a key file has.
    #[command(long_about = help::KEY, after_long_help = help::KEY_AFTER)]
    Key {
        /// What to do.
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Check a folder of identities.
    #[command(long_about = help::IDENTITY, after_long_help = help::IDENTITY_AFTER)]
    Identity {
        /// What to do.
        #[command(subcommand)]
        command: IdentityCommand,
    },
    /// Measure a broker under load.
    #[command(long_about = help::BENCH, after_long_help = help::BENCH_AFTER)]
    Bench(BenchArgs),
    /// Print the completions for a shell.
    #[command(long_about = help::COMPLETIONS, after_long_help = help::COMPLETIONS_AFTER)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// End the commands of a worker that was killed; `work` starts this.
    #[command(name = crate::commands::GUARD_COMMAND, hide = true)]
    Guard {
        /// What its commands are marked with.
        id: String,
    },
}

/// `majordomo serve`.
#[derive(Args, Debug, Default)]
pub(crate) struct ServeArgs {
    /// Read the configuration from this TOML file.
    ///
    /// No file is searched for: without this flag there is none.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Check the configuration, print what counts and where it came from, and do not start.
    #[arg(long)]
    pub(crate) check: bool,
    /// With --check: print JSON.
    #[arg(long, requires = "check")]
    pub(crate) json: bool,
    /// With --check: what would be warned of is an error.
    #[arg(long, requires = "check")]
    pub(crate) strict: bool,
    /// Listen for clients and workers here, at tcp://HOST:PORT or ipc:///PATH; comma-separated, or the
    /// flag repeated (broker.bind).
    #[arg(long, value_name = "ADDRESS,..")]
    pub(crate) bind: Vec<String>,
    /// The name of this node (node.name).
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Serve probes, metrics and administration here; "" for none (admin.bind).
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) admin: Option<String>,
    /// Keep what the cluster agreed on in this folder, one for each node (node.data_dir).
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data_dir: Option<String>,
    /// All nodes that start the cluster, this one included, by their cluster ports (cluster.peers).
    #[arg(long, value_name = "NAME=HOST:PORT,..")]
    pub(crate) peers: Option<String>,
    /// Run a cluster of N nodes on this machine to try things out: processes of their own, with the
    /// ports of config/three-node and data in a temporary folder that goes when they end.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=9),
        conflicts_with_all = ["config", "check", "bind", "name", "admin", "data_dir", "peers"]
    )]
    pub(crate) dev: Option<u16>,
    /// With --dev: the port for clients and workers of the first node. The next nodes have the ports
    /// behind it; their cluster ports are 10 higher, and their administration ports 30.
    #[arg(
        long,
        requires = "dev",
        value_name = "PORT",
        default_value = "5551",
        value_parser = clap::value_parser!(u16).range(1..=65_400)
    )]
    pub(crate) dev_port: u16,
    /// End when this process does, which must be the one that started this.
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) ends_with: Option<i32>,
    /// How much is logged: error, warn, info, debug, trace or off (log.level).
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// The form of the log on stderr: text or json (log.format).
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(["text", "json"]))]
    pub(crate) log_format: Option<String>,
}

/// Which brokers, in which version.
#[derive(Args, Debug)]
pub(crate) struct BrokerArgs {
    /// The brokers, for a client in order of preference: HOST:PORT, tcp://HOST:PORT or ipc:///PATH;
    /// comma-separated, or the flag repeated.
    #[arg(
        long,
        short,
        env = values::ENDPOINT_VARIABLE,
        value_name = "ENDPOINT,..",
        value_delimiter = ',',
        default_value = ENDPOINT_DEFAULT
    )]
    pub(crate) endpoint: Vec<String>,
    /// Use these brokers only: do not ask them, by mmi.endpoints, for the other nodes of their
    /// cluster.
    #[arg(long)]
    pub(crate) no_learn: bool,
    #[command(flatten)]
    pub(crate) keys: OwnKeyArgs,
}

/// `majordomo call`.
#[derive(Args, Debug)]
pub(crate) struct CallArgs {
    /// The service to ask.
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// The body: each argument is one frame. "-" reads one frame from stdin. Without it the body is
    /// one empty frame. A frame may begin with "-" unless it is an option or looks like one (--word);
    /// after "--" everything is the body.
    #[arg(value_name = "BODY")]
    pub(crate) body: Vec<OsString>,
    #[command(flatten)]
    pub(crate) brokers: BrokerArgs,
    /// How long each attempt waits for a reply.
    #[arg(long, short, value_name = "TIME", default_value = "2500ms", value_parser = values::time)]
    pub(crate) timeout: Duration,
    /// How often the request is sent again, to the next broker, when no reply comes.
    #[arg(long, short, value_name = "N", default_value_t = 2)]
    pub(crate) retries: u32,
    /// Never let the service work on the request twice: when a worker may have got it and no reply
    /// comes, end with exit code 3 instead of sending it again.
    #[arg(long)]
    pub(crate) not_idempotent: bool,
    /// Ask the broker first whether any worker offers the service; if none does, end with exit code 3
    /// at once.
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// How long to go on when no broker can be reached.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = values::time)]
    pub(crate) wait: Duration,
    /// The version of the protocol: 0.1 (7/MDP) or 0.2 (18/MDP, with partial replies).
    #[arg(long, value_enum, value_name = "VERSION", default_value_t = Protocol::V01)]
    pub(crate) protocol: Protocol,
    /// Print one JSON object instead of the frames.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the frames as they are, one after the other, without a newline behind each.
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    /// Write the frames to this file as --raw does, and print nothing. The file is there, whole, if and
    /// only if the reply came.
    #[arg(
        long,
        short,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        conflicts_with = "json"
    )]
    pub(crate) output: Option<PathBuf>,
}

/// `majordomo work`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("handler").required(true).args(["echo", "exec"]))]
pub(crate) struct WorkArgs {
    /// The service to offer.
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// Answer each request with its own body.
    #[arg(long)]
    pub(crate) echo: bool,
    /// Answer each request with what this command, run by sh -c, writes to its stdout. The frames of
    /// the body, joined, are its stdin.
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    pub(crate) exec: Option<String>,
    /// How long the command may take before it is killed; it then counts as failed.
    #[arg(long, value_name = "TIME", value_parser = values::time, conflicts_with = "echo")]
    pub(crate) exec_timeout: Option<Duration>,
    /// Answer a failed command with a second frame: the end of its stderr.
    #[arg(long, conflicts_with = "echo")]
    pub(crate) reply_errors: bool,
    /// How many requests are worked on at a time; each has a connection of its own.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1)]
    pub(crate) concurrency: usize,
    #[command(flatten)]
    pub(crate) brokers: BrokerArgs,
    /// The version of the protocol: 0.1 (7/MDP) or 0.2 (18/MDP).
    #[arg(long, value_enum, value_name = "VERSION", default_value_t = Protocol::V01)]
    pub(crate) protocol: Protocol,
    /// How often the worker shows that it lives; the broker's interval or less.
    #[arg(long, value_name = "TIME", default_value = "2500ms", value_parser = values::heartbeat)]
    pub(crate) heartbeat: Duration,
    /// How much is logged on stderr: error, warn, info, debug, trace or off.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: tracing_subscriber::filter::LevelFilter,
}

/// `majordomo bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// The broker to load: HOST:PORT, tcp://HOST:PORT or ipc:///PATH.
    #[arg(
        long,
        short,
        env = values::ENDPOINT_VARIABLE,
        value_name = "ENDPOINT",
        default_value = ENDPOINT_DEFAULT
    )]
    pub(crate) endpoint: String,
    #[command(flatten)]
    pub(crate) keys: OwnKeyArgs,
    /// The service to load; with several a number is put behind it. Its workers get the requests of
    /// other clients, too, and requests may go to its other workers: use a name that has neither.
    /// [default: "bench-" and a random number]
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// How many workers, spread evenly over the services.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) workers: usize,
    /// How many requests are outstanding at any time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) window: usize,
    /// The length of each body, such as 64 or 16KiB.
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = values::size)]
    pub(crate) size: usize,
    /// How many seconds to measure.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Load with sockets of libzmq, as most clients and workers have them. They take more of this machine,
    /// which then is the limit sooner than the broker.
    #[arg(long)]
    pub(crate) libzmq: bool,
    /// How many services; requests go to one after the other.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) services: usize,
    /// How many client connections share the window.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) clients: usize,
    /// The version of the protocol: 0.1 (7/MDP) or 0.2 (18/MDP).
    #[arg(long, value_enum, value_name = "VERSION", default_value_t = Protocol::V01)]
    pub(crate) protocol: Protocol,
    /// The broker's process on this machine, to report its processor time per request.
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests;
