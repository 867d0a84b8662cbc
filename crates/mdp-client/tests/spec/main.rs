//! Clients and workers against a raw ROUTER: every frame is written as bytes, not by our encoder.
//! A test named after a clause shows that clause of 7/MDP or 18/MDP.

#![cfg(test)]

#[cfg(feature = "tokio")]
mod asynchronous;
mod client_cluster;
mod client_failover;
mod client_mdp_18;
mod client_mdp_7;
mod client_replies;
mod client_resets;
mod curve;
mod curve_broker;
mod node;
mod support;
mod worker_cluster;
mod worker_failover;
mod worker_handlers;
mod worker_leaving;
mod worker_liveness;
mod worker_mdp_18;
mod worker_mdp_7;
