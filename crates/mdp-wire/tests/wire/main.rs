//! The wire format from outside: layouts byte by byte, rejections, round trips, moved bodies.
#![cfg(test)]

mod bodies;
mod layouts;
mod rejects;
mod relay;
mod roundtrip;
mod support;
mod values;
