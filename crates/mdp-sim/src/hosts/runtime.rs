//! Hosts in the place of the machine: what consensus, and openraft below it, run on. openraft asks
//! statics; which host is meant follows from the task that asks.

use std::{
    future::Future,
    io,
    ops::{Add, AddAssign, Sub, SubAssign},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use mdp_raft::Runtime;
use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime};
use rand::{SeedableRng as _, rngs::SmallRng};
use tokio::{
    task::{JoinError, JoinHandle},
    time::Instant,
};

use super::{Alarm, Host, next_number, task, watch::Watch};

/// As far away as tokio sets a timer.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The hosts of a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hosts;

impl Runtime for Hosts {
    type Async = HostRuntime;

    fn here<F>(task: F) -> impl Future<Output = F::Output> + Send + 'static
    where
        F: Future + Send + 'static,
    {
        task::here(task)
    }

    fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
        task::seeded(|seed| {
            for part in bytes.chunks_mut(size_of::<u64>()) {
                let number = next_number(seed).to_le_bytes();
                part.iter_mut().zip(number).for_each(|(byte, random)| *byte = random);
            }
        });
        Ok(())
    }

    /// A task as any other.
    fn run_writer(writer: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        drop(HostRuntime::spawn(writer));
        Ok(())
    }

    fn wait_for_disk(time: Duration) -> impl Future<Output = ()> + Send {
        HostRuntime::sleep(time)
    }
}

/// A moment of a host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Instant);

impl openraft_rt::Instant for Moment {
    fn now() -> Self {
        Self(task::with_host(Host::now))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, time: Duration) {
        self.0 += time;
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0 - time)
    }
}

impl SubAssign<Duration> for Moment {
    fn sub_assign(&mut self, time: Duration) {
        self.0 -= time;
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }
}

/// Waits for a future, and not for ever.
#[derive(Debug)]
pub(crate) struct Timeout<F> {
    future: Pin<Box<F>>,
    alarm: Alarm,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, &'static str>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut self.alarm).poll(context).map(|()| Err("time was up"))
    }
}

/// What openraft runs on.
#[derive(Debug)]
pub(crate) struct HostRuntime {
    inner: TokioRuntime,
}

impl AsyncRuntime for HostRuntime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Alarm;
    type Instant = Moment;
    type TimeoutError = &'static str;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = SmallRng;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        tokio::spawn(task::here(future))
    }

    fn sleep(duration: Duration) -> Alarm {
        let host = Host::current();
        let now = host.now();
        let at = now.checked_add(duration).unwrap_or(now + FOR_EVER);
        Alarm::new(host, at)
    }

    fn sleep_until(deadline: Moment) -> Alarm {
        Alarm::new(Host::current(), deadline.0)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(time: Duration, future: F) -> Timeout<F> {
        Timeout { future: Box::pin(future), alarm: Self::sleep(time) }
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(at: Moment, future: F) -> Timeout<F> {
        Timeout { future: Box::pin(future), alarm: Self::sleep_until(at) }
    }

    fn is_panic(join_error: &JoinError) -> bool {
        join_error.is_panic()
    }

    fn thread_rng() -> SmallRng {
        SmallRng::seed_from_u64(task::seeded(next_number))
    }

    type Mpsc = TokioMpsc;
    type Watch = Watch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn new(threads: usize) -> Self {
        Self { inner: TokioRuntime::new(threads) }
    }

    /// On a host of its own.
    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.inner.block_on(Host::new(0).run(future))
    }

    /// On a host nothing runs on another thread.
    async fn spawn_blocking<F, T>(f: F) -> io::Result<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Ok(f())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openraft_accepts_the_runtime() {
        openraft_rt::testing::Suite::<HostRuntime>::test_all();
    }
}
