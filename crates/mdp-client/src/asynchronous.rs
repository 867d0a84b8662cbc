//! The same client and worker for programs on tokio.
//!
//! A thread owns the sockets, because libzmq has its own way to wait; calls and handlers are
//! ordinary futures. What is said about the [blocking client](crate::Client) and
//! [worker](crate::Worker) holds here too.

mod client;
mod worker;

pub use self::{
    client::{Client, PARTS_WAITING_MAX, ReplyStream},
    worker::{Request, Worker},
};
