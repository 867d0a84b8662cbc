//! [`PeerAddress`]: where a peer connects from.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Where a peer connects from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerAddress {
    /// From a host, by TCP.
    Ip(SocketAddr),
    /// From this machine, by a Unix socket.
    Local,
}

impl PeerAddress {
    /// The host.
    #[must_use]
    pub const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Local => None,
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    /// An address of version 4 that a socket of version 6 took is one of version 4.
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(v4) => Self::Ip(SocketAddr::from((v4, address.port()))),
            IpAddr::V6(_) => Self::Ip(address),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Local => f.write_str("this machine"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_4_is_shown_as_such_whichever_socket_took_it() {
        let address = |text: &str| PeerAddress::from(text.parse::<SocketAddr>().unwrap());
        assert_eq!(address("[::ffff:10.0.0.7]:5").to_string(), "10.0.0.7:5");
        assert_eq!(address("10.0.0.7:5").to_string(), "10.0.0.7:5");
        assert_eq!(address("[fd00::7]:5").to_string(), "[fd00::7]:5");
        assert_eq!(PeerAddress::Local.ip(), None);
    }
}
