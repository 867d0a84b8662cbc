//! Every key that can be configured: the one table that the parser, `--check`, the documentation
//! test and the repository's own check read.

use std::time::Duration;

use super::kind::Kind;

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Section and key, as in `broker.bind`.
    pub(crate) name: &'static str,
    /// What its value is.
    pub(crate) kind: Kind,
    /// The built-in value, as it would stand in an environment variable.
    pub(crate) default: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { name, kind, default }
}

const MS: Duration = Duration::from_millis(1);

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// A message is held in memory several times over; more than this is a file, not a message.
pub(crate) const MESSAGE_BYTES_MAX: u64 = GIB;

/// The longest time that may stand for "for ever".
const TIME_MAX: Duration = Duration::from_secs(366 * 86_400);

/// Below 10 ms the heartbeats of many workers are themselves the load.
const HEARTBEAT: Kind = Kind::Duration { min: Duration::from_millis(10), max: HOUR };
/// One missed heartbeat is not yet a lost worker.
const LIVENESS: Kind = Kind::Count { min: 2, max: 1_000 };
const TTL: Kind = Kind::Duration { min: Duration::ZERO, max: TIME_MAX };
const BUSY: Kind = Kind::Duration { min: Duration::from_millis(10), max: TIME_MAX };
const ATTEMPTS: Kind = Kind::Count { min: 1, max: 1_000 };
const REQUESTS: Kind = Kind::Count { min: 1, max: 100_000_000 };
/// As many as the port has numbers for.
const CONNECTIONS: Kind = Kind::Count { min: 1, max: 1_000_000 };
const ENTRIES: Kind = Kind::Count { min: 1, max: 10_000_000 };
const DELIVERY: Kind = Kind::Choice(&["at-least-once", "at-most-once"]);
const MESSAGE: Kind = Kind::Size { min: KIB, max: MESSAGE_BYTES_MAX };
const BUFFER: Kind = Kind::Size { min: KIB, max: 1 << 40 };
/// 0: as many as fit the machine.
const CRYPTO_THREADS: Kind = Kind::Count { min: 0, max: mdp_node::CRYPTO_THREADS_MAX as u64 };
const CLUSTER_TIME: Kind = Kind::Duration { min: Duration::from_millis(5), max: HOUR };

