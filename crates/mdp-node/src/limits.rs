//! The operating system's limit of open files: every connection is one.

use mdp_core::IncomingLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::StartError;

/// Fewer open files than this make a person think: 15,000 connections and what a node needs itself.
const OPEN_FILES_WANTED: u64 = 16_384;
/// What a node without peers opens before its first connection, with some to spare.
pub(crate) const OPEN_FILES_ALONE: u64 = 24;
/// How many of these a node does not need.
const OPEN_FILES_TO_SPARE: u64 = 10;
/// What is left for probes, the disk and the connections with other nodes, whatever clients do.
const OPEN_FILES_RESERVED: u64 = 64;
/// One in so many open files may be a connection of a program that found a port for nodes, at each of both
/// ports, within these bounds.
const VISITORS_SHARE: u64 = 16;
const VISITORS_MIN: u64 = 4;
const VISITORS_MAX: u64 = 256;
/// One in so many may be a connection that brought calls of a node, within these bounds: there are two of each
/// node, so that the least is right for eight.
const CALLERS_SHARE: u64 = 16;
const CALLERS_MIN: u64 = 16;
const CALLERS_MAX: u64 = 256;
/// What a node with peers opens before its first client: its log, and the connections of a few nodes.
pub(crate) const OPEN_FILES_WITH_PEERS: u64 = 64;
/// How many of these are for connections that others make to the ports for nodes: the least that both may
/// take.
const OPEN_FILES_FOR_INCOMING: u64 = 2 * VISITORS_MIN + CALLERS_MIN;
/// More than this is not asked for, even if it is allowed.
const OPEN_FILES_MAX: u64 = 1 << 20;

/// What a node opens before its first connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenFiles {
    /// With one address for clients and workers.
    pub(crate) base: u64,
    /// For each other one.
    pub(crate) more_listeners: u64,
}

/// Who may have how many open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// Clients and workers.
    pub(crate) peers: usize,
    /// Connections at each of both ports for nodes that brought nothing yet, and at the one for calls those
    /// that did.
    pub(crate) incoming: IncomingLimits,
}

/// Raises the limit as far as this process may, and warns if that is little.
///
/// # Errors
/// It is too little to start.
pub(crate) fn raise_open_files(own: OpenFiles) -> Result<Shares, StartError> {
    let needed = own.base.saturating_add(own.more_listeners);
    let limit = getrlimit(Resource::Nofile);
    let mut open_files = limit.current;
    if let Some(wanted) = raised(limit) {
        match setrlimit(Resource::Nofile, wanted) {
            Ok(()) => open_files = wanted.current,
            Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
        }
    }
    if let Some(limit) = open_files.filter(|limit| *limit < needed) {
        return Err(StartError::FileLimit { limit, needed });
    }
    warn_if_low(open_files);
    Ok(shares(open_files.unwrap_or(OPEN_FILES_MAX), own))
}

/// Clients and workers may have all but what is reserved, and where that is hardly anything, half of what
/// is not needed for the node itself and for the connections of others to its ports for nodes.
fn shares(open_files: u64, own: OpenFiles) -> Shares {
    let open_files = open_files.saturating_sub(own.more_listeners);
    let visitors = (open_files / VISITORS_SHARE).clamp(VISITORS_MIN, VISITORS_MAX);
    let callers = (open_files / CALLERS_SHARE).clamp(CALLERS_MIN, CALLERS_MAX);
    let both_ports = if has_peers(own) { 2 * visitors + callers } else { 0 };
    let spare = open_files.saturating_sub(itself(own) + both_ports);
    let reserved = OPEN_FILES_RESERVED + both_ports;
    let peers = open_files.saturating_sub(reserved).max(spare / 2).max(1);
    let count = |files| usize::try_from(files).unwrap_or(usize::MAX);
    let incoming = IncomingLimits { visitors_max: count(visitors), callers_max: count(callers) };
    Shares { peers: count(peers), incoming }
}

const fn has_peers(own: OpenFiles) -> bool {
    own.base == OPEN_FILES_WITH_PEERS
}

