//! What a node decides, without I/O.
//!
//! The crate opens no socket, reads no clock, starts no thread and draws no randomness: a shell
//! moves bytes between sockets and [`RelayLinks`], says what time it is, and looks up names.

mod relay_links;

pub use relay_links::{
    LinkLoss, LinkState, Located, PEERS_MAX, Received, RelayAction, RelayLinks, RelaySettings,
    RelayTotals, Tag,
};
