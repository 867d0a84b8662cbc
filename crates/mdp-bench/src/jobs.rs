//! Jobs that take time but no processor: replies that workers hold back.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use mdp_wire::Body;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::BenchError;

/// The shortest time that a timer can be set to; zero would turn it off.
const TIMER_MIN: Duration = Duration::from_nanos(1);

/// A reply that a worker will send.
pub(crate) struct Job<F> {
    /// The index of the worker.
    pub(crate) worker: usize,
    /// Where the reply goes.
    pub(crate) to: F,
    pub(crate) body: Body<F>,
    due_at: Instant,
}

/// All jobs of all workers; each takes the same time. There are never more than workers, for a
/// broker gives each one request at a time.
pub(crate) struct Jobs<F> {
    duration: Duration,
    /// First come, first due.
    waiting: VecDeque<Job<F>>,
    /// `epoll` counts in milliseconds, which is too coarse for a job of one.
    timer: OwnedFd,
    timer_set_to: Option<Instant>,
}

impl<F> Jobs<F> {
    /// `None` for jobs that take no time.
    pub(crate) fn lasting(duration: Duration) -> Result<Option<Self>, BenchError> {
        if duration.is_zero() {
            return Ok(None);
        }
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(|error| BenchError::Poll(error.into()))?;
        Ok(Some(Self { duration, waiting: VecDeque::new(), timer, timer_set_to: None }))
    }

    /// Becomes readable when a job is due.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    pub(crate) fn begin(&mut self, worker: usize, to: F, body: Body<F>, now: Instant) {
        self.waiting.push_back(Job { worker, to, body, due_at: now + self.duration });
    }

    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Job<F>> {
        self.waiting.pop_front_if(|job| job.due_at <= now)
    }

    /// Sets the timer to the job that is due next.
    pub(crate) fn set_timer(&mut self, now: Instant) -> Result<(), BenchError> {
        let due_at = self.waiting.front().map(|job| job.due_at);
        let (Some(due), true) = (due_at, due_at != self.timer_set_to) else { return Ok(()) };
        let left = due.saturating_duration_since(now).max(TIMER_MIN);
        let it_value = Timespec::try_from(left)
            .map_err(|_error| BenchError::Poll(io::ErrorKind::InvalidInput.into()))?;
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)
            .map_err(|error| BenchError::Poll(error.into()))?;
        self.timer_set_to = due_at;
        Ok(())
    }
}
