//! Links that a worker has left while libzmq's queue was full: each is kept beside the next one until it
//! has taken what was said last, a reply or a DISCONNECT.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use zmq::PollItem;

use crate::socket::{Link, LinkEvent, Room, Sent};

/// How many there are at a time at most; beyond it the oldest is given up. A worker makes a pause
/// before it comes back to brokers that all read nothing, so there are few.
const PARTINGS_MAX: usize = 16;

/// Messages that come on such a link and are not waited for, taken at once.
const MESSAGES_PER_TURN_MAX: usize = 64;

/// The links that are left.
#[derive(Debug)]
pub(super) struct Partings {
    linger: Duration,
    partings: VecDeque<Parting>,
}

#[derive(Debug)]
struct Parting {
    link: Link,
    unsent: VecDeque<Vec<Vec<u8>>>,
    /// It is closed when the unsent messages are out, or then.
    until: Instant,
}

/// Whether a link is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// It has taken its last message, or has had the time for that.
    Done,
    /// It still waits for room.
    Waiting,
    /// Its connection is gone.
    Lost,
}

impl Partings {
    pub(super) fn new(linger: Duration) -> Self {
        Self { linger, partings: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.partings.is_empty()
    }

    /// Leaves a link, which has at most `linger` for these messages.
    pub(super) fn part(&mut self, now: Instant, link: Link, unsent: VecDeque<Vec<Vec<u8>>>) {
        if self.partings.len() >= PARTINGS_MAX {
            self.partings.pop_front();
        }
        self.partings.push_back(Parting { link, unsent, until: now + self.linger });
        self.turn(now);
    }

    /// Sends what there is room for, and closes the links that are done.
    pub(super) fn turn(&mut self, now: Instant) {
        for _ in 0..self.partings.len() {
            let Some(mut parting) = self.partings.pop_front() else { return };
            match parting.turn(now) {
                Progress::Done => parting.link.close(self.linger),
                Progress::Waiting => self.partings.push_back(parting),
                Progress::Lost => tracing::debug!("a link that was left is lost"),
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.partings.iter().map(|parting| parting.until).min()
    }

    pub(super) fn poll_items(&self) -> impl Iterator<Item = PollItem<'_>> {
        let links = self.partings.iter().map(|parting| &parting.link);
        links.flat_map(|link| [link.poll_message(Room::Needed), link.poll_event()])
    }
}

impl Parting {
    fn turn(&mut self, now: Instant) -> Progress {
        // What comes now is for no session; unread it would keep the poll from waiting.
        for _ in 0..MESSAGES_PER_TURN_MAX {
            if !matches!(self.link.recv(), Ok(Some(_))) {
                break;
            }
        }
        loop {
            match self.link.recv_event() {
                Ok(None) => break,
                Ok(Some(LinkEvent::Up)) => {}
                // What libzmq connects again has no registration that these messages belong to.
                Ok(Some(LinkEvent::Down)) | Err(_) => return Progress::Lost,
            }
        }
        while let Some(frames) = self.unsent.pop_front() {
            match self.link.send(frames) {
                Ok(Sent::Yes) => {}
                Ok(Sent::Full(frames)) if now < self.until => {
                    self.unsent.push_front(frames);
                    return Progress::Waiting;
                }
                Ok(Sent::Full(_)) => break,
                Err(error) => {
                    tracing::warn!(%error, "sending failed");
                    return Progress::Lost;
                }
            }
        }
        Progress::Done
    }
}
