#![cfg(test)]
//! A node on loopback, with raw ZeroMQ sockets as its peers: what the shell adds to the engine.

mod cluster;
mod drain;
mod flow;
mod peers;
mod relay;
mod serving;
