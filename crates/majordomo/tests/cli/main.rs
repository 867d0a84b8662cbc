#![cfg(test)]
//! The program as people and scripts use it: the real binary, over TCP on loopback.

mod admin;
mod admin_access;
mod bench;
mod call;
mod cluster;
mod dev;
mod drain;
mod files_of_0_1_0;
mod keys;
mod own_keys;
mod program;
mod refusals;
mod serve;
mod signals;
mod terminal;
mod view;
mod work;
