//! The same bytes as libzmq: real sockets of libzmq talk to connections of this crate over TCP.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "libzmq has a clock and threads")]

mod peer;
mod refusals;
mod traffic;
