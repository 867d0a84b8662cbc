//! `[admin]`: where administration is, and who may use it.

use std::path::{Path, PathBuf};

use mdp_node::{
    ADMIN_SOCKET_BYTES_MAX, AdminAccess, AdminFiles, AdminSecrets, Endpoint, OwnNames,
    RemoteChanges,
};

use super::{Settings, kind::Setting, problem::Problem};

/// What is right for [`socket_file`].
pub(crate) const SOCKET_WANTED: &str = "the path of a Unix socket, of at most 107 bytes, as in \
     \"/run/majordomo/admin.sock\", \"off\" for none, or \"\" for admin.sock in the data directory of a node \
     with peers";
/// The word for no socket.
const OFF: &str = "off";
/// The name of the socket in a data directory.
const SOCKET_NAME: &str = "admin.sock";

/// Where the Unix socket for administration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminSocketChoice {
    /// At this path, by the configuration.
    Configured(PathBuf),
    /// In the data directory, for nothing else was said: a node can do without it.
    Default(PathBuf),
    /// Nowhere.
    Off,
}

/// The path of a Unix socket, or the word for none.
pub(crate) fn socket_file(text: &str) -> Result<String, String> {
    let is_file = !text.ends_with('/') && !text.contains(char::is_control);
    if is_file && text.len() <= ADMIN_SOCKET_BYTES_MAX {
        return Ok(text.to_owned());
    }
    let bytes = text.len();
    Err(format!("{SOCKET_WANTED}; this one has {bytes} bytes"))
}

impl Settings {
    /// `admin.hosts`.
    fn admin_hosts(&self) -> &[String] {
        if let Some(Setting::HostNames(names)) = self.setting("admin.hosts") {
            return names;
        }
        debug_assert!(false, "admin.hosts is no list of names");
        &[]
    }

    /// `admin.bind`; `None`: there is no administration port.
    pub(crate) fn admin_bind(&self) -> Option<&str> {
        Some(self.text("admin.bind")).filter(|address| !address.is_empty())
    }

    /// Whom the administration port serves: by which names, too.
    pub(crate) fn admin_access(&self, secrets: AdminSecrets) -> AdminAccess {
        let changes = if self.flag("admin.allow_remote") {
            RemoteChanges::Allowed
        } else {
            RemoteChanges::Refused
        };
        let networks = self.networks();
        let peers = self.peers();
        let addresses = [self.text("broker.advertise"), self.text("cluster.advertise")]
            .into_iter()
            .chain(networks.iter().map(|entry| entry.address.as_str()))
            .chain(peers.iter().map(|peer| peer.endpoint.as_str()));
        // Who configured an address trusts the host that it names.
        let hosts = addresses
            .filter_map(|address| Some(address.parse::<Endpoint>().ok()?.host_name()?.to_owned()));
        let names = peers.iter().map(|peer| peer.name.as_str().to_owned());
        let own = [self.text("node.name").to_owned(), mdp_node::machine_name()];
        let names = own.into_iter().chain(names).chain(hosts);
        let names = OwnNames::new(names.chain(self.admin_hosts().iter().cloned()));
        let (warnings, open_ports) = (self.advice(), self.open_ports().len());
        AdminAccess { changes, names, secrets, warnings, open_ports }
    }

    /// Where the Unix socket for administration is. A node without peers has no data directory.
    pub(crate) fn admin_socket(&self) -> AdminSocketChoice {
        match self.text("admin.socket") {
            OFF => AdminSocketChoice::Off,
            "" if self.peers().is_empty() => AdminSocketChoice::Off,
            "" => AdminSocketChoice::Default(self.data_dir().join(SOCKET_NAME)),
            path => AdminSocketChoice::Configured(path.into()),
        }
    }

    /// The files of tokens, and of the certificate.
    pub(crate) fn admin_files(&self) -> AdminFiles {
        let file = |key| {
            let path = Path::new(self.text(key));
            (!path.as_os_str().is_empty()).then(|| path.to_owned())
        };
        AdminFiles {
            token: file("admin.token_file"),
            read_token: file("admin.read_token_file"),
            certificate: file("admin.cert_file").zip(file("admin.key_file")),
        }
    }
}

/// What is wrong with the files although each alone is right.
pub(super) fn file_problems(settings: &Settings) -> Vec<Problem> {
    let rules = [
        ("admin.cert_file", "admin.key_file", "TLS needs both: the certificate and its key"),
        ("admin.key_file", "admin.cert_file", "TLS needs both: the certificate and its key"),
        (
            "admin.read_token_file",
            "admin.token_file",
            "pages would need a token, and changes none: set both, or the latter alone",
        ),
    ];
    let is_set = |key: &str| !settings.text(key).is_empty();
    rules
        .into_iter()
        .filter(|(key, needed, _)| is_set(key) && !is_set(needed))
        .filter_map(|(key, needed, reason)| {
            let known = settings.values.get(key)?;
            Some(Problem::refused(key, &known.raw, &format!("{needed} is not set; {reason}")))
        })
        .collect()
}

/// What those can do who reach the port from other machines.
pub(super) fn port_advice(settings: &Settings) -> Option<String> {
    let bind = settings.admin_bind().filter(|bind| is_reached_from_elsewhere(bind))?;
    let files = settings.admin_files();
    if files.token.is_some() && files.certificate.is_none() {
        return Some(format!(
            "admin.bind = \"{bind}\" is reached from other machines, and tokens go there as they are, for every \
             listener to read: set admin.cert_file and admin.key_file"
        ));
    }
    let is_open = files.token.is_none() && settings.flag("admin.allow_remote");
    (is_open && !settings.flag("security.insecure")).then(|| {
        format!(
            "whatever reaches {bind} can stop this node and change its cluster (admin.allow_remote): set \
             admin.token_file"
        )
    })
}

fn is_reached_from_elsewhere(bind: &str) -> bool {
    let is_loopback = |bind: &str| bind.parse::<Endpoint>().is_ok_and(|bind| bind.is_loopback());
    !bind.starts_with("localhost:") && !is_loopback(bind)
}
