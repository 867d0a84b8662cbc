//! `[security]`: what a node lets strangers do.

use std::path::PathBuf;

use mdp_broker::Enforcement;
use mdp_node::{BindAddress, LinkSecurity, NodeKeyFiles, SecurityConfig, SecurityMode};

use super::{Settings, problem::Problem};

/// The keys that only mean something where links between nodes have keys.
const KEY_PATHS: [&str; 2] = ["cluster.key_file", "cluster.keys_dir"];

impl Settings {
    /// What proves who clients and workers are; `None`: nothing does (mode "off").
    pub(super) fn security(&self) -> Option<SecurityConfig> {
        let mode = match self.text("security.mode") {
            "mixed" => SecurityMode::Mixed,
            "on" => SecurityMode::On,
            _ => return None,
        };
        let next = Some(self.text("security.next_key_file")).filter(|path| !path.is_empty());
        let is_report = self.text("security.access") == "report";
        Some(SecurityConfig {
            mode,
            key_file: PathBuf::from(self.text("security.key_file")),
            next_key_file: next.map(PathBuf::from),
            identities_dir: PathBuf::from(self.text("security.identities_dir")),
            enforcement: if is_report { Enforcement::Report } else { Enforcement::Enforce },
        })
    }

    /// What a mode needs and does not have, and what has no effect without one.
    pub(super) fn security_problems(&self) -> Vec<Problem> {
        let mode = self.text("security.mode");
        let refuse = |key: &'static str, reason: String| {
            let known = self.values.get(key)?;
            Some(Problem::refused(key, &known.raw, &reason))
        };
        let needed = [
            ("security.key_file", "the secret key of the cluster (majordomo keygen)"),
            ("security.identities_dir", "the folder with a file for each identity"),
        ];
        let missing = needed.iter().filter(|(key, _)| mode != "off" && self.text(key).is_empty());
        let missing = missing.filter_map(|(key, what)| {
            refuse(
                "security.mode",
                format!("it needs {key}, {what}; set it, or set the mode to \"off\""),
            )
        });
        let named = ["security.key_file", "security.next_key_file", "security.identities_dir"];
        let idle = named.iter().filter(|key| mode == "off" && !self.text(key).is_empty());
        // A node that looks protected and is not would be worse than one that does not start.
        let idle = idle.filter_map(|key| {
            refuse(key, "it has no effect with security.mode = \"off\"; set the mode to \"mixed\" or \"on\", or leave this empty".to_owned())
        });
        missing.chain(idle).collect()
    }

    /// What protects the links between nodes.
    fn link_security(&self) -> LinkSecurity {
        match self.text("cluster.security") {
            "require" => LinkSecurity::Require,
            "prefer" => LinkSecurity::Prefer,
            _ => LinkSecurity::Off,
        }
    }

    /// Where the keys of nodes are; `None`: links have none.
    pub(super) fn node_keys(&self) -> Option<NodeKeyFiles> {
        let security = self.link_security();
        let [key_file, keys_dir] = KEY_PATHS.map(|key| PathBuf::from(self.text(key)));
        (security != LinkSecurity::Off).then_some(NodeKeyFiles { security, key_file, keys_dir })
    }

    /// What links between nodes need to have keys, and is not there.
    pub(super) fn missing_node_keys(&self) -> Vec<Problem> {
        let security = self.text("cluster.security");
        let is_off = self.link_security() == LinkSecurity::Off;
        let Some(known) = self.values.get("cluster.security").filter(|_| !is_off) else {
            return Vec::new();
        };
        let refused = |reason: &str| Problem::refused("cluster.security", &known.raw, reason);
        if self.peers().is_empty() {
            let reason =
                "there are no other nodes: set cluster.peers to all nodes, or this to \"off\"";
            return vec![refused(reason)];
        }
        let missing = KEY_PATHS.into_iter().filter(|key| self.text(key).is_empty());
        let wanted = |key: &str| match key {
            "cluster.key_file" => "NAME.key_secret of majordomo keygen NAME --node",
            _ => "a folder with NAME.key of each node",
        };
        let problem =
            |key| refused(&format!("\"{security}\" needs {key}: set it to {}", wanted(key)));
        missing.map(problem).collect()
    }

    /// Keys of nodes that are not used.
    pub(super) fn idle_node_keys(&self) -> Option<String> {
        let is_set = |key: &&str| !self.text(key).is_empty();
        let key = KEY_PATHS.into_iter().find(is_set)?;
        (self.link_security() == LinkSecurity::Off).then(|| {
            format!(
                "{key} is set and cluster.security is \"off\", so that links between nodes have no keys; \
                 set cluster.security to \"prefer\" or \"require\""
            )
        })
    }

    /// The keys and addresses at which other machines reach this node without proving who they are, and of
    /// which `security.insecure` does not say that this is meant.
    pub(crate) fn open_ports(&self) -> Vec<(&'static str, &str)> {
        if self.flag("security.insecure") {
            return Vec::new();
        }
        // In mode "mixed", too, peers without a key come in, with the grants of anonymous.toml.
        let is_proven = self.text("security.mode") != "off";
        let of_clients = self.addresses("broker.bind").iter().filter(|_| !is_proven);
        let of_clients = of_clients.map(|address| ("broker.bind", address.as_str()));
        // A node without peers opens no port for them. That for relay follows cluster.bind, if it has no
        // address of its own.
        let of_nodes = ["cluster.bind", "cluster.relay_bind"]
            .into_iter()
            .filter(|_| !self.peers().is_empty())
            // Only the key of a node opens these.
            .filter(|_| self.link_security() != LinkSecurity::Require)
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
