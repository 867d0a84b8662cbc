//! Keys of nodes for a cluster under test, as `majordomo keygen --node` makes them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{ClusterNode, RawSocket, Reachable, TestCluster};

/// Both keys of a node, of Z85.
#[derive(Clone, Debug)]
pub struct NodeKey {
    /// The one to give away.
    pub public: String,
    /// The other one.
    pub secret: String,
}

impl NodeKey {
    /// One that no one else has.
    #[must_use]
    pub fn random() -> Self {
        let pair = zmq::CurveKeyPair::new().unwrap();
        let text = |key: &[u8]| zmq::z85_encode(key).unwrap();
        Self { public: text(&pair.public_key), secret: text(&pair.secret_key) }
    }

    fn write_secret(&self, path: &Path) {
        let Self { public, secret } = self;
        let text = format!("curve\n    public-key = \"{public}\"\n    secret-key = \"{secret}\"\n");
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn write_public(&self, path: &Path) {
        fs::write(path, format!("curve\n    public-key = \"{}\"\n", self.public)).unwrap();
    }

    /// A DEALER that shows this key, to a server of that key.
    #[must_use]
    pub fn dealer(&self, at: &(impl Reachable + ?Sized), server: &str) -> RawSocket {
        let context = zmq::Context::new();
        RawSocket::connect(at, &context, zmq::DEALER, |socket| {
            let key = |text: &str| zmq::z85_decode(text).unwrap();
            socket.set_curve_serverkey(&key(server))?;
            socket.set_curve_publickey(&key(&self.public))?;
            socket.set_curve_secretkey(&key(&self.secret))
        })
    }
}

/// The keys of the nodes of a cluster. Each node has a folder of its own with those of all.
#[derive(Debug)]
pub struct NodeKeys {
    keys: Vec<(String, NodeKey)>,
    folders: Vec<PathBuf>,
}

impl NodeKeys {
    /// Makes a key for each node, and gives it to all.
    #[must_use]
    pub fn of(cluster: &mut TestCluster) -> Self {
        let nodes = cluster.nodes_mut();
        let keys: Vec<_> =
            nodes.iter().map(|node| (node.name().to_owned(), NodeKey::random())).collect();
        let mut folders = Vec::new();
        for (node, (_, key)) in nodes.iter_mut().zip(&keys) {
            let folder = node.directory().join("keys");
            fs::create_dir_all(&folder).unwrap();
            key.write_secret(&node.directory().join("own.key_secret"));
            folders.push(folder);
        }
        let all = Self { keys, folders };
        (0..all.keys.len()).for_each(|number| all.add(number));
        all
    }

    /// From its next start on, the node uses them.
    pub fn set(node: &mut ClusterNode, security: &str) {
        let (key, keys) = (node.directory().join("own.key_secret"), node.directory().join("keys"));
        node.set("cluster.security", security);
        node.set("cluster.key_file", &key.display().to_string());
        node.set("cluster.keys_dir", &keys.display().to_string());
    }

    /// The key of a node.
    #[must_use]
    pub fn key(&self, node: usize) -> &NodeKey {
        &self.entry(node).1
    }

    fn entry(&self, node: usize) -> &(String, NodeKey) {
        self.keys.get(node).unwrap()
    }

    /// All nodes know a node's key.
    pub fn add(&self, node: usize) {
        let (name, key) = self.entry(node);
        for folder in &self.folders {
            key.write_public(&folder.join(format!("{name}.key")));
        }
    }

    /// No node knows a node's key any more.
    pub fn remove(&self, node: usize) {
        let (name, _) = self.entry(node);
        for folder in &self.folders {
            fs::remove_file(folder.join(format!("{name}.key"))).unwrap();
        }
    }
}
