#![cfg(test)]
//! What was done to 0.1.0 by those that have no business with it: each attack of the table in
//! docs/security.md, and that it has no effect.

mod admin_port;
mod calls;
mod client_keys;
mod cluster_port;
mod disk;
mod node_keys;