/// What a node needs without any connection of others, and with one address for clients and workers.
const fn itself(own: OpenFiles) -> u64 {
    let incoming = if has_peers(own) { OPEN_FILES_FOR_INCOMING } else { 0 };
    own.base.saturating_sub(OPEN_FILES_TO_SPARE + incoming)
}

/// The limit to ask for, if it is higher than the one in force. `None` stands for "no limit".
fn raised(limit: Rlimit) -> Option<Rlimit> {
    let reachable = limit.maximum.unwrap_or(OPEN_FILES_MAX).min(OPEN_FILES_MAX);
    let current = limit.current?;
    (current < reachable).then_some(Rlimit { current: Some(reachable), maximum: limit.maximum })
}

fn warn_if_low(limit: Option<u64>) {
    let Some(open_files) = limit.filter(|limit| *limit < OPEN_FILES_WANTED) else { return };
    tracing::warn!(
        open_files,
        wanted = OPEN_FILES_WANTED,
        "the limit of open files is low: beyond it new connections hang; raise the hard limit \
         (ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of docker)"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(current: u64, maximum: Option<u64>) -> Rlimit {
        Rlimit { current: Some(current), maximum }
    }

    #[test]
    fn most_open_files_are_for_clients_and_workers() {
        let left = |open_files, base, more_listeners| {
            shares(open_files, OpenFiles { base, more_listeners }).peers
        };
        assert_eq!(left(65_536, OPEN_FILES_ALONE, 0), 65_472);
        assert_eq!(left(65_536, OPEN_FILES_WITH_PEERS, 0), 64_704);
        assert_eq!(left(1_024, OPEN_FILES_WITH_PEERS, 0), 768);
        assert_eq!(left(1_024, OPEN_FILES_WITH_PEERS, 15), 756);
        // At the least, some of both can still work.
        assert_eq!(left(OPEN_FILES_ALONE, OPEN_FILES_ALONE, 0), 5);
        assert_eq!(left(OPEN_FILES_WITH_PEERS, OPEN_FILES_WITH_PEERS, 0), 5);
        assert_eq!(left(OPEN_FILES_ALONE + 15, OPEN_FILES_ALONE, 15), 5);
        let own = OpenFiles { base: OPEN_FILES_WITH_PEERS, more_listeners: 0 };
        let incoming = [64, 1_024, 1 << 20].map(|open_files| shares(open_files, own).incoming);
        assert_eq!(incoming.map(|limits| limits.visitors_max), [4, 64, 256]);
        assert_eq!(incoming.map(|limits| limits.callers_max), [16, 64, 256]);
    }

    #[test]
    fn all_shares_together_are_no_more_than_the_open_files() {
        for (base, more_listeners) in
            [(OPEN_FILES_ALONE, 0), (OPEN_FILES_WITH_PEERS, 0), (OPEN_FILES_WITH_PEERS, 15)]
        {
            let own = OpenFiles { base, more_listeners };
            for open_files in [64, 79, 100, 256, 1_024, 65_536, 1 << 20] {
                if open_files < base + more_listeners {
                    continue;
                }
                let Shares { peers, incoming } = shares(open_files, own);
                let IncomingLimits { visitors_max, callers_max } = incoming;
                let of_nodes = if has_peers(own) { 2 * visitors_max + callers_max } else { 0 };
                let sum = itself(own) + more_listeners + (peers + of_nodes) as u64;
                assert!(sum <= open_files, "{sum} of {open_files}, {own:?}");
            }
        }
    }

    #[test]
    fn limit_is_raised_to_what_is_allowed_and_never_lowered() {
        let raised_to = |from| raised(from).and_then(|limit| limit.current);

        assert_eq!(raised_to(limit(1_024, Some(4_096))), Some(4_096));
        assert_eq!(raised_to(limit(1_024, None)), Some(OPEN_FILES_MAX));
        assert_eq!(raised_to(limit(4_096, Some(4_096))), None);
        assert_eq!(raised_to(limit(OPEN_FILES_MAX * 2, None)), None);
        assert_eq!(raised_to(Rlimit { current: None, maximum: None }), None);
    }
}
