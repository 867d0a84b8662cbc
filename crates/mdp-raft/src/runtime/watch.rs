//! tokio's watch channel, which on a simulated host wakes its receivers in order.
//!
//! tokio itself wakes them in the order of random numbers that nobody can seed. A channel that is
//! made outside of a host is tokio's and nothing else.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use openraft_rt::{
    OptionalSend, OptionalSync,
    watch::{self, RecvError, SendError},
};
use tokio::sync::watch as tokio_watch;

use crate::simulation::with_host;

/// openraft's watch channels.
#[derive(Debug)]
pub(crate) struct Watch;

/// The sending end.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    // First: those that wait are woken when it is gone.
    inner: tokio_watch::Sender<T>,
    line: Line,
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    inner: tokio_watch::Receiver<T>,
    queue: Option<Arc<Queue>>,
}

/// Makes a channel.
pub(crate) fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = tokio_watch::channel(value);
    let queue = with_host(|_| Arc::<Queue>::default());
    let line = Line(queue.clone());
    (Sender { inner: sender, line }, Receiver { inner: receiver, queue })
}

/// Who waits, on a host.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    places: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> u64 {
        let mut waiting = self.lock();
        waiting.places = waiting.places.wrapping_add(1);
        waiting.places
    }
}

/// A receiver's place, until it waits no more.
struct Place<'q> {
    queue: &'q Queue,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waker = self.queue.lock().wakers.remove(&self.number);
        drop(waker);
    }
}

/// The sender's end of the queue; wakes everybody when it goes.
#[derive(Clone, Debug)]
struct Line(Option<Arc<Queue>>);

impl Line {
    fn wake(&self) {
        if let Some(queue) = &self.0 {
            let wakers = mem::take(&mut queue.lock().wakers);
            wakers.into_values().for_each(Waker::wake);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.wake();
    }
}

impl<T> Sender<T> {
    pub(crate) fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let is_modified = self.inner.send_if_modified(modify);
        if is_modified {
            self.line.wake();
        }
        is_modified
    }
}

impl<T> Receiver<T> {
    pub(crate) fn borrow(&self) -> tokio_watch::Ref<'_, T> {
        self.inner.borrow()
    }

    pub(crate) async fn changed(&mut self) -> Result<(), tokio_watch::error::RecvError> {
        let Self { inner, queue } = self;
        let Some(queue) = queue else { return inner.changed().await };
        let place = Place { queue, number: queue.place() };
        poll_fn(|context| {
            if inner.borrow().has_changed() {
                inner.mark_unchanged();
                return Poll::Ready(Ok(()));
            }
            if let Err(closed) = inner.has_changed() {
                return Poll::Ready(Err(closed));
            }
            let waker = context.waker().clone();
            drop(place.queue.lock().wakers.insert(place.number, waker));
            Poll::Pending
        })
        .await
    }

    /// Waits until the value is so; `false`: all senders are gone.
    pub(crate) async fn until(&mut self, is_met: impl Fn(&T) -> bool) -> bool {
        while !is_met(&self.inner.borrow_and_update()) {
            if self.changed().await.is_err() {
                return false;
            }
        }
        true
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), line: self.line.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), queue: self.queue.clone() }
    }
}

impl watch::Watch for Watch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = tokio_watch::Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        channel(init)
    }
}

impl<T: OptionalSend + OptionalSync> watch::WatchSender<Watch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.inner.send(value).map_err(|error| SendError(error.0))?;
        self.line.wake();
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        Self::send_if_modified(self, modify)
    }

    fn borrow_watched(&self) -> tokio_watch::Ref<'_, T> {
        self.inner.borrow()
    }

    fn subscribe(&self) -> Receiver<T> {
        Receiver { inner: self.inner.subscribe(), queue: self.line.0.clone() }
    }
}

impl<T: OptionalSend + OptionalSync> watch::WatchReceiver<Watch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        Self::changed(self).await.map_err(|_| RecvError(()))
    }

    fn borrow_watched(&self) -> tokio_watch::Ref<'_, T> {
        self.inner.borrow()
    }

    fn borrow_and_update(&mut self) -> tokio_watch::Ref<'_, T> {
        self.inner.borrow_and_update()
    }
}
