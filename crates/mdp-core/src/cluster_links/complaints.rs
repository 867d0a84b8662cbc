//! What was logged about other programs, so that it is logged once.

use std::{
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, Ipv6Addr},
};

use mdp_transport::PeerAddress;

/// How many are remembered; of more, the oldest are forgotten.
const COMPLAINTS_MAX: usize = 1_024;
/// The part of an IPv6 address that tells networks apart: within one, a machine can take any address.
const NETWORK_BITS: u128 = !0 << 64;

/// About whom, and what.
type Complaint = (Source, &'static str);

/// Where a program connects from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// A machine, whatever port it uses; of IPv6, the network of it.
    Ip(IpAddr),
    Other(String),
}

/// The complaints of late.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    known: BTreeSet<Complaint>,
    oldest_first: VecDeque<Complaint>,
}

impl Complaints {
    /// Whether this was not complained of before; it is known from now on.
    pub(super) fn is_new(&mut self, address: PeerAddress, what: &'static str) -> bool {
        let complaint = (source(address), what);
        if !self.known.insert(complaint.clone()) {
            return false;
        }
        self.oldest_first.push_back(complaint);
        if self.oldest_first.len() > COMPLAINTS_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

fn source(address: PeerAddress) -> Source {
    match address.ip().map(|ip| ip.to_canonical()) {
        Some(IpAddr::V6(ip)) => {
            Source::Ip(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & NETWORK_BITS)))
        }
        Some(ip) => Source::Ip(ip),
        None => Source::Other(address.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn from(ip: impl Into<IpAddr>) -> PeerAddress {
        PeerAddress::from(SocketAddr::new(ip.into(), 7))
    }

    #[test]
    fn machine_is_complained_of_once_and_an_ipv6_network_counts_as_one() {
        let mut complaints = Complaints::default();
        let ips = [
            "10.0.0.1",
            "::ffff:10.0.0.1",
            "10.0.0.2",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8:0:1::1",
        ];
        let news = ips.map(|ip| complaints.is_new(from(ip.parse::<IpAddr>().unwrap()), "no_zmtp"));
        assert_eq!(news, [true, false, true, true, false, true]);
        assert!(complaints.is_new(from([10, 0, 0, 1]), "stalled"));
    }

    #[test]
    fn oldest_complaint_is_forgotten() {
        let mut complaints = Complaints::default();
        let count = u32::try_from(COMPLAINTS_MAX).unwrap();
        assert!((0..=count).all(|ip| complaints.is_new(from(ip.to_be_bytes()), "no_zmtp")));
        assert!(!complaints.is_new(from(1_u32.to_be_bytes()), "no_zmtp"));
        assert!(complaints.is_new(from(0_u32.to_be_bytes()), "no_zmtp"));
        assert_eq!((complaints.known.len(), complaints.oldest_first.len()), (1_024, 1_024));
    }
}
