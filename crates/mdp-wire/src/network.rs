//! Networks of clients, and the addresses that a node tells the clients of each.

use std::{cmp::Reverse, fmt, net::IpAddr, str::FromStr};

use thiserror::Error;

/// For how many networks one node can have an address of its own.
pub const CLIENT_NETWORKS_MAX: usize = 16;

/// A range of IP addresses: those whose first bits are the same, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why something is no [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// Not `ADDRESS/BITS`.
    #[error("a network is ADDRESS/BITS, such as 10.0.0.0/8 or fd00::/8")]
    NotCidr,
    /// More bits than an address has.
    #[error("an address of this kind has {max} bits")]
    TooManyBits {
        /// How many bits it has.
        max: u8,
    },
    /// The address has bits behind the prefix.
    #[error("the address has bits behind the prefix; the network of this address is {network}")]
    HostBits {
        /// The network that the address belongs to.
        network: Network,
    },
    /// Addresses of version 4 written as those of version 6.
    #[error(
        "a client with an address of version 4 counts as one of version 4: write the network so"
    )]
    Mapped,
}

impl Network {
    /// The network with this first address, and so many common bits.
    ///
    /// # Errors
    /// There are not so many bits, or the address is not the first one.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, NetworkError> {
        let max = bits_of(address);
        if prefix > max {
            return Err(NetworkError::TooManyBits { max });
        }
        let network = Self { address: first_of(address, prefix), prefix };
        if network.address != address {
            return Err(NetworkError::HostBits { network });
        }
        if address.to_canonical().is_ipv4() && address.is_ipv6() {
            return Err(NetworkError::Mapped);
        }
        Ok(network)
    }

    /// The first address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits all addresses have in common.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether an address belongs to it. One of version 4 written as one of version 6, as a socket for
    /// both shows it, is one of version 4.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        bits_of(address) == bits_of(self.address) && first_of(address, self.prefix) == self.address
    }
}

const fn bits_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with nothing but its first bits.
fn first_of(address: IpAddr, prefix: u8) -> IpAddr {
    let behind = u32::from(bits_of(address).saturating_sub(prefix));
    // A shift by all bits leaves nothing.
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').ok_or(NetworkError::NotCidr)?;
        let address: IpAddr = address.parse().map_err(|_| NetworkError::NotCidr)?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NetworkError::NotCidr);
        }
        let too_many = NetworkError::TooManyBits { max: bits_of(address) };
        Self::new(address, prefix.parse().map_err(|_| too_many)?)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The address that a node tells the clients of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkAddress {
    /// Where the clients come from.
    pub from: Network,
    /// The address of the node, such as `tcp://node-1.internal:5555`.
    pub address: String,
}

/// The addresses that one node tells the clients of each network, at most [`CLIENT_NETWORKS_MAX`].
/// Networks may lie in each other; no two are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientNetworks {
    /// The smallest networks first, so that the first one that contains an address is the right one.
    entries: Vec<NetworkAddress>,
}

/// Why a list is no [`ClientNetworks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClientNetworksError {
    /// The list is too long.
    #[error("{got} networks are too many: there can be {CLIENT_NETWORKS_MAX}")]
    TooMany {
        /// How many there are.
        got: usize,
    },
    /// A network is there twice.
    #[error("{network} is there twice: give each network one address")]
    Repeated {
        /// Which one.
        network: Network,
    },
}

impl ClientNetworks {
    /// Checks a list, in any order.
    ///
    /// # Errors
    /// The list is too long, or a network is there twice.
    pub fn new(mut entries: Vec<NetworkAddress>) -> Result<Self, ClientNetworksError> {
        if entries.len() > CLIENT_NETWORKS_MAX {
            return Err(ClientNetworksError::TooMany { got: entries.len() });
        }
        entries.sort_by_key(|entry| (Reverse(entry.from.prefix), entry.from));
        let mut neighbours = entries.iter().zip(entries.iter().skip(1));
        if let Some((one, _)) = neighbours.find(|(one, next)| one.from == next.from) {
            return Err(ClientNetworksError::Repeated { network: one.from });
        }
        Ok(Self { entries })
    }

    /// The address for a client: that of the smallest network that the client's address belongs to.
    /// `None`: that of no network, so the node's one address for all others.
    #[must_use]
    pub fn address_for(&self, client: Option<IpAddr>) -> Option<&str> {
        let client = client?;
        let entry = self.entries.iter().find(|entry| entry.from.contains(client))?;
        Some(&entry.address)
    }

    /// The same networks with other addresses.
    ///
    /// # Errors
    /// The first that an address was refused with.
    pub fn try_map<E>(self, mut address: impl FnMut(&str) -> Result<String, E>) -> Result<Self, E> {
        let entries = self.entries.into_iter().map(|NetworkAddress { from, address: given }| {
            Ok(NetworkAddress { from, address: address(&given)? })
        });
        Ok(Self { entries: entries.collect::<Result<_, E>>()? })
    }

