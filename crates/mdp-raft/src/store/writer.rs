//! The one thread that writes: it gathers changes into batches, and each batch is one commit. On a
//! simulated host it is a task.
//!
//! Fail-stop: after the first error nothing is written any more, because a second attempt to sync
//! may succeed although data of the first is lost. What was answered before is on disk.

use std::{
    fmt, io,
    sync::{Arc, Mutex},
};

use mdp_histogram::Histogram;
use mdp_mutants::{Mutant, is_on};
use openraft_rt::Instant as _;
use tokio::sync::{mpsc, watch};

use super::{
    database::{Change, Database},
    lock,
};
use crate::{clock::now, runtime::Runtime};

/// How many changes may wait; then whoever has another one waits.
const CHANGES_WAITING_MAX: usize = 1_024;
/// How many changes one commit makes.
const CHANGES_PER_COMMIT_MAX: usize = 1_024;

/// Called when a change is on disk, or will never be.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

enum Message {
    Change { change: Change, done: Option<Done> },
    Close,
}

/// How the thread is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Writes,
    Failed(String),
    Closed,
}

/// Hands changes to the thread, which ends when the last of these is dropped. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    sender: mpsc::Sender<Message>,
    state: watch::Receiver<State>,
    commits: Arc<Mutex<Histogram>>,
}

impl Writer {
    pub(super) fn start<R: Runtime>(database: Database) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(CHANGES_WAITING_MAX);
        let (state, observed) = watch::channel(State::Writes);
        let state = Reported(state);
        let commits = Arc::<Mutex<Histogram>>::default();
        let times = Arc::clone(&commits);
        let writing = Loop { receiver, committed: None, database, state, times };
        R::run_writer(writing.run::<R>())?;
        Ok(Self { sender, state: observed, commits })
    }

    /// Hands a change over, when there is room. Changes are made in the order of these calls.
    pub(super) async fn write(&self, change: Change, done: Option<Done>) -> io::Result<()> {
        let sent = self.sender.send(Message::Change { change, done }).await;
        sent.map_err(|_| self.failure())
    }

    /// How long commits took, with their syncs.
    pub(super) fn commits(&self) -> Histogram {
        *lock(&self.commits)
    }

    /// Why nothing is written any more.
    pub(super) fn failure(&self) -> io::Error {
        match &*self.state.borrow() {
            State::Failed(reason) => io::Error::other(reason.clone()),
            State::Writes | State::Closed => io::Error::other("the data directory is closed"),
        }
    }

    /// Why writing failed, if it did.
    pub(super) fn why_failed(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Failed(reason) => Some(reason.clone()),
            State::Writes | State::Closed => None,
        }
    }

    /// Waits until writing fails; `None`: it was closed instead.
    pub(super) fn failed(&self) -> impl Future<Output = Option<String>> + Send + use<> {
        let mut state = self.state.clone();
        async move {
            if state.wait_for(|state| *state != State::Writes).await.is_err() {
                return None;
            }
            match &*state.borrow() {
                State::Failed(reason) => Some(reason.clone()),
                State::Writes | State::Closed => None,
            }
        }
    }

    /// Waits until everything that was handed over is written and the database is closed.
    pub(super) async fn close(&self) -> io::Result<()> {
        // No room is needed if the thread ended already.
        drop(self.sender.send(Message::Close).await);
        let mut state = self.state.clone();
        // The thread's end of this goes last, after the files.
        while state.changed().await.is_ok() {}
        match &*state.borrow() {
            State::Closed => Ok(()),
            State::Failed(reason) => Err(io::Error::other(reason.clone())),
            State::Writes => Err(io::Error::other("its writer thread ended")),
        }
    }
}

/// Tells how the thread is, also when it panics.
struct Reported(watch::Sender<State>);

impl Reported {
    fn ended(&self, state: State) {
        self.0.send_if_modified(|current| {
            let is_news = *current == State::Writes;
            if is_news {
                *current = state;
            }
            is_news
        });
    }
}

impl Drop for Reported {
    fn drop(&mut self) {
        self.ended(State::Failed("its writer thread ended by a panic".to_owned()));
    }
}

struct Loop {
    receiver: mpsc::Receiver<Message>,
    /// Is written with the next change that somebody waits for: nobody waits for this one, and
    /// without it a restarted node only learns from the leader what it could have known.
    committed: Option<Change>,
    database: Database,
    state: Reported,
    times: Arc<Mutex<Histogram>>,
}

/// What one commit makes.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    done: Vec<Done>,
    is_last: bool,
}

impl Loop {
    async fn run<R: Runtime>(mut self) {
        loop {
            let mut batch = self.next_batch().await;
            if !batch.changes.is_empty() || batch.is_last {
                batch.changes.extend(self.committed.take());
            }
            let written = match batch.changes.as_slice() {
                [] => Ok(()),
                changes => {
                    let began = now::<R>();
                    let simulated = self.database.commit_takes();
                    if !simulated.is_zero() {
                        R::wait_for_disk(simulated).await;
                    }
                    let written = self.database.commit(changes);
                    lock(&self.times).observe(began.elapsed());
                    written
                }
            };
            if let Err(error) = written
                && !is_on(Mutant::WritesAfterFailure)
            {
                return self.fail(&error, batch.done).await;
            }
            for done in batch.done {
                done(Ok(()));
            }
            if batch.is_last {
                return self.close();
            }
        }
    }

    /// Waits for a change, and takes those that wait with it.
    async fn next_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        let mut next = self.receiver.recv().await;
        loop {
            match next {
                Some(Message::Change { change: change @ Change::Committed(_), done: None }) => {
                    self.committed = Some(change);
                }
                Some(Message::Change { change, done }) => {
                    batch.changes.push(change);
                    batch.done.extend(done);
                }
                Some(Message::Close) | None => {
                    batch.is_last = true;
                    return batch;
                }
            }
            if batch.changes.len() >= CHANGES_PER_COMMIT_MAX {
                return batch;
            }
            next = match self.receiver.try_recv() {
                Ok(message) => Some(message),
                Err(mpsc::error::TryRecvError::Empty) => return batch,
                Err(mpsc::error::TryRecvError::Disconnected) => None,
            };
        }
    }

    fn close(self) {
        let Self { mut receiver, committed: _, database, state, times: _ } = self;
        receiver.close();
        match database.close() {
            Ok(()) => state.ended(State::Closed),
            Err(error) => state.ended(State::Failed(format!("cannot close raft.redb: {error}"))),
        }
    }

    async fn fail(mut self, error: &io::Error, unwritten: Vec<Done>) {
        let reason = format!("cannot write raft.redb: {error}");
        tracing::error!(%reason, "the data directory can not be written; this node stops");
        self.state.ended(State::Failed(reason.clone()));
        for done in unwritten {
            done(Err(io::Error::other(reason.clone())));
        }
        self.receiver.close();
        while let Some(message) = self.receiver.recv().await {
            match message {
                Message::Change { done: Some(done), .. } => {
                    done(Err(io::Error::other(reason.clone())));
                }
                Message::Change { done: None, .. } | Message::Close => {}
            }
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change { change, .. } => f.debug_tuple("Change").field(change).finish(),
            Self::Close => f.write_str("Close"),
        }
    }
}
