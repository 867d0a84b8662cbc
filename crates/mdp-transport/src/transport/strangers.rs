//! [`Strangers`]: the connections whose peers have not introduced themselves, and which of them goes first.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{ConnectionId, PeerAddress};

/// Where strangers come from. Who has one address of IPv6 has 2^64 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    V4(u32),
    /// The upper half of the address.
    V6(u64),
    Local,
}

impl From<PeerAddress> for Host {
    fn from(address: PeerAddress) -> Self {
        match address.ip() {
            Some(IpAddr::V4(v4)) => Self::V4(v4.to_bits()),
            Some(IpAddr::V6(v6)) => {
                Self::V6(u64::try_from(v6.to_bits() >> u64::BITS).unwrap_or(u64::MAX))
            }
            None => Self::Local,
        }
    }
}

/// Connections in the order of their age: those that are silent so far, and the others.
#[derive(Debug, Default)]
struct ByAge {
    silent: BTreeSet<ConnectionId>,
    begun: BTreeSet<ConnectionId>,
}

impl ByAge {
    fn len(&self) -> usize {
        self.silent.len() + self.begun.len()
    }

    fn insert(&mut self, id: ConnectionId, has_begun: bool) {
        if has_begun {
            self.begun.insert(id)
        } else {
            self.silent.insert(id)
        };
    }

    fn remove(&mut self, id: ConnectionId) {
        self.silent.remove(&id);
        self.begun.remove(&id);
    }

    /// The oldest silent one, or else the oldest.
    fn first(&self) -> Option<ConnectionId> {
        self.silent.first().or_else(|| self.begun.first()).copied()
    }
}

/// The connections whose peers have not introduced themselves. Each step takes logarithmic time, for a crowd of
/// attackers makes many.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    hosts: BTreeMap<ConnectionId, Host>,
    all: ByAge,
    by_host: BTreeMap<Host, ByAge>,
    /// How many each host has.
    counts: BTreeSet<(usize, Host)>,
}

impl Strangers {
    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }

    pub(super) fn insert(&mut self, id: ConnectionId, address: PeerAddress) {
        let host = Host::from(address);
        self.hosts.insert(id, host);
        self.all.insert(id, false);
        self.change(host, |connections| connections.insert(id, false));
    }

    /// The peer has sent what it begins with.
    pub(super) fn begun(&mut self, id: ConnectionId) {
        if let Some(host) = self.hosts.get(&id).copied()
            && self.all.silent.contains(&id)
        {
            self.all.remove(id);
            self.all.insert(id, true);
            let connections = self.by_host.entry(host).or_default();
            connections.remove(id);
            connections.insert(id, true);
        }
    }

    pub(super) fn remove(&mut self, id: ConnectionId) {
        if let Some(host) = self.hosts.remove(&id) {
            self.all.remove(id);
            self.change(host, |connections| connections.remove(id));
        }
    }

    /// Which one makes room for another: of the host that has most of them, so that one host keeps out no
    /// others; the oldest silent one, for a peer that means it says something at once.
    pub(super) fn next_to_end(&self) -> Option<ConnectionId> {
        match self.counts.last() {
            Some((count, host)) if *count > 1 => self.by_host.get(host)?.first(),
            _ => self.all.first(),
        }
    }

    fn change(&mut self, host: Host, change: impl FnOnce(&mut ByAge)) {
        let connections = self.by_host.entry(host).or_default();
        self.counts.remove(&(connections.len(), host));
        change(connections);
        let count = connections.len();
        if count > 0 {
            self.counts.insert((count, host));
        } else {
            self.by_host.remove(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn id(number: u64) -> ConnectionId {
        ConnectionId::from_number(number)
    }

    fn address(text: &str) -> PeerAddress {
        PeerAddress::from(text.parse::<SocketAddr>().unwrap())
    }

    /// In which order they go.
    fn order(mut strangers: Strangers) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some(next) = strangers.next_to_end() {
            strangers.remove(next);
            order.push(next.number());
        }
        assert_eq!(strangers.len(), 0);
        assert!(strangers.counts.is_empty() && strangers.by_host.is_empty());
        order
    }

    #[test]
    fn silent_ones_go_first_and_the_oldest_first_among_equals() {
        let mut strangers = Strangers::default();
        for number in 1..=5 {
            strangers.insert(id(number), address("10.0.0.1:1"));
        }
        strangers.begun(id(2));
        strangers.begun(id(1));
        strangers.begun(id(1));
        assert_eq!(order(strangers), [3, 4, 5, 1, 2]);
    }

    #[test]
    fn host_that_has_most_makes_room_although_it_speaks() {
        let mut strangers = Strangers::default();
        strangers.insert(id(1), address("10.0.0.1:1"));
        for number in 2..=4 {
            strangers.insert(id(number), address("10.0.0.2:1"));
            strangers.begun(id(number));
        }
        assert_eq!(strangers.next_to_end(), Some(id(2)));
        // When each has one, the silent one goes.
        assert_eq!(order(strangers), [2, 3, 1, 4]);
    }

    #[test]
    fn addresses_of_one_network_of_version_6_are_one_host() {
        let mut strangers = Strangers::default();
        strangers.insert(id(1), address("[2001:db8:0:1::1]:1"));
        for (number, last) in [(2, "::1"), (3, ":5::"), (4, "::3")] {
            strangers.insert(id(number), address(&format!("[2001:db8:0:2{last}]:1")));
        }
        assert_eq!(order(strangers), [2, 3, 1, 4]);
    }

    #[test]
    fn what_is_not_there_changes_nothing() {
        let mut strangers = Strangers::default();
        strangers.begun(id(1));
        strangers.remove(id(1));
        assert_eq!((strangers.len(), strangers.next_to_end()), (0, None));
    }
}
