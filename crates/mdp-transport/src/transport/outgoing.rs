//! What leaves: queues of bytes, written as far as the kernel takes them, and their limits.

use std::time::Instant;

use mdp_mutants::{Mutant, is_on};

use super::{Transport, TransportEvent};
use crate::{ConnectionId, Loss, MessageWriter, OutputSlices, Side};

/// What PINGs and PONGs in front of a message may have: they are no message that waits.
const COMMANDS_BYTES: usize = 1_024;

impl<T> Transport<T> {
    /// Puts a message into the queue of a peer, unless that is gone. The tag comes back
    /// in [`TransportEvent::Lost`] if no byte of the message reaches the kernel.
    pub fn send(
        &mut self,
        id: ConnectionId,
        tag: Option<T>,
        encode: impl FnOnce(&mut MessageWriter<'_, T>),
    ) {
        let Some(entry) = self.table.get_mut(id).filter(|entry| entry.connection.is_open()) else {
            return self.give_back(id, tag);
        };
        let before = entry.connection.output_bytes();
        encode(&mut entry.connection.message(tag, &mut self.pool));
        self.outgoing_bytes += entry.connection.output_bytes() - before;
        entry.traffic.messages_out += 1;
        self.outgoing_messages += 1;
        match entry.blocked_since {
            None => self.list(id),
            Some(_) => self.hold_to_limits(id),
        }
    }

    /// Gives the tag of a message for a peer that is gone back: with the news that it is lost, if that
    /// was not told yet, so that the receiver of that event knows what was not handed over.
    fn give_back(&mut self, gone: ConnectionId, tag: Option<T>) {
        let Some(tag) = tag else { return };
        for event in &mut self.events {
            if let TransportEvent::Lost { id, unsent, .. } = event
                && *id == gone
            {
                return unsent.push(tag);
            }
        }
        let (address, why, unsent) = (None, Loss::Closed, vec![tag]);
        self.events.push_back(TransportEvent::Lost { id: gone, address, why, unsent });
    }

    /// The next connection with output that was not tried to be written.
    pub fn poll_writable(&mut self) -> Option<ConnectionId> {
        while let Some(id) = self.writable.pop_front() {
            if let Some(entry) = self.table.get_mut(id) {
                entry.is_listed = false;
                return Some(id);
            }
        }
        None
    }

    /// What is to be written next.
    #[must_use]
    pub fn output(&self, id: ConnectionId) -> OutputSlices<'_> {
        self.table.get(id).map(|entry| entry.connection.output()).unwrap_or_default()
    }

    /// How many bytes wait for a peer.
    #[must_use]
    pub fn output_bytes(&self, id: ConnectionId) -> usize {
        self.table.get(id).map_or(0, |entry| entry.connection.output_bytes())
    }

    /// How many messages wait for a peer of which no byte was written.
    #[must_use]
    pub fn output_messages(&self, id: ConnectionId) -> usize {
        self.table.get(id).map_or(0, |entry| entry.connection.output_messages())
    }

    /// Whether the kernel takes no more for this peer.
    #[must_use]
    pub fn is_blocked(&self, id: ConnectionId) -> bool {
        self.table.get(id).is_some_and(|entry| entry.blocked_since.is_some())
    }

    /// The kernel took this many bytes.
    pub fn transmitted(&mut self, now: Instant, id: ConnectionId, count: usize) {
        let now = self.clock.awake(now);
        let Some(entry) = self.table.get_mut(id) else { return };
        let before = entry.connection.output_bytes();
        let messages = entry.connection.output_messages();
        entry.connection.transmitted(now, count, &mut self.pool);
        let after = entry.connection.output_bytes();
        self.outgoing_bytes -= before - after;
        self.outgoing_messages -= messages - entry.connection.output_messages();
        entry.traffic.bytes_out += u64::try_from(before - after).unwrap_or(u64::MAX);
        if after == 0 {
            if entry.blocked_since.take().is_some() {
                self.blocked.remove(&id);
            }
        } else if entry.blocked_since.is_some() && count > 0 {
            entry.blocked_since = Some(now);
        }
        self.reschedule(id);
    }

    /// The kernel takes no more for now.
    pub fn blocked(&mut self, now: Instant, id: ConnectionId) {
        let now = self.clock.awake(now);
        let Some(entry) = self.table.get_mut(id) else { return };
        if entry.blocked_since.is_none() && !is_on(Mutant::BlockedForgotten) {
            entry.blocked_since = Some(now);
            self.blocked.insert(id);
            self.reschedule(id);
        }
        self.hold_to_limits(id);
    }

    /// Whether no byte waits for any peer.
    #[must_use]
    pub const fn is_all_written(&self) -> bool {
        self.outgoing_bytes == 0
    }

    /// Ends a peer that too much waits for, and then the greediest ones while it is still too much.
    fn hold_to_limits(&mut self, id: ConnectionId) {
        let limits = &self.limits;
        let is_over = self.table.get(id).is_some_and(|entry| {
            let bytes_max = match entry.connection.side() {
                Side::Accepting => limits.outgoing_bytes_per_peer_max,
                Side::Dialling => limits.outgoing_bytes_per_dialled_max,
            };
            entry.connection.bytes_before_newest() > COMMANDS_BYTES
                && entry.connection.output_bytes() > bytes_max
        });
        if is_over {
            self.end(id, Loss::Overflow);
        }
        while self.outgoing_bytes > self.limits.outgoing_bytes_max {
            let greediest = self.blocked.iter().max_by_key(|id| self.output_bytes(**id)).copied();
            let Some(greediest) = greediest else { return };
            self.end(greediest, Loss::Overflow);
        }
    }
}
