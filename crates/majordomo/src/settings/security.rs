//! `[security]`: what a node lets strangers do.

use mdp_node::BindAddress;

use super::Settings;

impl Settings {
    /// The keys and addresses at which other machines reach this node without proving who they are, and of
    /// which `security.insecure` does not say that this is meant.
    pub(crate) fn open_ports(&self) -> Vec<(&'static str, &str)> {
        if self.flag("security.insecure") {
            return Vec::new();
        }
        let of_clients = self.addresses("broker.bind").iter();
        let of_clients = of_clients.map(|address| ("broker.bind", address.as_str()));
        // A node without peers opens no port for them. That for relay follows cluster.bind, if it has no
        // address of its own.
        let of_nodes = ["cluster.bind", "cluster.relay_bind"]
            .into_iter()
            .filter(|_| !self.peers().is_empty())
            .map(|key| (key, self.text(key)))
            .filter(|(_, address)| !address.is_empty());
        of_clients
            .chain(of_nodes)
            .filter(|(_, address)| is_reached_from_elsewhere(address))
            .collect()
    }
}

/// A name counts as one that others reach: what it stands for is known when it is bound.
fn is_reached_from_elsewhere(address: &str) -> bool {
    let is_localhost = address.starts_with("tcp://localhost:");
    match address.parse::<BindAddress>() {
        Ok(BindAddress::Tcp(endpoint)) => !endpoint.is_loopback() && !is_localhost,
        Ok(BindAddress::Ipc(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_unix_sockets_are_reached_from_here_alone() {
        for address in ["tcp://127.0.0.1:1", "tcp://[::1]:1", "tcp://localhost:1", "ipc:///run/x"] {
            assert!(!is_reached_from_elsewhere(address), "{address}");
        }
        for address in ["tcp://*:1", "tcp://0.0.0.0:1", "tcp://eth0:1", "tcp://[fe80::1%eth0]:1"] {
            assert!(is_reached_from_elsewhere(address), "{address}");
        }
    }
}
