//! [`BindAddress`]: where clients and workers may connect.

use std::{fmt, path::Path, str::FromStr};

use crate::{
    Endpoint, EndpointError,
    endpoint::{PATH_BYTES_MAX, Problem},
};

/// How many addresses a node listens at for clients and workers.
pub const BINDS_MAX: usize = 16;

/// An address to listen at: `tcp://HOST:PORT`, or `ipc:///PATH` for programs on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// By TCP.
    Tcp(Endpoint),
    /// By a Unix socket.
    Ipc(SocketPath),
}

/// The absolute path of a Unix socket, short enough for the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPath(String);

impl BindAddress {
    /// The address of a host, if it is one.
    #[must_use]
    pub const fn tcp(&self) -> Option<&Endpoint> {
        match self {
            Self::Tcp(endpoint) => Some(endpoint),
            Self::Ipc(_) => None,
        }
    }

    /// Whether only one of both can be bound at a time.
    #[must_use]
    pub fn collides_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(other)) => one.collides_with(other),
            (Self::Ipc(one), Self::Ipc(other)) => one == other,
            (Self::Tcp(_), Self::Ipc(_)) | (Self::Ipc(_), Self::Tcp(_)) => false,
        }
    }
}

impl SocketPath {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<Path> for SocketPath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl FromStr for BindAddress {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match text.split_once("://") {
            Some(("ipc", path)) => {
                let path = socket_path(path).map_err(|problem| problem.of(text))?;
                Ok(Self::Ipc(path))
            }
            None | Some(("tcp", _)) => text.parse().map(Self::Tcp),
            Some(_) => Err(Problem::NotTcpOrIpc.of(text)),
        }
    }
}

fn socket_path(path: &str) -> Result<SocketPath, Problem> {
    let is_file = path.starts_with('/') && !path.ends_with('/') && !path.contains(char::is_control);
    if is_file && path.len() <= PATH_BYTES_MAX {
        Ok(SocketPath(path.to_owned()))
    } else {
        Err(Problem::BadPath)
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(endpoint) => write!(f, "{endpoint}"),
            Self::Ipc(SocketPath(path)) => write!(f, "ipc://{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemes_come_back_and_tcp_is_optional() {
        for (text, full) in [
            ("*:5555", "tcp://*:5555"),
            ("tcp://[::1]:1", "tcp://[::1]:1"),
            ("ipc:///run/majordomo/clients", "ipc:///run/majordomo/clients"),
        ] {
            assert_eq!(text.parse::<BindAddress>().unwrap().to_string(), full);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        let longest = "x".repeat(PATH_BYTES_MAX - 1);
        assert!(format!("ipc:///{longest}").parse::<BindAddress>().is_ok());
        for (text, reason) in [
            (format!("ipc:///{longest}x"), "at most 107 bytes"),
            ("ipc:///run/\0".to_owned(), "absolute path"),
            ("ipc://run/x".to_owned(), "absolute path"),
            ("ipc://@abstract".to_owned(), "absolute path"),
            ("ipc:///run/".to_owned(), "path of a file"),
            ("udp://a:1".to_owned(), "only tcp:// and ipc://"),
            ("tcp://a".to_owned(), "port is missing"),
        ] {
            let error = text.parse::<BindAddress>().unwrap_err();
            assert!(error.reason().contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn paths_collide_with_themselves_alone() {
        let address = |text: &str| text.parse::<BindAddress>().unwrap();
        assert!(address("ipc:///a").collides_with(&address("ipc:///a")));
        assert!(!address("ipc:///a").collides_with(&address("ipc:///b")));
        assert!(!address("*:1").collides_with(&address("ipc:///a")));
        assert!(address("*:1").collides_with(&address("h:1")));
    }
}
