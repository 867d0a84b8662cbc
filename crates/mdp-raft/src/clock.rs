//! Time as this crate takes it: by the clock of the machine that a node runs on.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use openraft_rt::{AsyncRuntime, Instant as _};
use pin_project_lite::pin_project;
use thiserror::Error;
use tokio::task::{Unconstrained, unconstrained};

use crate::runtime::Runtime;

/// A moment of a machine's clock.
pub(crate) type Instant<R> = <<R as Runtime>::Async as AsyncRuntime>::Instant;
/// Waits for a moment.
pub(crate) type Sleep<R> = <<R as Runtime>::Async as AsyncRuntime>::Sleep;

pub(crate) fn now<R: Runtime>() -> Instant<R> {
    Instant::<R>::now()
}

/// Time was up.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("deadline has elapsed")]
pub(crate) struct Elapsed;

pin_project! {
    /// Waits for a future, and not for ever.
    ///
    /// Not openraft's `AsyncRuntime::Timeout`: through a generic associated type the compiler loses
    /// the lifetimes of what is borrowed, and takes who waits for this to be not `Send` (decision 18).
    pub(crate) struct Timeout<F, S> {
        #[pin]
        future: F,
        // Time is up also for a future that always has something to do.
        #[pin]
        sleep: Unconstrained<S>,
    }
}

impl<F: Future, S: Future<Output = ()>> Future for Timeout<F, S> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(context) {
            return Poll::Ready(Ok(output));
        }
        this.sleep.poll(context).map(|()| Err(Elapsed))
    }
}

pub(crate) fn timeout<R: Runtime, F: Future>(time: Duration, future: F) -> Timeout<F, Sleep<R>> {
    Timeout { future, sleep: unconstrained(R::Async::sleep(time)) }
}

pub(crate) fn timeout_at<R: Runtime, F: Future>(at: Instant<R>, future: F) -> Timeout<F, Sleep<R>> {
    Timeout { future, sleep: unconstrained(R::Async::sleep_until(at)) }
}

/// How late a tick may be and still not move those after it.
const TICK_LATE_MAX: Duration = Duration::from_millis(5);

/// Ticks at an interval, the first at once. After a late one the interval begins anew: ticks that
/// were missed do not come one on top of the other.
#[derive(Debug)]
pub(crate) struct Ticks<R: Runtime> {
    next: Instant<R>,
    interval: Duration,
}

impl<R: Runtime> Ticks<R> {
    pub(crate) fn every(interval: Duration) -> Self {
        Self { next: now::<R>(), interval }
    }

    pub(crate) async fn tick(&mut self) {
        R::Async::sleep_until(self.next).await;
        let now = now::<R>();
        let is_late = now.saturating_duration_since(self.next) > TICK_LATE_MAX;
        self.next = if is_late { now } else { self.next } + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;
    use crate::runtime::Tokio;

    #[tokio::test]
    async fn time_is_up_also_for_a_future_that_always_has_something_to_do() {
        let busy = async {
            while black_box(true) {
                tokio::task::consume_budget().await;
            }
        };

        let limited = timeout::<Tokio, _>(Duration::from_millis(10), busy);

        assert_eq!(limited.await, Err(Elapsed));
    }
}
