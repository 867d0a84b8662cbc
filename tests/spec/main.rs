#![cfg(test)]
//! The specification: one test, named after its ID in `docs/protocol.md`, for every clause of
//! 7/MDP, 18/MDP and 8/MMI that binds the broker, and for every rule of ours where they are open.
//! Each drives a real `majordomo serve` over TCP with frames written by hand.

mod ambiguities;
mod broken_answers;
mod defects;
mod mdp_18;
mod mdp_7_heartbeats;
mod mdp_7_requests;
mod mdp_7_workers;
mod mmi_8;
