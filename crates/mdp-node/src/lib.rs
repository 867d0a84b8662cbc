//! One Majordomo node: the shell around the engine of `mdp-broker`.
//!
//! One thread owns the client port with its connections and the engine, and is the only place that
//! sleeps. Other threads reach it through an inbox. The engine decides, the
//! shell executes: it receives, sends, keeps what slow peers cannot take yet, tells the time, and
//! asks the cluster, which for a node without peers answers at once. A node with peers also has a
//! thread for the calls between nodes, and a runtime for consensus.
//!
//! ```
//! use mdp_node::{Node, NodeConfig};
//!
//! let mut config = NodeConfig::new("node-1".parse()?);
//! config.bind = vec!["tcp://127.0.0.1:0".to_owned()];
//! let node = Node::start(config)?;
//! println!("clients and workers connect to {}", node.endpoint());
//!
//! node.drain();
//! let receipt = node.wait()?;
//! assert_eq!(receipt.dropped, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod addresses;
mod admin;
mod bell;
mod bind_address;
mod binding;
mod broker_thread;
mod cluster_link;
mod config;
mod crypto;
mod endpoint;
mod identities;
mod inbox;
mod interfaces;
mod key_file;
mod limits;
mod node;
mod node_key_files;
mod notes;
mod poller;
mod port;
mod ports;
mod resolver;
mod secret_file;
mod security;
mod socket_file;
mod start;
mod version;
mod view;

pub use addresses::machine_name;
pub use admin::{
    ADMIN_SOCKET_BYTES_MAX, AdminAccess, AdminFileError, AdminFiles, AdminPort, AdminPortError,
    AdminPorts, AdminSecrets, AdminServer, AdminSocket, OwnNames, RemoteChanges, read_tokens,
};
pub use bind_address::{BINDS_MAX, BindAddress, SocketPath};
pub use binding::BindError;
pub use broker_thread::BrokerThreadError;
pub use cluster_link::LinkTotals;
pub use config::{ClusterConfig, NodeConfig};
pub use crypto::CRYPTO_THREADS_MAX;
pub use endpoint::{Endpoint, EndpointError};
pub use identities::{FileProblem, IdentityChanges, IdentityFiles, IdentityFilesError, Reload};
pub use key_file::{KeyFile, KeyFileError, fingerprint, new_secret_key};
pub use mdp_catalog::{NodeId, NodeName};
pub use mdp_core::{
    ConnectionReport, LinkLoss, LinkSecurity, LinkState, NodeReport, REPORT_CONNECTIONS_MAX,
    REPORT_SERVICES_MAX, REPORT_WAITING_MAX, REPORT_WORKERS_MAX, RelayReport, RelayTotals,
    ReportScope, WorkerReport,
};
pub use mdp_raft::{
    ChangeError, ClusterStatus, Consensus, MemberChange, MemberStatus, NotReady, Recovered, Role,
    Seed, Stop, StorageError, UpgradeState, UpgradeStatus, recover,
};
pub use mdp_replica::{Consistency, ReadTotals};
pub use mdp_transport::{PublicKey, SecretKey, TransportTotals};
pub use node::{DrainReceipt, Drainer, Node, NodeError};
pub use node_key_files::{NodeKeyFiles, NodeKeysError};
pub use secret_file::{SecretFileError, read_public_file};
pub use security::{IdentityStatus, SecurityConfig, SecurityError, SecurityMode};
pub use start::StartError;
pub use version::VERSION;
pub use view::{NodeView, ReportError};