    /// The list, the smallest networks first.
    pub fn iter(&self) -> impl Iterator<Item = &NetworkAddress> {
        self.entries.iter()
    }

    /// Whether there is one address for all clients.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn entry((from, address): (&str, &str)) -> NetworkAddress {
        NetworkAddress { from: network(from), address: address.to_owned() }
    }

    fn networks(entries: &[(&str, &str)]) -> Result<ClientNetworks, ClientNetworksError> {
        ClientNetworks::new(entries.iter().copied().map(entry).collect())
    }

    #[test]
    fn networks_are_shown_as_they_are_read() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "127.0.0.1/32", "fd00::/8", "::/0", "::1/128"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("fd00:0:0::0/08").to_string(), "fd00::/8");
    }

    #[test]
    fn text_that_is_no_network_is_refused_with_what_would_be_right() {
        let error = |text: &str| text.parse::<Network>().unwrap_err();
        for text in
            ["", "10.0.0.0", "10.0.0.0/", "/8", "10.0/8", "h/8", "10.0.0.0/+8", "10.0.0.0/8/8"]
        {
            assert_eq!(error(text), NetworkError::NotCidr, "{text}");
        }
        assert_eq!(error("10.0.0.0/33"), NetworkError::TooManyBits { max: 32 });
        assert_eq!(error("10.0.0.0/999"), NetworkError::TooManyBits { max: 32 });
        assert_eq!(error("fd00::/129"), NetworkError::TooManyBits { max: 128 });
        assert_eq!(error("10.1.2.3/8"), NetworkError::HostBits { network: network("10.0.0.0/8") });
        assert_eq!(error("10.0.0.0/0"), NetworkError::HostBits { network: network("0.0.0.0/0") });
        assert_eq!(error("::ffff:10.0.0.0/104"), NetworkError::Mapped);
    }

    #[test]
    fn longest_prefix_wins_in_any_order() {
        let entries = [
            ("0.0.0.0/0", "all"),
            ("10.0.0.0/8", "ten"),
            ("10.1.2.3/32", "one"),
            ("10.1.0.0/16", "part"),
        ];
        let mut backward = entries;
        backward.reverse();
        for entries in [entries, backward] {
            let networks = networks(&entries).unwrap();
            for (client, address) in [
                ("10.1.2.3", "one"),
                ("10.1.2.4", "part"),
                ("10.2.0.0", "ten"),
                ("11.0.0.0", "all"),
                ("255.255.255.255", "all"),
            ] {
                assert_eq!(networks.address_for(client.parse().ok()), Some(address), "{client}");
            }
        }
    }

    #[test]
    fn clients_of_no_network_have_no_address_of_their_own() {
        let networks = networks(&[("10.0.0.0/8", "ten"), ("fd00::/8", "six")]).unwrap();
        for client in ["11.0.0.1", "9.255.255.255", "::1", "fe00::1", "::ffff:11.0.0.1"] {
            assert_eq!(networks.address_for(client.parse().ok()), None, "{client}");
        }
        assert_eq!(networks.address_for(None), None);
        assert_eq!(ClientNetworks::default().address_for("10.0.0.1".parse().ok()), None);
    }

    #[test]
    fn mapped_address_is_one_of_version_4() {
        let networks = networks(&[("10.0.0.0/8", "ten"), ("::/0", "six")]).unwrap();

        assert_eq!(networks.address_for("::ffff:10.1.2.3".parse().ok()), Some("ten"));
        assert_eq!(networks.address_for("::ffff:11.1.2.3".parse().ok()), None);
        assert_eq!(networks.address_for("::a01:203".parse().ok()), Some("six"));
    }

    #[test]
    fn list_has_a_limit_and_every_network_once() {
        let entry = |third: usize| entry((&format!("10.0.{third}.0/24"), "x"));
        let most: Vec<_> = (0..CLIENT_NETWORKS_MAX).map(entry).collect();
        assert_eq!(ClientNetworks::new(most.clone()).unwrap().iter().count(), CLIENT_NETWORKS_MAX);

        let more = most.into_iter().chain([entry(200)]).collect();
        let too_many = ClientNetworksError::TooMany { got: CLIENT_NETWORKS_MAX + 1 };
        assert_eq!(ClientNetworks::new(more), Err(too_many));
        let twice = networks(&[("10.0.0.0/8", "a"), ("fd00::/8", "b"), ("10.0.0.0/8", "c")]);
        assert_eq!(twice, Err(ClientNetworksError::Repeated { network: network("10.0.0.0/8") }));
    }
}
