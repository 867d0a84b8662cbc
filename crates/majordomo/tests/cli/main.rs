#![cfg(test)]
//! The program as people and scripts use it: the real binary, over TCP on loopback.

mod bench;
mod call;
mod program;
mod serve;
mod view;
mod work;
