//! The copy of the catalog that answers: between the engine (`mdp-broker`) and consensus
//! (`mdp-raft`).
//!
//! Each node has one [`Replica`], next to its engine. It passes on what the engine proposes, asks
//! consensus in rounds of reads what the engine asks it, applies the one ordered feed of
//! [`mdp_raft::News`] to a catalog of its own, and answers from there.
//!
//! 1. This copy, and no other, is what "applied here" means: what the log brings, and which rounds
//!    of reads ended at which index, reach it in one order.
//! 2. A question is answered at the index of a round that began after it was asked, or not at all:
//!    without a quorum nobody guesses. Only [`Consistency::Local`] may answer a client at once.
//! 3. The engine is told of its own process's life only, and only that life's word is proposed.
//! 4. It has no clock, thread or socket: `now` is an argument, and nothing here waits. After each
//!    call, or a small batch of them, take [`Replica::poll_answer`] until `None`; call
//!    [`Replica::flush`] once in a turn, and [`Replica::handle_timeout`] when
//!    [`Replica::poll_timeout`] says.

mod agreement;
mod isolation;
mod leaving;
mod membership;
mod reads;
mod replica;

pub use agreement::{Agreement, Alone, HandingOver, Proposed};
pub use isolation::IsolationWatch;
pub use membership::{Consistency, Membership};
pub use reads::ReadTotals;
pub use replica::{NewsState, Peers, Replica};

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a first instant; time passes by the test's word")]
fn any_instant() -> std::time::Instant {
    std::time::Instant::now()
}
