//! The thread that owns a node's core and its ports: the only place that sleeps.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use mdp_core::{NodeCore, NodeEnding, TurnEnd};
use mdp_replica::Agreement;
use thiserror::Error;

use crate::{
    inbox::{INBOX_BATCH_MAX, Inbox, Message},
    ports::Ports,
};

/// The broker thread cannot go on.
#[derive(Debug, Error)]
pub enum BrokerThreadError {
    /// Waiting failed.
    #[error("cannot wait for connections: {0}")]
    Wait(std::io::Error),
}

/// Everything that the broker thread owns.
#[derive(Debug)]
pub(crate) struct BrokerThread<A> {
    pub(crate) core: NodeCore<A>,
    pub(crate) ports: Ports,
    pub(crate) inbox: Inbox,
    /// Rises with every turn: the thread lives.
    pub(crate) turns: Arc<AtomicU64>,
}

impl<A: Agreement> BrokerThread<A> {
    /// Serves until it is drained or stopped.
    pub(crate) fn run(mut self) -> Result<NodeEnding, BrokerThreadError> {
        loop {
            self.turns.fetch_add(1, Ordering::Relaxed);
            self.read_inbox();
            let until = match self.core.turn(&mut self.ports) {
                TurnEnd::Ended(ending) => return Ok(ending),
                TurnEnd::Sleep { until } => Some(until),
                // Looks what has come, without waiting.
                TurnEnd::Again => None,
            };
            if self.ports.wait(until).map_err(BrokerThreadError::Wait)? {
                self.inbox.silence();
            }
        }
    }

    fn read_inbox(&mut self) {
        for _ in 0..INBOX_BATCH_MAX {
            match self.inbox.take() {
                None => return,
                Some(Message::Drain) => self.core.drain(Instant::now(), &mut self.ports),
                Some(Message::Stop) => self.core.stop(),
                Some(Message::Access(access)) => self.core.set_access(Instant::now(), access),
                Some(Message::Report { scope, reply }) => {
                    // The asker may have gone.
                    match reply.send(Box::new(self.core.report(Instant::now(), scope))) {
                        Ok(()) | Err(_) => {}
                    }
                }
                Some(Message::NodeKeys(keys)) => self.core.set_node_keys(Instant::now(), keys),
                Some(Message::Kick { connection, reply }) => {
                    match reply.send(self.core.kick(connection)) {
                        Ok(()) | Err(_) => {}
                    }
                }
            }
        }
        self.inbox.ring_again();
    }
}
