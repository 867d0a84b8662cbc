//! Kinds of values: how each is read, what is right for it, how it is shown.

use std::{fmt, time::Duration};

use config::ValueKind;
use mdp_wire::{ClientNetworks, MMI_PREFIX, SERVICE_NAME_BYTES_MAX};

use super::{
    address, admin, networks,
    peer::{self, Peer},
    units,
};

/// What the value of a key is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// The name of a node.
    NodeName,
    /// A folder.
    Path,
    /// A file, or nothing.
    FileOrNone,
    /// A folder, or nothing.
    FolderOrNone,
    /// The path of a Unix socket, the word for none, or nothing for the default.
    SocketFile,
    /// An address to listen at.
    Bind,
    /// One address to listen at, or several.
    Binds,
    /// An address to listen at, or nothing.
    BindOrNone,
    /// An address that others can connect to, or nothing.
    Advertise,
    /// `HOST:PORT`, or nothing.
    HostPortOrNone,
    /// Names of hosts, several or none.
    HostNames,
    /// A length of time.
    Duration {
        /// The shortest that makes sense.
        min: Duration,
        /// The longest that makes sense.
        max: Duration,
    },
    /// A number of bytes.
    Size {
        /// The smallest that makes sense.
        min: u64,
        /// The largest that makes sense.
        max: u64,
    },
    /// A number of things.
    Count {
        /// The smallest that makes sense.
        min: u64,
        /// The largest that makes sense.
        max: u64,
    },
    /// Yes or no.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `NAME=HOST:PORT`, several.
    Peers,
    /// `NETWORK=ADDRESS`, several, or tables that say the same.
    Networks,
    /// How much is logged, overall or for parts of the program.
    LogLevel,
    /// `MAJOR.MINOR`, or nothing.
    VersionOrNone,
    /// A pattern of service names.
    Pattern,
}

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// A word, a name or an address in its canonical form.
    Text(String),
    /// A length of time.
    Duration(Duration),
    /// A number of bytes.
    Size(u64),
    /// A number of things.
    Count(u64),
    /// Yes or no.
    Flag(bool),
    /// Addresses in their canonical form; at least one.
    Addresses(Vec<String>),
    /// Names of hosts, in lower case.
    HostNames(Vec<String>),
    /// The nodes that start the cluster, by unique names and addresses.
    Peers(Vec<Peer>),
    /// Addresses by unique networks.
    Networks(ClientNetworks),
}

/// What would have been right.
pub(crate) type Wanted = String;

impl Kind {
    /// Reads a value as it came from a file, a variable or a flag.
    pub(crate) fn read(self, raw: &ValueKind) -> Result<Setting, Wanted> {
        let wanted = || self.wanted();
        match self {
            Self::Peers => {
                let items = read_list(raw).ok_or_else(wanted)?;
                peer::read(&items).map(Setting::Peers)
            }
            Self::Networks => networks::read(raw).map(Setting::Networks),
            Self::Binds => {
                let items = read_list(raw).ok_or_else(wanted)?;
                address::binds(&items).map(Setting::Addresses)
            }
            Self::HostNames => {
                let names = read_list(raw).ok_or_else(wanted)?;
                let names: Option<_> = names.iter().map(|name| address::host_name(name)).collect();
                names.ok_or_else(wanted).map(Setting::HostNames)
            }
            Self::Flag => read_flag(raw).ok_or_else(wanted).map(Setting::Flag),
            Self::Count { min, max } => {
                let count = scalar(raw).and_then(|text| units::parse_count(&text));
                in_range(count, min, max).ok_or_else(wanted).map(Setting::Count)
            }
            Self::Size { min, max } => {
                let size = scalar(raw).and_then(|text| units::parse_size(&text));
                in_range(size, min, max).ok_or_else(wanted).map(Setting::Size)
            }
            Self::Duration { min, max } => {
                let time = scalar(raw).and_then(|text| units::parse_duration(&text));
                in_range(time, min, max).ok_or_else(wanted).map(Setting::Duration)
            }
            Self::NodeName
            | Self::Path
            | Self::FileOrNone
            | Self::FolderOrNone
            | Self::SocketFile
            | Self::Bind
            | Self::BindOrNone
            | Self::Advertise
            | Self::HostPortOrNone
            | Self::Choice(_)
            | Self::LogLevel
            | Self::VersionOrNone
            | Self::Pattern => {
                let text = scalar(raw).ok_or_else(wanted)?;
                self.read_text(&text).map(Setting::Text)
            }
        }
    }

    fn read_text(self, text: &str) -> Result<String, Wanted> {
        let or_none = |read: Result<String, Wanted>| {
            if text.is_empty() { Ok(String::new()) } else { read }
        };
        match self {
            Self::Bind => address::bind(text),
            Self::BindOrNone => or_none(address::bind(text)),
            Self::Advertise => or_none(address::advertise(text)),
            Self::HostPortOrNone => or_none(address::host_port(text)),
            Self::Choice(words) => choice(text, words),
            Self::NodeName if text.parse::<mdp_catalog::NodeName>().is_err() => Err(self.wanted()),
            Self::Path if text.is_empty() => Err(self.wanted()),
            Self::LogLevel if !is_log_level(text) => Err(self.wanted()),
            Self::VersionOrNone if !text.is_empty() && !is_version(text) => Err(self.wanted()),
            Self::Pattern => pattern(text).ok_or_else(|| self.wanted()),
            Self::SocketFile => or_none(admin::socket_file(text)),
            Self::NodeName
            | Self::Path
            | Self::FileOrNone
            | Self::FolderOrNone
            | Self::LogLevel
            | Self::VersionOrNone
            | Self::Binds
            | Self::Peers
            | Self::Networks
            | Self::HostNames
            | Self::Flag
            | Self::Count { .. }
            | Self::Size { .. }
            | Self::Duration { .. } => Ok(text.to_owned()),
        }
    }

