//! The same bytes as omq-proto, a second implementation of ZMTP without I/O: its connections talk to
//! connections of this crate in memory, in both directions, cut at chosen and at random places.
//!
//! | what | is covered |
//! |---|---|
//! | sizes of a frame | 0, 1, 254 to 257, 4,095 to 4,097, 16,383 to 16,385, 65,535 to 65,537 |
//! | messages | one frame of each size; an empty one before it, behind it and on both sides; all sizes in one message; 3 and 1,000 empty frames |
//! | versions | 3.0 and 3.1 |
//! | sockets, ours with omq's | ROUTER with REQ, DEALER, ROUTER; DEALER with REQ, DEALER, ROUTER; REQ with DEALER, ROUTER |
//! | sides | each accepts and each dials |
//! | cuts | none, 1,000 bytes, a few bytes at a time; random ones in properties |
//! | bytes | messages of every shape and PONGs are written alike, byte for byte |
//! | limits | bytes and frames of a message: one less, equal, one more, both ways (omq has no limit for frames) |
//! | commands | READY with and without a routing id, ERROR, PING with context and TTL, PONG |
//! | CURVE | each accepts and each dials; frames of 0 to 65,537 bytes, cut and not; a wrong server key |
//!
//! What omq-proto can not show: it names its mechanism before the peer has spoken and draws its own
//! randomness, both of which mean nothing to NULL, and it always says 3.1. The pump between the two
//! puts another minor version into both greetings.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "an instant can not be made from nothing")]

mod commands;
mod curve;
mod limits;
mod pair;
mod traffic;
