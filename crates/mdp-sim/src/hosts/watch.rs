//! tokio's watch channel, but receivers wake in order: tokio itself wakes them in the order of random
//! numbers that nobody can seed.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Poll, Waker},
};

use openraft_rt::{
    OptionalSend, OptionalSync,
    watch::{self, RecvError, SendError},
};
use tokio::sync::watch as tokio_watch;

use crate::shared::Shared;

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
    queue: Arc<Queue>,
}

/// Who waits.
#[derive(Debug, Default)]
struct Queue {
    waiting: Shared<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    places: u64,
    wakers: BTreeMap<u64, Waker>,
}

impl Queue {
    fn place(&self) -> u64 {
        let mut waiting = self.waiting.lock();
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
        let waker = self.queue.waiting.lock().wakers.remove(&self.number);
        drop(waker);
    }
}

/// The sender's end of the queue; wakes everybody when it goes.
#[derive(Clone, Debug)]
struct Line(Arc<Queue>);

impl Line {
    fn wake(&self) {
        let wakers = mem::take(&mut self.0.waiting.lock().wakers);
        wakers.into_values().for_each(Waker::wake);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.wake();
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), line: self.line.clone() }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), queue: Arc::clone(&self.queue) }
    }
}

impl watch::Watch for Watch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = tokio_watch::Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = tokio_watch::channel(init);
        let queue = Arc::<Queue>::default();
        let line = Line(Arc::clone(&queue));
        (Sender { inner: sender, line }, Receiver { inner: receiver, queue })
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
        let is_modified = self.inner.send_if_modified(modify);
        if is_modified {
            self.line.wake();
        }
        is_modified
    }

    fn borrow_watched(&self) -> tokio_watch::Ref<'_, T> {
        self.inner.borrow()
    }

    fn subscribe(&self) -> Receiver<T> {
        Receiver { inner: self.inner.subscribe(), queue: Arc::clone(&self.line.0) }
    }
}

impl<T: OptionalSend + OptionalSync> watch::WatchReceiver<Watch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        let Self { inner, queue } = self;
        let place = Place { queue, number: queue.place() };
        poll_fn(|context| {
            if inner.borrow().has_changed() {
                inner.mark_unchanged();
                return Poll::Ready(Ok(()));
            }
            if inner.has_changed().is_err() {
                return Poll::Ready(Err(RecvError(())));
            }
            let waker = context.waker().clone();
            drop(place.queue.waiting.lock().wakers.insert(place.number, waker));
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> tokio_watch::Ref<'_, T> {
        self.inner.borrow()
    }

    fn borrow_and_update(&mut self) -> tokio_watch::Ref<'_, T> {
        self.inner.borrow_and_update()
    }
}
