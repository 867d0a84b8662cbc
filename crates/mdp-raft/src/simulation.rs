//! For simulations and tests: simulated machines that the real code of this crate runs on.
//!
//! Inside of [`Host::run`] everything that this crate and openraft take from the machine is the
//! host's: random numbers come from its seed, time from its clock, and whatever is spawned runs on
//! it, too; what others spawn is not ([`Host::spawn`]). Together with a [`Volume`](crate::Volume) in memory, a [`Transport`](crate::Transport)
//! of function calls and tokio's paused time on one thread, a whole cluster runs the same way each
//! time that it is started with the same seeds.
//!
//! Outside of a host, as in the product, nothing here costs more than the look whether there is one.

mod machine;
mod task;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{task::JoinHandle, time::Instant};

pub use crate::view::{EntryView, LogView, PositionView, RaftView, VoteView};
use machine::Machine;
use task::{OnHost, Run, Scope};
pub(crate) use task::{on_this_host, seeded, with_host};

/// A simulated machine: what runs on it has its random numbers from a seed, stops while it is
/// paused, and goes by its clock. Cheap to clone; all clones are the same machine.
#[derive(Clone)]
pub struct Host {
    machine: Arc<Machine>,
}

impl Host {
    /// A machine that runs, with a clock that goes right.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { machine: Arc::new(Machine::new(seed)) }
    }

    /// Runs a future on this host, and everything that this crate and openraft spawn from it.
    /// Within a future of another host, it is this one for the time of the inner future. What was
    /// made before it was handed over, such as a timer, is not of this host: `run(async { .. })`.
    pub fn run<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        Run::new(self.clone(), self.random(), future)
    }

    /// Spawns a task on this host. Must be called inside of a tokio runtime.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.own(future))
    }

    /// Nothing of it runs until [`resume`](Self::resume), neither tasks nor timers; what they
    /// missed they find late. Its clock goes on meanwhile.
    pub fn pause(&self) {
        self.machine.pause();
    }

    /// Goes on after [`pause`](Self::pause): tasks in the order in which they were begun.
    pub fn resume(&self) {
        self.machine.resume();
    }

    /// Whether it stands still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.machine.is_paused()
    }

    /// Ends all that runs on it, now and for ever, as `kill -9` does: every task is dropped where
    /// it stands. Whatever is run on it later never does anything, not even
    /// [`shutdown`](crate::Consensus::shutdown). What comes after is a new host.
    ///
    /// Dropping a store still writes the end of its database: a volume that shall look as after a
    /// crash must not take writes any more when this is called.
    pub fn kill(&self) {
        self.machine.kill();
    }

    /// Whether it was killed.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.machine.is_killed()
    }

    /// How fast its clock runs from now on, in parts per million of true time (1 000 000 is true,
    /// and 1 the least). Must be called inside of a tokio runtime.
    pub fn set_rate(&self, parts_per_million: u32) {
        self.machine.set_rate(parts_per_million);
    }

    /// Its clock now. It is monotonic, and equals tokio's clock while the rate was always true.
    /// Must be called inside of a tokio runtime.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.machine.now()
    }

    /// Sleeps until its clock shows this, and until it is not paused.
    pub fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + use<> {
        Alarm::new(self.clone(), at)
    }

    /// The next number of its seed.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.machine.random()
    }

    /// The host of the task that asks, if it has one.
    #[must_use]
    pub fn current() -> Option<Self> {
        with_host(Clone::clone)
    }

    /// Looks at something by the clock of this host. It must not take random numbers: looking
    /// changes nothing of what comes.
    pub(crate) fn look<T>(&self, look: impl FnOnce() -> T) -> T {
        task::look(Scope::new(self.clone(), 0), look)
    }

    /// Makes a future run on this host when it is spawned.
    pub(crate) fn own<F: Future + Send + 'static>(&self, future: F) -> OnHost<F> {
        OnHost::simulated(self.clone(), self.random(), future)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("is_paused", &self.is_paused()).finish_non_exhaustive()
    }
}

/// A timer that goes by a host's clock.
#[derive(Debug)]
pub(crate) struct Alarm {
    host: Host,
    at: Instant,
    number: u64,
    /// In true time; it is set anew when the clock's rate changes.
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl Alarm {
    pub(crate) fn new(host: Host, at: Instant) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(host.machine.true_time(at)));
        let number = host.machine.number();
        Self { host, at, number, timer }
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let machine = &this.host.machine;
        if machine.stands(this.number, context.waker()) {
            return Poll::Pending;
        }
        loop {
            if machine.now() >= this.at {
                return Poll::Ready(());
            }
            let due = machine.true_time(this.at);
            if this.timer.deadline() != due {
                this.timer.as_mut().reset(due);
            }
            if this.timer.as_mut().poll(context).is_pending() {
                machine.wait_for_rate(this.number, context.waker());
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.host.machine.forget(self.number);
    }
}

#[cfg(test)]
mod tests;
