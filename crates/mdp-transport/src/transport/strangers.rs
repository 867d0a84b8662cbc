//! [`Strangers`]: peers that have not introduced themselves, and which of them has to go when there are too
//! many.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{ConnectionId, LocalProcess, PeerAddress};

/// A host that holds more than this part of the places gives one of its own first.
const SHARE: usize = 16;

/// How far a stranger has come. Those that have come less far go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// It has said nothing, or not the first command of CURVE.
    Silent,
    /// It has said HELLO, for which it has to know the server's key.
    Begun,
}

/// Where strangers come from, as far as one attacker may choose the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    V4(u32),
    /// The first 64 bits: a host has all the others for itself (RFC 4291, 2.5.1).
    V6(u64),
    Local(Option<LocalProcess>),
}

impl From<PeerAddress> for Host {
    fn from(address: PeerAddress) -> Self {
        match address {
            PeerAddress::Ip(address) => match address.ip().to_canonical() {
                IpAddr::V4(v4) => Self::V4(v4.to_bits()),
                IpAddr::V6(v6) => {
                    let network = v6.to_bits() >> 64;
                    Self::V6(u64::try_from(network).unwrap_or_default())
                }
            },
            PeerAddress::Local(local) => Self::Local(local.process),
        }
    }
}

/// Those that may go, the first one first: the silent ones, and of these the oldest.
type Line = BTreeSet<(Progress, ConnectionId)>;

/// The peers that have not introduced themselves. Each operation takes a few steps in a tree, however many there
/// are: under a flood of connections it is called for every one of them.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    all: BTreeMap<ConnectionId, (Host, Progress)>,
    line: Line,
    lines: BTreeMap<Host, Line>,
    /// The hosts by how many they hold.
    sizes: BTreeSet<(usize, Host)>,
}

impl Strangers {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn insert(&mut self, id: ConnectionId, address: PeerAddress) {
        self.put(id, Host::from(address), Progress::Silent);
    }

    /// It has said the first command of CURVE.
    pub(super) fn on_hello(&mut self, id: ConnectionId) {
        if let Some(host) = self.take(id) {
            self.put(id, host, Progress::Begun);
        }
    }

    pub(super) fn remove(&mut self, id: ConnectionId) {
        self.take(id);
    }

    /// The one that goes when there are too many of them, of which there may be `max`. If one host holds more
    /// than its share, it is one of that host's: the HELLOs of one host end no connection of another. Silent ones
    /// go before those that have said HELLO, and older ones before younger ones.
    pub(super) fn first_to_go(&self, max: usize) -> Option<ConnectionId> {
        let (most, host) = self.sizes.last()?;
        let line = if *most > (max / SHARE).max(1) { self.lines.get(host)? } else { &self.line };
        line.first().map(|(_, id)| *id)
    }

    fn put(&mut self, id: ConnectionId, host: Host, progress: Progress) {
        self.all.insert(id, (host, progress));
        self.line.insert((progress, id));
        let line = self.lines.entry(host).or_default();
        self.sizes.remove(&(line.len(), host));
        line.insert((progress, id));
        self.sizes.insert((line.len(), host));
    }

    /// Takes one out, and says whose it is.
    fn take(&mut self, id: ConnectionId) -> Option<Host> {
        let (host, progress) = self.all.remove(&id)?;
        self.line.remove(&(progress, id));
        let line = self.lines.get_mut(&host)?;
        self.sizes.remove(&(line.len(), host));
        line.remove(&(progress, id));
        if line.is_empty() {
            self.lines.remove(&host);
        } else {
            self.sizes.insert((line.len(), host));
        }
        Some(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> PeerAddress {
        PeerAddress::from(text.parse::<std::net::SocketAddr>().unwrap())
    }

    fn id(number: u64) -> ConnectionId {
        ConnectionId::from_number(number)
    }

    /// Strangers with numbers from 1 on, and those of them that have said HELLO.
    fn strangers(addresses: &[&str], hellos: &[u64]) -> Strangers {
        let mut strangers = Strangers::default();
        for (number, text) in (1..).zip(addresses) {
            strangers.insert(id(number), address(text));
        }
        hellos.iter().for_each(|number| strangers.on_hello(id(*number)));
        strangers
    }

    /// The order in which they go if there may be this number of them.
    fn order(mut strangers: Strangers, max: usize) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some(first) = strangers.first_to_go(max) {
            strangers.remove(first);
            order.push(first.number());
        }
        assert!(strangers.line.is_empty() && strangers.lines.is_empty());
        assert_eq!((strangers.sizes.len(), strangers.len()), (0, 0));
        order
    }

    #[test]
    fn silent_ones_go_before_those_that_said_hello_and_older_ones_before_younger_ones() {
        let hosts = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"];
        assert_eq!(order(strangers(&hosts, &[]), 4), [1, 2, 3, 4]);
        assert_eq!(order(strangers(&hosts, &[1, 3]), 4), [2, 4, 1, 3]);
    }

    #[test]
    fn host_that_holds_more_than_its_share_goes_first_whatever_it_said() {
        let hosts = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.2:2", "10.0.0.2:3", "10.0.0.3:1"];
        assert_eq!(order(strangers(&hosts, &[2, 3, 4]), 5), [2, 3, 1, 5, 4]);
        // Within its share it does not.
        assert_eq!(order(strangers(&hosts, &[2, 3, 4]), 4 * SHARE), [1, 5, 2, 3, 4]);
    }

    #[test]
    fn network_of_64_bits_is_one_host() {
        let hosts =
            ["[fd00::1]:1", "[fd00:0:0:1::1]:1", "[fd00:0:0:1:ffff::2]:1", "[fd00::2:0:0:1]:1"];
        let mut strangers = strangers(&hosts, &[1, 2, 3, 4]);
        assert_eq!(strangers.lines.len(), 2);
        strangers.remove(id(2));
        assert_eq!(
            strangers.first_to_go(2),
            Some(id(1)),
            "two of fd00::/64, one of fd00:0:0:1::/64"
        );
    }

    #[test]
    fn one_that_is_not_there_changes_nothing() {
        let mut strangers = strangers(&["10.0.0.1:1"], &[]);
        strangers.on_hello(id(9));
        strangers.remove(id(9));
        assert_eq!(order(strangers, 1), [1]);
    }
}
