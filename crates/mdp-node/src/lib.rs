//! One Majordomo node: the shell around the engine of `mdp-broker`.
//!
//! One thread owns the front-end ROUTER and the engine, and is the only place that sleeps; libzmq
//! has its own threads for I/O. Other threads reach it through an inbox. The engine decides, the
//! shell executes: it receives, sends, keeps what slow peers cannot take yet, tells the time, and
//! asks the cluster, which for a node without peers answers at once.
//!
//! ```
//! use mdp_node::{Node, NodeConfig};
//!
//! let mut config = NodeConfig::new("node-1".parse()?);
//! config.bind = "tcp://127.0.0.1:0".to_owned();
//! let node = Node::start(config)?;
//! println!("clients and workers connect to {}", node.endpoint());
//!
//! node.drain();
//! let receipt = node.wait()?;
//! assert_eq!(receipt.dropped, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod broker_thread;
mod endpoint;
mod inbox;
mod limits;
mod local_cluster;
mod node;
mod notes;
mod outgoing;
mod router;
mod zeromq;

pub use broker_thread::BrokerThreadError;
pub use endpoint::{Endpoint, EndpointError};
pub use node::{DrainReceipt, Drainer, Node, NodeConfig, NodeError, StartError};
pub use router::BindError;
pub use zeromq::SocketError;
