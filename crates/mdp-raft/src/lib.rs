//! The cluster's agreement: which node offers which service, in one order on every node.
//!
//! This is the only crate that names openraft, and openraft's types do not leave it. (A simulation
//! implements the traits of `openraft-rt`, for openraft asks statics for time and tasks.) A node starts
//! [`Consensus`], gives it a [`Transport`] for calls to other nodes, passes their calls to
//! [`Consensus::answer`], and reads the one ordered feed of [`News`]: what was applied, and which
//! rounds of reads ended at which index.
//!
//! A newcomer reads it in this order:
//!
//! | module | what happens there |
//! |---|---|
//! | `consensus` | the handle: what a node can ask for, and the tasks that it starts |
//! | `formation` | from an empty data directory to membership |
//! | `life` | this node's life in the catalog: it begins one when it has joined |
//! | `proposals` | an entry on its way to the leader |
//! | `reads` | a round of reads: at which index may it be answered? |
//! | `membership` | the leader makes, promotes, replaces and removes members, and finishes changes that are half done |
//! | `expiry` | the leader ends the lives of nodes that it does not hear |
//! | `calls`, `formats`, `peers`, `incoming`, `network` | calls between nodes: their types, in which format, and both ends |
//! | `admission`, `acquaintances`, `lines` | whose calls are obeyed, whom this node asks about a caller, and how often it logs what callers cause |
//! | `store`, `state_machine` | the log, the vote and the catalog on disk |
//! | `runtime`, `clock`, `volume` | what is taken from the machine: [`Tokio`], or a simulated one |
//! | `view` | how Raft is, for those who check it |
//!
//! # Invariants
//!
//! 1. Nothing is answered before it is on disk: votes, log entries, the identity.
//! 2. A call names cluster, sender and target; whoever is not the target refuses it. An id that was
//!    removed never comes back.
//! 3. A round of reads serves only questions that came before it, and asks the leader anew with each
//!    attempt.
//! 4. An entry may be applied twice, or late: [`mdp_catalog`] makes that harmless. A proposal that
//!    got no answer has an unknown outcome, never a negative one.
//! 5. Only monotonic time counts. Who stood still, or came to lead just now, ends nobody's life.

mod acquaintances;
mod admission;
mod calls;
mod clock;
mod consensus;
mod expiry;
mod formation;
mod formats;
mod hub;
mod incoming;
mod life;
mod lines;
mod membership;
mod network;
mod news;
mod peers;
mod proposals;
mod reads;
mod runtime;
mod state_machine;
mod status;
mod store;
mod stored;
mod transport;
mod types;
mod upgrade;
mod view;
mod volume;

pub use consensus::{ChangeError, Consensus, ConsensusConfig, Seed, UpgradeChange};
pub use formats::FORMATS;
#[cfg(feature = "test-next")]
pub use formats::NEXT_FORMATS;
pub use membership::MemberChange;
pub use news::{NEWS_MAX, News, NewsSender, RoundId, Stop, news};
pub use runtime::{Runtime, Tokio};
pub use status::{ClusterStatus, MemberStatus, NotReady, Role};
pub use store::{Recovered, StorageError, recover};
pub use transport::{BoxFuture, CallError, Lane, Transport};
pub use upgrade::{UpgradeState, UpgradeStatus};
pub use view::{EntryView, LogView, PositionView, RaftView, VoteView};
pub use volume::{Volume, VolumeFile};
