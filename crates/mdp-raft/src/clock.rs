//! Time as this crate takes it: tokio's clock, or that of the simulated host that a task is on.

use std::{
    future::Future,
    ops::{Add, AddAssign, Sub, SubAssign},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use thiserror::Error;

use crate::simulation::{Alarm, Host, with_host};

/// A moment of the clock that a task goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(tokio::time::Instant);

impl Instant {
    pub(crate) fn now() -> Self {
        Self(with_host(Host::now).unwrap_or_else(tokio::time::Instant::now))
    }

    /// How long ago that was; zero for a moment to come.
    pub(crate) fn elapsed(&self) -> Duration {
        Self::now().saturating_duration_since(*self)
    }

    pub(crate) fn saturating_duration_since(&self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

impl openraft_rt::Instant for Instant {
    fn now() -> Self {
        Self::now()
    }

    fn elapsed(&self) -> Duration {
        Self::elapsed(self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, time: Duration) {
        self.0 += time;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0 - time)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, time: Duration) {
        self.0 -= time;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }
}

/// As far away as tokio sets a timer.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

pin_project! {
    /// Waits for a moment.
    #[derive(Debug)]
    #[project = SleepProjection]
    pub(crate) enum Sleep {
        /// By tokio's clock.
        Real { #[pin] timer: tokio::time::Sleep },
        /// By a host's.
        Simulated { #[pin] alarm: Alarm },
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.project() {
            SleepProjection::Real { timer } => timer.poll(context),
            SleepProjection::Simulated { alarm } => alarm.poll(context),
        }
    }
}

pub(crate) fn sleep(time: Duration) -> Sleep {
    match alarm_after(time) {
        None => Sleep::Real { timer: tokio::time::sleep(time) },
        Some(alarm) => Sleep::Simulated { alarm },
    }
}

pub(crate) fn sleep_until(at: Instant) -> Sleep {
    match alarm_at(at) {
        None => Sleep::Real { timer: tokio::time::sleep_until(at.0) },
        Some(alarm) => Sleep::Simulated { alarm },
    }
}

/// `None`: there is no host whose clock could be meant.
fn alarm_at(at: Instant) -> Option<Alarm> {
    Some(Alarm::new(Host::current()?, at.0))
}

fn alarm_after(time: Duration) -> Option<Alarm> {
    let host = Host::current()?;
    let now = host.now();
    let at = now.checked_add(time).unwrap_or(now + FOR_EVER);
    Some(Alarm::new(host, at))
}

/// Time was up.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("deadline has elapsed")]
pub(crate) struct Elapsed;

pin_project! {
    /// Waits for a future, and not for ever.
    #[derive(Debug)]
    #[project = TimeoutProjection]
    pub(crate) enum Timeout<F> {
        /// By tokio's clock.
        Real { #[pin] future: tokio::time::Timeout<F> },
        /// By a host's.
        Simulated { #[pin] future: F, #[pin] alarm: Alarm },
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            TimeoutProjection::Real { future } => {
                future.poll(context).map(|result| result.map_err(|_| Elapsed))
            }
            TimeoutProjection::Simulated { future, alarm } => {
                if let Poll::Ready(output) = future.poll(context) {
                    return Poll::Ready(Ok(output));
                }
                alarm.poll(context).map(|()| Err(Elapsed))
            }
        }
    }
}

pub(crate) fn timeout<F: Future>(time: Duration, future: F) -> Timeout<F> {
    match alarm_after(time) {
        None => Timeout::Real { future: tokio::time::timeout(time, future) },
        Some(alarm) => Timeout::Simulated { future, alarm },
    }
}

pub(crate) fn timeout_at<F: Future>(at: Instant, future: F) -> Timeout<F> {
    match alarm_at(at) {
        None => Timeout::Real { future: tokio::time::timeout_at(at.0, future) },
        Some(alarm) => Timeout::Simulated { future, alarm },
    }
}

/// How late a tick may be and still not move those after it.
const TICK_LATE_MAX: Duration = Duration::from_millis(5);

/// Ticks at an interval, the first at once. After a late one the interval begins anew: ticks that
/// were missed do not come one on top of the other.
#[derive(Debug)]
pub(crate) struct Ticks {
    next: Instant,
    interval: Duration,
}

impl Ticks {
    pub(crate) fn every(interval: Duration) -> Self {
        Self { next: Instant::now(), interval }
    }

    pub(crate) async fn tick(&mut self) {
        sleep_until(self.next).await;
        let now = Instant::now();
        let is_late = now.saturating_duration_since(self.next) > TICK_LATE_MAX;
        self.next = if is_late { now } else { self.next } + self.interval;
    }
}
