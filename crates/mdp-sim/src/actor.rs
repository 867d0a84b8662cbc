//! What the world asks of a simulated client or worker.

use std::{fmt::Debug, time::Instant};

use crate::observation::Observation;

/// A simulated peer, without any I/O: the world connects it, gives it frames and time, and carries
/// out what it wants. After each call the world takes actions until there is none.
///
/// An actor has one connection at most. Frames are those of a DEALER: without a routing id.
pub(crate) trait Actor: Debug {
    /// The connection that it asked for is there.
    fn on_connected(&mut self, now: Instant, node: usize);
    /// The connection is gone: closed, broken, or it never came about. Not called for an own `Close`.
    fn on_closed(&mut self, now: Instant);
    /// A message.
    fn on_frames(&mut self, now: Instant, frames: Vec<Vec<u8>>);
    /// It is due.
    fn on_timeout(&mut self, now: Instant);
    /// When it wants to be called; `None`: never.
    fn poll_timeout(&self) -> Option<Instant>;
    /// What it wants now, until `None`.
    fn poll_action(&mut self) -> Option<ActorAction>;
    /// Its process is killed: it forgets everything; the world has closed its connection.
    fn die(&mut self, now: Instant);
    /// Its process is started again.
    fn revive(&mut self, now: Instant);
    /// Whether it offers a service.
    fn is_worker(&self) -> bool;
    /// No more faults: it goes on as a healthy peer would, and comes to an end: clients begin
    /// nothing new after `until`, and nobody dies or misbehaves any more.
    fn settle(&mut self, now: Instant, until: Instant);
}

/// What an actor wants.
#[derive(Clone, Debug)]
pub(crate) enum ActorAction {
    /// A connection to this node; one that it has is closed.
    Connect {
        /// Which, counted from zero.
        node: usize,
    },
    /// No connection.
    Close,
    /// To send this over its connection.
    Send(Vec<Vec<u8>>),
    /// To have seen or done this.
    Observe(Observation),
}
