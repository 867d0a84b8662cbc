//! Simulated machines that the real consensus runs on.
//!
//! Inside of [`Host::run`] everything that `mdp-raft` and openraft take from the machine is the
//! host's: random numbers come from its seed, time from its clock, and whatever they spawn runs on
//! it, too. Outside of a host there is nothing to run on: who asks there panics.

mod machine;
mod runtime;
mod task;
mod watch;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;

use machine::Machine;
pub(crate) use runtime::Hosts;
use task::{Run, Scope};

/// Consensus on a simulated machine.
pub(crate) type Consensus = mdp_raft::Consensus<Hosts>;

/// A simulated machine: what runs on it has its random numbers from a seed, stops while it is
/// paused, and goes by its clock. Cheap to clone; all clones are the same machine.
#[derive(Clone)]
pub(crate) struct Host {
    machine: Arc<Machine>,
}

impl Host {
    /// A machine that runs, with a clock that goes right.
    pub(crate) fn new(seed: u64) -> Self {
        Self { machine: Arc::new(Machine::new(seed)) }
    }

    /// Runs a future on this host, and everything that `mdp-raft` and openraft spawn from it.
    /// Within a future of another host, it is this one for the time of the inner future. What was
    /// made before it was handed over, such as a timer, is not of this host: `run(async { .. })`.
    pub(crate) fn run<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        Run::new(self.clone(), self.random(), future)
    }

    /// Nothing of it runs until [`resume`](Self::resume), neither tasks nor timers; what they
    /// missed they find late. Its clock goes on meanwhile.
    pub(crate) fn pause(&self) {
        self.machine.pause();
    }

    /// Goes on after [`pause`](Self::pause): tasks in the order in which they were begun.
    pub(crate) fn resume(&self) {
        self.machine.resume();
    }

    /// Whether it stands still.
    pub(crate) fn is_paused(&self) -> bool {
        self.machine.is_paused()
    }

    /// Ends all that runs on it, now and for ever, as `kill -9` does: every task is dropped where
    /// it stands. Whatever is run on it later never does anything, not even
    /// `Consensus::shutdown`. What comes after is a new host.
    ///
    /// Dropping a store still writes the end of its database: a volume that shall look as after a
    /// crash must not take writes any more when this is called.
    pub(crate) fn kill(&self) {
        self.machine.kill();
    }

    /// How fast its clock runs from now on, in parts per million of true time (1 000 000 is true,
    /// and 1 the least). Must be called inside of a tokio runtime.
    pub(crate) fn set_rate(&self, parts_per_million: u32) {
        self.machine.set_rate(parts_per_million);
    }

    /// Its clock now. It is monotonic, and equals tokio's clock while the rate was always true.
    /// Must be called inside of a tokio runtime.
    pub(crate) fn now(&self) -> Instant {
        self.machine.now()
    }

    /// Sleeps until its clock shows this, and until it is not paused.
    pub(crate) fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send + use<> {
        Alarm::new(self.clone(), at)
    }

    /// The next number of its seed.
    pub(crate) fn random(&self) -> u64 {
        self.machine.random()
    }

    /// The host of the task that asks.
    pub(crate) fn current() -> Self {
        task::with_host(Clone::clone)
    }

    /// Spawns what somebody asks of this host. Must be called inside of a tokio runtime.
    pub(crate) fn spawn(&self, asked: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(self.run(asked)));
    }

    /// Looks at something by the clock of this host. It must not take random numbers: looking
    /// changes nothing of what comes.
    pub(crate) fn look<T>(&self, look: impl FnOnce() -> T) -> T {
        task::look(Scope::new(self.clone(), 0), look)
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

/// The next number of a seed (`SplitMix64`).
const fn next_number(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
