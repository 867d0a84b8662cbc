//! CURVE between two ports of ours, with a network between them that records, cuts and alters.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "an instant can not be made from nothing")]

mod admission;
mod attacks;
mod crowd;
mod handshake;
mod pair;
mod recorded;
mod traffic;
