//! What this program is, to other nodes and to people.

use mdp_wire::relay::WireRange;

/// Its version.
#[cfg(not(feature = "test-next"))]
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The formats of calls between nodes that it speaks.
#[cfg(not(feature = "test-next"))]
pub(crate) const CALL_FORMATS: WireRange = mdp_raft::FORMATS;
/// The wire versions of relayed requests that it speaks.
#[cfg(not(feature = "test-next"))]
pub(crate) const RELAY_WIRE: WireRange = mdp_wire::relay::WIRE;

/// Its version: the next minor one.
#[cfg(feature = "test-next")]
pub const VERSION: &str = "0.2.0";
#[cfg(feature = "test-next")]
pub(crate) const CALL_FORMATS: WireRange = mdp_raft::NEXT_FORMATS;
#[cfg(feature = "test-next")]
pub(crate) const RELAY_WIRE: WireRange = mdp_wire::relay::NEXT_WIRE;
