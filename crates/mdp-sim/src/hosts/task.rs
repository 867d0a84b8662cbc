//! Futures on a host: they carry it along, and stand still or end with it.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use tokio::task::futures::TaskLocalFuture;

use super::{Host, machine::Killable, next_number};
use crate::shared::Shared;

tokio::task_local! {
    static SCOPE: Scope;
}

/// What a task on a host has: the host, and a seed of its own, so that the numbers of one task do
/// not depend on how it takes turns with others.
pub(super) struct Scope {
    host: Host,
    seed: Cell<u64>,
}

impl Scope {
    pub(super) const fn new(host: Host, seed: u64) -> Self {
        Self { host, seed: Cell::new(seed) }
    }
}

/// Looks at the host of the task that asks.
pub(super) fn with_host<T>(look: impl FnOnce(&Host) -> T) -> T {
    SCOPE.with(|scope| look(&scope.host))
}

/// Takes numbers from the seed of the task that asks.
pub(super) fn seeded<T>(take: impl FnOnce(&mut u64) -> T) -> T {
    SCOPE.with(|scope| {
        let mut seed = scope.seed.get();
        let taken = take(&mut seed);
        scope.seed.set(seed);
        taken
    })
}

pub(super) fn look<T>(scope: Scope, look: impl FnOnce() -> T) -> T {
    SCOPE.sync_scope(scope, look)
}

type Scoped<F> = Pin<Box<TaskLocalFuture<Scope, F>>>;

fn scoped<F: Future>(host: &Host, seed: u64, future: F) -> Scoped<F> {
    Box::pin(SCOPE.scope(Scope::new(host.clone(), seed), future))
}

/// A future that somebody else polls: [`Host::run`].
pub(super) struct Run<F> {
    host: Host,
    number: u64,
    /// `None`: it is over, or the host is.
    future: Option<Scoped<F>>,
}

impl<F: Future> Run<F> {
    pub(super) fn new(host: Host, seed: u64, future: F) -> Self {
        let number = host.machine.number();
        let future = Some(scoped(&host, seed, future));
        Self { host, number, future }
    }
}

impl<F: Future> Future for Run<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if this.host.machine.is_killed() {
            this.future = None;
        }
        if this.host.machine.stands(this.number, context.waker()) {
            return Poll::Pending;
        }
        let Some(future) = this.future.as_mut() else { return Poll::Pending };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() || this.host.machine.is_killed() {
            this.future = None;
        }
        polled
    }
}

impl<F> Drop for Run<F> {
    fn drop(&mut self) {
        self.future = None;
        self.host.machine.forget(self.number);
    }
}

/// A future that is spawned, and which its host drops when it is killed.
pub(super) struct Spawned<F> {
    host: Host,
    number: u64,
    place: Arc<Place<F>>,
}

struct Place<F> {
    future: Shared<Option<Scoped<F>>>,
}

impl<F: Future + Send + 'static> Killable for Place<F> {
    fn kill(&self) {
        // Locked: it is the one that kills the host, and ends when it waits next.
        let future = self.future.try_lock().and_then(|mut future| future.take());
        drop(future);
    }
}

impl<F: Future + Send + 'static> Spawned<F> {
    fn new(host: Host, seed: u64, future: F) -> Self {
        let number = host.machine.number();
        let future = Shared::new(Some(scoped(&host, seed, future)));
        let place = Arc::new(Place { future });
        let weak: Weak<Place<F>> = Arc::downgrade(&place);
        host.machine.adopt(number, weak);
        Self { host, number, place }
    }
}

impl<F: Future> Future for Spawned<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let machine = &self.host.machine;
        if machine.stands(self.number, context.waker()) {
            return Poll::Pending;
        }
        let mut place = self.place.future.lock();
        let Some(future) = place.as_mut() else { return Poll::Pending };
        let polled = future.as_mut().poll(context);
        let over = if polled.is_ready() || machine.is_killed() { place.take() } else { None };
        drop(place);
        drop(over);
        polled
    }
}

impl<F> Drop for Spawned<F> {
    fn drop(&mut self) {
        let future = self.place.future.lock().take();
        drop(future);
        self.host.machine.forget(self.number);
    }
}

/// Makes a future run where whoever calls this runs.
pub(super) fn here<F: Future + Send + 'static>(future: F) -> Spawned<F> {
    Spawned::new(Host::current(), seeded(next_number), future)
}
