//! How other threads reach the broker thread: a bounded queue, and a bell that its poll hears.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use mdp_broker::Access;
use mdp_core::NodeKeys;
use tokio::sync::oneshot;

use crate::{
    NodeReport, ReportError, ReportScope,
    bell::{Bell, Ringer, bell},
};

/// How many messages may wait for the broker thread.
const INBOX_MESSAGES_MAX: usize = 1_024;
/// How many messages are read in one turn of the broker thread.
pub(crate) const INBOX_BATCH_MAX: usize = 64;

/// What other threads tell the broker thread.
#[derive(Debug)]
pub(crate) enum Message {
    /// Take no new work, finish the old, then end.
    Drain,
    /// End at once.
    Stop,
    /// Who clients and workers are, and what they may do, from now on.
    Access(Arc<Access>),
    /// Say how things are.
    Report {
        /// How much of it.
        scope: ReportScope,
        /// Where the answer goes; the asker may have gone.
        reply: oneshot::Sender<Box<NodeReport>>,
    },
    /// From now on other nodes have these keys.
    NodeKeys(Arc<NodeKeys>),
    /// Close a connection.
    Kick {
        /// Its number.
        connection: u64,
        /// Where is said whether there was one; the asker may have gone.
        reply: oneshot::Sender<bool>,
    },
}

/// The message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostError {
    /// Too many wait.
    Full,
    /// The broker thread has ended.
    Closed,
}

impl From<PostError> for ReportError {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Full => Self::Busy,
            PostError::Closed => Self::Stopped,
        }
    }
}

/// Two ends of a new inbox.
pub(crate) fn inbox() -> io::Result<(Postbox, Inbox)> {
    let (sender, receiver) = sync_channel(INBOX_MESSAGES_MAX);
    let (ringer, bell) = bell()?;
    Ok((Postbox { sender, ringer }, Inbox { receiver, bell }))
}

/// Where messages are put; cheap to clone, never waits.
#[derive(Clone, Debug)]
pub(crate) struct Postbox {
    sender: SyncSender<Message>,
    ringer: Ringer,
}

impl Postbox {
    /// Puts a message and rings the bell.
    pub(crate) fn post(&self, message: Message) -> Result<(), PostError> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => PostError::Full,
            TrySendError::Disconnected(_) => PostError::Closed,
        })?;
        self.ringer.ring();
        Ok(())
    }

    /// What wakes the broker thread, for queues of others.
    pub(crate) const fn ringer(&self) -> &Ringer {
        &self.ringer
    }
}

/// Where the broker thread takes messages from.
#[derive(Debug)]
pub(crate) struct Inbox {
    receiver: Receiver<Message>,
    bell: Bell,
}

impl Inbox {
    /// Readable when messages may be waiting.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.descriptor()
    }

    /// Silences the bell. Before the messages are taken, never after: one that comes in between
    /// rings again.
    pub(crate) fn silence(&self) {
        self.bell.silence();
    }

    /// Takes the next message.
    pub(crate) fn take(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// Rings the bell for messages that were left in a queue.
    pub(crate) fn ring_again(&self) {
        self.bell.ring_again();
    }
}

#[cfg(test)]
mod tests {
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        io::Errno,
    };

    use super::*;

    fn rings(inbox: &Inbox) -> bool {
        let mut descriptors = [PollFd::from_borrowed_fd(inbox.bell(), PollFlags::IN)];
        poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok::<_, Errno>(1)
    }

    #[test]
    fn bell_rings_from_post_to_silence() {
        let (postbox, inbox) = inbox().unwrap();
        assert!(!rings(&inbox));

        postbox.post(Message::Drain).unwrap();
        assert!(rings(&inbox));

        inbox.silence();
        assert!(!rings(&inbox));
        assert!(matches!(inbox.take(), Some(Message::Drain)));
        assert!(inbox.take().is_none());

        inbox.ring_again();
        assert!(rings(&inbox));
    }

    #[test]
    fn full_inbox_refuses_and_never_waits() {
        let (postbox, inbox) = inbox().unwrap();
        for _ in 0..INBOX_MESSAGES_MAX {
            postbox.post(Message::Drain).unwrap();
        }

        assert_eq!(postbox.post(Message::Stop), Err(PostError::Full));
        drop(inbox);
        assert_eq!(postbox.post(Message::Stop), Err(PostError::Closed));
    }
}
