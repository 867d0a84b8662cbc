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
    Local(LocalPeer),
}

/// A peer on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalPeer {
    /// The path of the socket that it connected to. A process has a few of them, for all of its life.
    pub path: &'static str,
    /// Which process it is, if the system says so.
    pub process: Option<LocalProcess>,
}

/// A process on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalProcess {
    /// Its id when it connected; 0 if it has none here, as a process of another container has not.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

impl PeerAddress {
    /// The host.
    #[must_use]
    pub const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Local(_) => None,
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
            Self::Local(LocalPeer { path, process: None }) => write!(f, "ipc://{path}"),
            Self::Local(LocalPeer { path, process: Some(LocalProcess { pid: 0, uid }) }) => {
                write!(f, "ipc://{path} (uid {uid})")
            }
            Self::Local(LocalPeer { path, process: Some(LocalProcess { pid, uid }) }) => {
                write!(f, "ipc://{path} (pid {pid}, uid {uid})")
            }
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
    }

    #[test]
    fn process_of_a_local_peer_is_shown_as_far_as_it_is_known() {
        let shown = |process| {
            let address = PeerAddress::Local(LocalPeer { path: "/run/x", process });
            assert_eq!(address.ip(), None);
            address.to_string()
        };
        assert_eq!(shown(None), "ipc:///run/x");
        assert_eq!(shown(Some(LocalProcess { pid: 7, uid: 0 })), "ipc:///run/x (pid 7, uid 0)");
        assert_eq!(shown(Some(LocalProcess { pid: 0, uid: 5 })), "ipc:///run/x (uid 5)");
    }
}
