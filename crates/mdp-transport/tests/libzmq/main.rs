//! The same bytes as libzmq: real sockets of libzmq talk to connections of this crate over TCP.
//!
//! | what | is covered |
//! |---|---|
//! | sizes of a frame | 0, 1, 254 to 257, 1,023, 1,024, 4,095 to 4,097, 16,383 to 16,385, 65,535 to 65,537, 3,000,000 |
//! | messages | one frame of each size; one between two empty ones; all sizes in one message; 1,000 empty frames |
//! | versions | 3.0 and 3.1: libzmq says 3.1, the pump puts the other one into both greetings |
//! | sockets of libzmq | REQ, DEALER, ROUTER; a ROUTER that we dial |
//! | limits | bytes and frames of a message, and libzmq's `ZMQ_MAXMSGSIZE`: one less, equal, one more |
//! | commands | PINGs of libzmq with TTL and time-out |
//! | refusals | wrong mechanism, wrong kind of socket, closed without a word: whether libzmq comes back |
//!
//! `tests/python/test_transport.py` does the same with the libzmq of pyzmq, with heartbeats every 5 ms.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "libzmq has a clock and threads")]

mod curve;
mod limits;
mod peer;
mod refusals;
mod traffic;
