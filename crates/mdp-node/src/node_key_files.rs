//! [`NodeKeyFiles`]: the keys of nodes, as the files of `cluster.key_file` and `cluster.keys_dir` have them.
//!
//! What is broken changes nothing: the keys before it stay, and the error names the file that is wrong.

mod watch;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use mdp_catalog::NodeName;
use mdp_core::{LinkSecurity, NODE_KEYS_MAX, NodeKeys, SharedKey};
use mdp_transport::{PublicKey, SecretKey};
use thiserror::Error;
use zeroize::Zeroizing;

pub(crate) use self::watch::{Listeners, watch};
use crate::{identities::read_file, key_file::KeyFile};

/// The bits of a mode by which every user of the machine can do something.
const WORLD_BITS: u32 = 0o007;

/// Where the keys of nodes are, and what they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeKeyFiles {
    /// `cluster.security`; never [`Off`](LinkSecurity::Off).
    pub security: LinkSecurity,
    /// `cluster.key_file`: this node's own secret key.
    pub key_file: PathBuf,
    /// `cluster.keys_dir`: `NAME.key` with the public key of each node.
    pub keys_dir: PathBuf,
}

/// The keys of nodes can not be read.
#[derive(Debug, Error)]
pub enum NodeKeysError {
    /// The secret key is for all to read.
    #[error(
        "cluster.key_file = {}: every user of this machine can read it (mode {mode:04o}); take that away with \
         chmod o-rwx, and make a new key if others could read it",
        path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file is wrong.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The directory can not be read.
    #[error("cluster.keys_dir = {}: it can not be read: {error}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// There are too many keys.
    #[error("cluster.keys_dir = {} has more than {NODE_KEYS_MAX} keys of nodes", path.display())]
    TooMany {
        /// Which directory.
        path: PathBuf,
    },
    /// Two nodes have the same key.
    #[error(
        "cluster.keys_dir = {}: {} and {} have the same key; make one for each (majordomo keygen --node)",
        path.display(), nodes.first, nodes.second
    )]
    Shared {
        /// Which directory.
        path: PathBuf,
        /// Which nodes.
        nodes: SharedKey,
    },
    /// The other nodes would not know this one.
    #[error(
        "cluster.keys_dir = {}: it has no {node}.key with the key of cluster.key_file, by which the other nodes \
         know this one; put the public key that belongs to that file there, on every node",
        path.display()
    )]
    NotOwn {
        /// Which directory.
        path: PathBuf,
        /// This node.
        node: NodeName,
    },
}

impl NodeKeyFiles {
    /// Reads all keys, for the node of this name.
    ///
    /// # Errors
    /// A file is missing, broken, or for all to read; or they do not belong together.
    pub fn load(&self, node: &NodeName) -> Result<NodeKeys, NodeKeysError> {
        let own = self.own_key()?;
        let nodes = self.nodes()?;
        if nodes.get(node) != Some(&own.public()) {
            return Err(self.not_own(node));
        }
        self.keys(own, nodes)
    }

    fn not_own(&self, node: &NodeName) -> NodeKeysError {
        NodeKeysError::NotOwn { path: self.keys_dir.clone(), node: node.clone() }
    }

    fn keys(
        &self,
        own: SecretKey,
        nodes: BTreeMap<NodeName, PublicKey>,
    ) -> Result<NodeKeys, NodeKeysError> {
        let shared = |nodes| NodeKeysError::Shared { path: self.keys_dir.clone(), nodes };
        NodeKeys::new(self.security, own, nodes).map_err(shared)
    }

    fn own_key(&self) -> Result<SecretKey, NodeKeysError> {
        let path = &self.key_file;
        let wrong = |reason: String| NodeKeysError::File { path: path.clone(), reason };
        let mode = fs::metadata(path)
            .map_err(|error| wrong(format!("it can not be read: {error}")))?
            .mode();
        if mode & WORLD_BITS != 0 {
            return Err(NodeKeysError::Exposed { path: path.clone(), mode: mode & 0o7777 });
        }
        let content = Zeroizing::new(read_file(path).map_err(wrong)?);
        let file = parse(&content).map_err(wrong)?;
        let missing =
            "it has no secret key: cluster.key_file is NAME.key_secret of majordomo keygen --node";
        file.secret.ok_or_else(|| wrong(missing.to_owned()))
    }

    /// The public keys of all nodes.
    fn nodes(&self) -> Result<BTreeMap<NodeName, PublicKey>, NodeKeysError> {
        let directory = &self.keys_dir;
        let failed = |error| NodeKeysError::Directory { path: directory.clone(), error };
        let mut nodes = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // Kubernetes keeps the files of a Secret in hidden directories, and links to them.
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let path = directory.join(name);
            let wrong = |reason: String| NodeKeysError::File { path: path.clone(), reason };
            if name.ends_with(".key_secret") {
                let reason =
                    "a secret key does not belong here: each node has its own in cluster.key_file";
                return Err(wrong(reason.to_owned()));
            }
            let Some(name) = name.strip_suffix(".key") else { continue };
            if nodes.len() >= NODE_KEYS_MAX {
                return Err(NodeKeysError::TooMany { path: directory.clone() });
            }
            let (node, key) = public_key(name, &path).map_err(wrong)?;
            nodes.insert(node, key);
        }
        Ok(nodes)
    }
}

fn public_key(name: &str, path: &Path) -> Result<(NodeName, PublicKey), String> {
    let node = NodeName::from_str(name)
        .map_err(|error| format!("{name:?} is no name of a node: {error}"))?;
    let content = Zeroizing::new(read_file(path)?);
    let file = parse(&content)?;
    if file.secret.is_some() {
        return Err("it has a secret key, which does not belong here: give away NAME.key alone, and make a new \
                    pair if others could read it"
            .to_owned());
    }
    Ok((node, file.public))
}

fn parse(content: &[u8]) -> Result<KeyFile, String> {
    let text = str::from_utf8(content).map_err(|_| "it is no text in UTF-8".to_owned())?;
    KeyFile::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
