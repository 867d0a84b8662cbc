//! The replicated truth: which node offers which service.
//!
//! A [`Catalog`] changes only by [`Catalog::apply`], a pure function of the catalog, a log index
//! and a [`CatalogEntry`]. It holds *presence*, not counts: a node offers a service while it has at
//! least one worker for it, so that workers that come and go inside a service cost no entry.
//!
//! Entries are idempotent and level-triggered: each states what should be true, and an entry of a
//! void incarnation, or one whose `seq` is not higher than the last applied, changes nothing.

mod catalog;
mod entry;
mod node;
mod stored;

pub use catalog::{Catalog, NodeRecord, NodeState, RETIRED_MEMBERS_MAX};
pub use entry::{CatalogChange, CatalogEntry, MARK_SINCE, NodeUp, Refusal};
pub use node::{
    Boot, Endpoints, Epoch, Incarnation, NODE_NAME_BYTES_MAX, NodeId, NodeName, NodeNameError, Seq,
    SoftwareVersion, SoftwareVersionError, VersionMisfit,
};
pub use stored::{decode_entry, decode_snapshot, encode_entry, encode_snapshot};
