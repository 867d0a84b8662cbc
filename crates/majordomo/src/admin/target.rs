//! Where a running node is administered: as typed, as the environment says, or where it usually is.

use std::{
    env,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use mdp_node::Endpoint;

use super::{AdminError, unix};
use crate::args::ADMIN_DEFAULT;

/// The environment variable that stands for `--admin`.
const VARIABLE: &str = "MAJORDOMO_ADMIN";
/// Where sockets usually are: where an administrator put one for a service, and in the default data directory.
const SOCKETS: [&str; 2] = ["/run/majordomo/admin.sock", "./majordomo-data/admin.sock"];
/// How long a socket may take to say whether a program listens there.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a node is administered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// At a URL without a path.
    Url(String),
    /// At a Unix socket.
    Socket(PathBuf),
}

/// A target, and the sockets at which no program was before it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) target: Target,
    pub(super) tried: Tried,
}

/// The sockets at which no program was, each with the reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tried(Vec<(&'static str, String)>);

impl Found {
    /// What was typed, what the environment names, or the first of the usual places where a program is.
    pub(super) fn search(typed: Option<&str>) -> Result<Self, AdminError> {
        let variable = variable(VARIABLE).and_then(|text| text.into_string().ok());
        let named = typed.map(|text| ("--admin", text.to_owned()));
        if let Some((origin, text)) = named.or_else(|| variable.map(|text| (VARIABLE, text))) {
            let target = Target::parse(&text).ok_or(AdminError::Address { origin, text })?;
            return Ok(Self { target, tried: Tried::default() });
        }
        let mut tried = Tried::default();
        for path in SOCKETS {
            match unix::connect(Path::new(path), SOCKET_TIMEOUT) {
                Ok(_) => return Ok(Self { target: Target::Socket(path.into()), tried }),
                Err(error) => tried.0.push((path, error.to_string())),
            }
        }
        Ok(Self { target: Target::Url(ADMIN_DEFAULT.to_owned()), tried })
    }
}

impl Target {
    /// `unix:PATH`, `https://HOST:PORT` or `http://HOST:PORT`; `http://` and a `/` at the end make no difference.
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let is_path = !path.is_empty() && !path.contains('\0');
            return is_path.then(|| Self::Socket(path.into()));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some(_) => return None,
            None => ("http", text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let endpoint: Endpoint = Some(rest).filter(|rest| !rest.contains("://"))?.parse().ok()?;
        let is_somewhere = !endpoint.is_wildcard() && endpoint.port() != 0;
        let host_port = endpoint.to_string();
        let host_port = host_port.trim_start_matches("tcp://");
        is_somewhere.then(|| Self::Url(format!("{scheme}://{host_port}")))
    }

    /// Whether TLS is spoken there.
    pub(super) fn is_secured(&self) -> bool {
        matches!(self, Self::Url(url) if url.starts_with("https://"))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Behind what did not answer.
impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, error) in &self.0 {
            write!(f, "\n  tried before: unix:{path}: {error}")?;
        }
        Ok(())
    }
}

/// A variable of the environment that is set to something.
pub(super) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Option<String> {
        Target::parse(text).map(|target| target.to_string())
    }

    #[test]
    fn only_host_and_port_are_needed() {
        for text in ["http://host-1:5580", "http://host-1:5580/", "host-1:5580"] {
            assert_eq!(url(text).as_deref(), Some("http://host-1:5580"), "{text}");
        }
        assert_eq!(url("http://[::1]:5580").as_deref(), Some("http://[::1]:5580"));
        assert_eq!(url("https://h:1/").as_deref(), Some("https://h:1"));
        for bad in
            ["ftp://h:1", "tcp://h:1", "h", "http://h", "http://*:1", "h:0", "h:1/x", "unix:"]
        {
            assert_eq!(url(bad), None, "{bad}");
        }
    }

    #[test]
    fn sockets_are_paths_of_either_kind() {
        for (text, path) in [
            ("unix:/run/x", "/run/x"),
            ("unix:///run/x", "/run/x"),
            ("unix:majordomo-data/admin.sock", "majordomo-data/admin.sock"),
        ] {
            assert_eq!(Target::parse(text), Some(Target::Socket(path.into())), "{text}");
        }
    }
}
