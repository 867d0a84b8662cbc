//! What a machine must offer so that things can go wrong as they should. Each is tried at the start of
//! a run: it is brought about, seen to have its effect, and taken back. What is missing fails the run,
//! for what was not brought about did not pass.

mod probes;

use std::{env, sync::OnceLock};

/// Names of means to do without, separated by commas.
const WITHOUT: &str = "MAJORDOMO_TEST_WITHOUT";

/// A means to let something go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Means {
    /// A network namespace for each node. Nothing goes without it.
    Namespaces,
    /// Packets of one direction are dropped, and those of the other are not.
    Cut,
    /// Packets are lost at random.
    Loss,
    /// Packets are held back.
    Delay,
    /// A process is killed, or stopped and continued.
    Signals,
    /// A disk that is full.
    SmallDisk,
    /// System calls that fail.
    FailingCalls,
    /// Writes that were not synchronised are lost.
    LostWrites,
    /// A wall clock that jumps, beside a monotonic one that does not.
    WallClock,
}

impl Means {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Namespaces,
        Self::Cut,
        Self::Loss,
        Self::Delay,
        Self::Signals,
        Self::SmallDisk,
        Self::FailingCalls,
        Self::LostWrites,
        Self::WallClock,
    ];

    /// Its name in the environment and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Cut => "cut",
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::Signals => "signals",
            Self::SmallDisk => "small-disk",
            Self::FailingCalls => "failing-calls",
            Self::LostWrites => "lost-writes",
            Self::WallClock => "wall-clock",
        }
    }

    /// What to install or to be for it.
    const fn needs(self) -> &'static str {
        match self {
            Self::Namespaces => "root, iproute2, util-linux, and a kernel with bridge and veth",
            Self::Cut => "root, nftables, and a kernel with CONFIG_NF_TABLES_BRIDGE",
            Self::Loss => "root, nftables, and a kernel with CONFIG_NFT_NUMGEN",
            Self::Delay => "root, iptables, and a kernel with CONFIG_BRIDGE_NETFILTER and NFQUEUE",
            Self::Signals => "a shell",
            Self::SmallDisk => "root, mount, and a kernel with CONFIG_TMPFS",
            Self::FailingCalls => "strace, and leave to trace processes",
            Self::LostWrites => "a C compiler (cc, or CC in the environment)",
            Self::WallClock => "faketime",
        }
    }

    /// Whether whoever runs the tests has said to do without it.
    #[must_use]
    pub fn is_left_out(self) -> bool {
        left_out().contains(&self)
    }
}

/// The means that there are. Each is tried once in a process.
///
/// # Panics
/// One is missing that nobody said to do without.
#[must_use]
#[track_caller]
pub fn means() -> Vec<Means> {
    static MISSING: OnceLock<Vec<String>> = OnceLock::new();
    let present: Vec<Means> = Means::ALL.into_iter().filter(|means| !means.is_left_out()).collect();
    let missing = MISSING.get_or_init(|| {
        let missing = present.iter().filter_map(|means| {
            let error = probes::probe(*means).err()?;
            let (name, needs) = (means.name(), means.needs());
            Some(format!("{name}: {error}\n    it needs {needs}"))
        });
        missing.collect()
    });
    assert!(
        missing.is_empty(),
        "this machine can not bring about what the test needs. `cargo xtask install` may help; to \
         do without, set {WITHOUT}=NAME,NAME\n{}",
        missing.join("\n")
    );
    present
}

fn left_out() -> Vec<Means> {
    let names = env::var(WITHOUT).unwrap_or_default();
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(named).collect()
}

fn named(name: &str) -> Means {
    let known = Means::ALL.map(Means::name).join(", ");
    let found = Means::ALL.into_iter().find(|means| means.name() == name);
    found.unwrap_or_else(|| panic!("{WITHOUT} names {name:?}; there are: {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_means_has_a_name_of_its_own() {
        assert!(Means::ALL.into_iter().all(|means| named(means.name()) == means));
    }

    #[test]
    #[should_panic(expected = "there are: namespaces, cut")]
    fn unknown_name_is_no_permission() {
        assert_eq!(named("everything"), Means::Cut);
    }
}
