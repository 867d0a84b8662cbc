//! The engine from outside: what goes in, and the whole list of what comes out.
#![cfg(test)]

mod access;
mod delivery;
mod determinism;
mod dispatch;
mod drain;
mod effects;
mod frames;
mod heartbeats;
mod limits;
mod mesh;
mod minority;
mod mmi;
mod pause;
mod random;
mod registration;
mod relay;
mod relay_random;
mod support;