/// Every key outside of `[[service]]`, in the order in which a person reads them.
pub(crate) const KEYS: &[Key] = &[
    key("node.name", Kind::NodeName, "node-1"),
    key("node.data_dir", Kind::Path, "majordomo-data"),
    key("broker.bind", Kind::Binds, "tcp://127.0.0.1:5555"),
    key("broker.advertise", Kind::Advertise, ""),
    key("broker.advertise_for", Kind::Networks, ""),
    key("broker.heartbeat_interval", HEARTBEAT, "2500ms"),
    key("broker.heartbeat_liveness", LIVENESS, "3"),
    key("broker.request_ttl", TTL, "60s"),
    key("broker.busy_timeout", BUSY, "15m"),
    key("broker.delivery", DELIVERY, "at-least-once"),
    key("broker.max_attempts", ATTEMPTS, "3"),
    key("broker.max_queued_requests", REQUESTS, "1_000_000"),
    key("broker.max_queued_requests_per_client", REQUESTS, "200_000"),
    key("broker.max_queued_bytes", BUFFER, "256MiB"),
    key("broker.max_message_bytes", MESSAGE, "16MiB"),
    key("broker.max_outgoing_bytes_per_peer", BUFFER, "16MiB"),
    key("broker.max_connections", CONNECTIONS, "65_536"),
    key("broker.max_services", ENTRIES, "100_000"),
    key("broker.max_workers", ENTRIES, "20_000"),
    key("cluster.bind", Kind::Bind, "tcp://127.0.0.1:5556"),
    key("cluster.advertise", Kind::Advertise, ""),
    key("cluster.relay_bind", Kind::BindOrNone, ""),
    key("cluster.peers", Kind::Peers, ""),
    key("cluster.expect", Kind::Count { min: 0, max: 99 }, "0"),
    key("cluster.security", Kind::Choice(&["off", "prefer", "require"]), "off"),
    key("cluster.key_file", Kind::FileOrNone, ""),
    key("cluster.keys_dir", Kind::FolderOrNone, ""),
    key("cluster.minority", Kind::Choice(&["serve", "fail"]), "serve"),
    key("cluster.heartbeat_interval", CLUSTER_TIME, "50ms"),
    key("cluster.election_timeout_min", CLUSTER_TIME, "200ms"),
    key("cluster.election_timeout_max", CLUSTER_TIME, "400ms"),
    key("cluster.node_timeout", CLUSTER_TIME, "3s"),
    key("mmi.consistency", Kind::Choice(&["linearizable", "local"]), "linearizable"),
    key("mmi.read_timeout", Kind::Duration { min: MS, max: HOUR }, "500ms"),
    key("mmi.on_no_quorum", Kind::Choice(&["503", "silent"]), "503"),
    key("mmi.extensions", Kind::Flag, "true"),
    key("security.mode", Kind::Choice(&["off", "mixed", "on"]), "off"),
    key("security.key_file", Kind::FileOrNone, ""),
    key("security.next_key_file", Kind::FileOrNone, ""),
    key("security.identities_dir", Kind::FolderOrNone, ""),
    key("security.access", Kind::Choice(&["enforce", "report"]), "enforce"),
    key("security.insecure", Kind::Flag, "false"),
    key("security.crypto_threads", CRYPTO_THREADS, "0"),
    key("admin.bind", Kind::HostPortOrNone, "127.0.0.1:5580"),
    key("admin.allow_remote", Kind::Flag, "false"),
    key("admin.hosts", Kind::HostNames, ""),
    key("admin.socket", Kind::SocketFile, ""),
    key("admin.token_file", Kind::FileOrNone, ""),
    key("admin.read_token_file", Kind::FileOrNone, ""),
    key("admin.cert_file", Kind::FileOrNone, ""),
    key("admin.key_file", Kind::FileOrNone, ""),
    key("drain.timeout", Kind::Duration { min: Duration::ZERO, max: DAY }, "20s"),
    key("drain.announce", Kind::Duration { min: Duration::ZERO, max: HOUR }, "0s"),
    key("upgrade.settle", Kind::Duration { min: Duration::ZERO, max: TIME_MAX }, "10m"),
    key("upgrade.hold", Kind::VersionOrNone, ""),
    key("log.level", Kind::LogLevel, "info"),
    key("log.format", Kind::Choice(&["text", "json"]), "text"),
];

/// The name of the array of rules.
pub(crate) const SERVICE_SECTION: &str = "service";

/// The key that every rule has.
pub(crate) const PATTERN_KEY: &str = "pattern";

/// The keys of one `[[service]]` rule. A rule takes what it does not say from `[broker]`, so these
/// have no default of their own.
pub(crate) const SERVICE_KEYS: &[Key] = &[
    key(PATTERN_KEY, Kind::Pattern, ""),
    key("delivery", DELIVERY, ""),
    key("request_ttl", TTL, ""),
    key("busy_timeout", BUSY, ""),
    key("max_attempts", ATTEMPTS, ""),
    key("max_queued_requests", REQUESTS, ""),
    key("heartbeat_interval", HEARTBEAT, ""),
    key("heartbeat_liveness", LIVENESS, ""),
];

/// The key of this full name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Whether a section of this name holds keys.
pub(crate) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.section() == name)
}

impl Key {
    /// The part before the dot.
    pub(crate) fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The part after the dot.
    pub(crate) fn last(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, last)| last)
    }

    /// The environment variable that sets this key.
    pub(crate) fn variable(&self) -> String {
        format!("{}{}", super::layers::VARIABLE_PREFIX, self.name.replace('.', "__").to_uppercase())
    }
}