    /// What is right for a value of this kind, to follow "use".
    pub(crate) fn wanted(self) -> Wanted {
        match self {
            Self::NodeName => "1 to 63 letters, digits, '-', '_' or '.'".into(),
            Self::Path => "the path of a folder".into(),
            Self::FileOrNone => "the path of a file, or \"\" for none".into(),
            Self::FolderOrNone => "the path of a folder, or \"\" for none".into(),
            Self::SocketFile => admin::SOCKET_WANTED.into(),
            Self::Bind => address::BIND_WANTED.into(),
            Self::Binds => address::BINDS_WANTED.into(),
            Self::BindOrNone => format!("{}, or \"\" for the default", address::BIND_WANTED),
            Self::Advertise => address::ADVERTISE_WANTED.into(),
            Self::HostPortOrNone => address::HOST_PORT_WANTED.into(),
            Self::Duration { min, max } => format!(
                "a time with its unit from \"{}\" to \"{}\", such as \"500ms\", \"60s\" or \"15m\"",
                units::DurationText(min),
                units::DurationText(max)
            ),
            Self::Size { min, max } => format!(
                "a size from \"{}\" to \"{}\", such as \"64MiB\" (KiB, MiB, GiB, or bytes without unit)",
                units::SizeText(min),
                units::SizeText(max)
            ),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Flag => "true or false".into(),
            Self::Choice(words) => quoted(words),
            Self::Peers => peer::WANTED.into(),
            Self::Networks => networks::WANTED.into(),
            Self::HostNames => address::HOST_NAMES_WANTED.into(),
            Self::LogLevel => {
                "\"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\", also for parts of \
                 the program as in \"info,mdp_node=debug\""
                    .into()
            }
            Self::VersionOrNone => "a version such as \"1.4\", or \"\" for none".into(),
            Self::Pattern => format!(
                "1 to {SERVICE_NAME_BYTES_MAX} bytes of a service name, in which * stands for any \
                 bytes, outside of the broker's own \"mmi.\""
            ),
        }
    }
}

/// The text of anything that is one value; `None` for tables and lists.
pub(crate) fn scalar(raw: &ValueKind) -> Option<String> {
    match raw {
        ValueKind::String(text) => Some(text.trim().to_owned()),
        ValueKind::Boolean(flag) => Some(flag.to_string()),
        ValueKind::I64(number) => Some(number.to_string()),
        ValueKind::I128(number) => Some(number.to_string()),
        ValueKind::U64(number) => Some(number.to_string()),
        ValueKind::U128(number) => Some(number.to_string()),
        ValueKind::Float(number) => Some(number.to_string()),
        ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_) => None,
    }
}

/// A list of a file, or a comma-separated one of a variable.
pub(crate) fn read_list(raw: &ValueKind) -> Option<Vec<String>> {
    match raw {
        ValueKind::Array(items) => items.iter().map(|item| scalar(&item.kind)).collect(),
        ValueKind::String(text) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(items.map(str::to_owned).collect())
        }
        ValueKind::Nil
        | ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_)
        | ValueKind::Table(_) => None,
    }
}

fn read_flag(raw: &ValueKind) -> Option<bool> {
    scalar(raw)?.parse().ok()
}

fn in_range<T: PartialOrd>(value: Option<T>, min: T, max: T) -> Option<T> {
    value.filter(|value| (min..=max).contains(value))
}

fn choice(text: &str, words: &[&str]) -> Result<String, Wanted> {
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    let meant = super::problem::nearest(text, words.iter().copied());
    let meant = meant.map(|word| format!("; did you mean \"{word}\"?")).unwrap_or_default();
    Err(format!("{}{meant}", quoted(words)))
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
}

/// `LEVEL` or `TARGET=LEVEL`, comma-separated.
fn is_log_level(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    text.split(',').all(|part| {
        let (target, level) = part.split_once('=').unwrap_or(("all", part));
        !target.is_empty() && LEVELS.contains(&level)
    })
}

fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    (2..=3).contains(&parts.len()) && parts.iter().all(|part| part.parse::<u16>().is_ok())
}

fn pattern(text: &str) -> Option<String> {
    let is_right = (1..=SERVICE_NAME_BYTES_MAX).contains(&text.len());
    // MMI8-02: no worker can serve these names, so a rule for them has no meaning.
    let is_reserved = text.as_bytes().starts_with(MMI_PREFIX);
    (is_right && !is_reserved).then(|| text.to_owned())
}

impl Setting {
    /// The value in JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Duration(time) => units::DurationText(*time).to_string().into(),
            Self::Size(bytes) => units::SizeText(*bytes).to_string().into(),
            Self::Count(count) => (*count).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Addresses(addresses) => match addresses.as_slice() {
                [address] => address.as_str().into(),
                several => several.into(),
            },
            Self::HostNames(names) => names.as_slice().into(),
            Self::Peers(peers) => peers.iter().map(Peer::to_string).collect(),
            Self::Networks(networks) => networks
                .iter()
                .map(|entry| {
                    serde_json::json!({ "from": entry.from.to_string(), "address": entry.address })
                })
                .collect(),
        }
    }
}

/// The value in TOML, which for most kinds is written as JSON is.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Networks(networks) => networks::InToml(networks).fmt(f),
            Self::Text(_)
            | Self::Duration(_)
            | Self::Size(_)
            | Self::Count(_)
            | Self::Flag(_)
            | Self::Addresses(_)
            | Self::HostNames(_)
            | Self::Peers(_) => self.to_json().fmt(f),
        }
    }
}
