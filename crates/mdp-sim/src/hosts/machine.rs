//! What a simulated machine is at one moment: paused or not, its clock, its seed, its tasks.

use std::{
    collections::BTreeMap,
    mem,
    sync::{MutexGuard, Weak},
    task::Waker,
    time::Duration,
};

use tokio::time::Instant;

use super::next_number;
use crate::{machine::TRUE_RATE, shared::Shared};

/// As far away as a timer is ever set.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// A task whose future can be dropped from outside.
pub(super) trait Killable: Send + Sync {
    /// Drops the future, unless it runs just now: then it is dropped when it has run.
    fn kill(&self);
}

#[derive(Debug)]
pub(super) struct Machine {
    state: Shared<State>,
}

struct State {
    seed: u64,
    /// How many tasks and timers there were.
    numbers: u64,
    is_paused: bool,
    is_killed: bool,
    clock: Clock,
    /// Tasks and timers that go on with `resume`.
    standing: BTreeMap<u64, Waker>,
    /// Timers that are set anew when the rate changes.
    alarms: BTreeMap<u64, Waker>,
    tasks: BTreeMap<u64, Weak<dyn Killable>>,
}

/// How the machine's clock relates to true time.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// In parts per million; never zero.
    rate: u32,
    /// One moment in true time and by this clock; `None`: they never differed.
    anchor: Option<(Instant, Instant)>,
}

impl Clock {
    fn now(self) -> Instant {
        let true_now = Instant::now();
        let Some((true_then, own_then)) = self.anchor else { return true_now };
        let passed = true_now.saturating_duration_since(true_then).as_nanos();
        let passed = passed.saturating_mul(u128::from(self.rate)) / u128::from(TRUE_RATE);
        let passed = duration(passed);
        own_then.checked_add(passed).unwrap_or(true_now)
    }

    /// When this clock shows that moment.
    fn true_time(self, at: Instant) -> Instant {
        let Some((true_then, own_then)) = self.anchor else { return at };
        let ahead = at.saturating_duration_since(own_then).as_nanos();
        // Rounded up, so that the moment has come when a timer fires.
        let ahead = ahead.saturating_mul(u128::from(TRUE_RATE)).div_ceil(u128::from(self.rate));
        true_then.checked_add(duration(ahead).min(FOR_EVER)).unwrap_or(at)
    }
}

fn duration(nanoseconds: u128) -> Duration {
    u64::try_from(nanoseconds).map_or(FOR_EVER, Duration::from_nanos)
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            seed,
            numbers: 0,
            is_paused: false,
            is_killed: false,
            clock: Clock { rate: TRUE_RATE, anchor: None },
            standing: BTreeMap::new(),
            alarms: BTreeMap::new(),
            tasks: BTreeMap::new(),
        };
        Self { state: Shared::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn pause(&self) {
        self.state().is_paused = true;
    }

    pub(super) fn resume(&self) {
        let standing = {
            let mut state = self.state();
            state.is_paused = false;
            mem::take(&mut state.standing)
        };
        standing.into_values().for_each(Waker::wake);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.state().is_paused
    }

    pub(super) fn kill(&self) {
        let (tasks, standing) = {
            let mut state = self.state();
            state.is_killed = true;
            state.alarms.clear();
            (mem::take(&mut state.tasks), mem::take(&mut state.standing))
        };
        // No lock is held: a future that is dropped takes its place out of here.
        for task in tasks.into_values() {
            if let Some(task) = task.upgrade() {
                task.kill();
            }
        }
        standing.into_values().for_each(Waker::wake);
    }

    pub(super) fn is_killed(&self) -> bool {
        self.state().is_killed
    }

    pub(super) fn set_rate(&self, parts_per_million: u32) {
        let alarms = {
            let mut state = self.state();
            let (true_now, own_now) = (Instant::now(), state.clock.now());
            state.clock =
                Clock { rate: parts_per_million.max(1), anchor: Some((true_now, own_now)) };
            mem::take(&mut state.alarms)
        };
        alarms.into_values().for_each(Waker::wake);
    }

    pub(super) fn now(&self) -> Instant {
        let clock = self.state().clock;
        clock.now()
    }

    pub(super) fn true_time(&self, at: Instant) -> Instant {
        let clock = self.state().clock;
        clock.true_time(at)
    }

    pub(super) fn random(&self) -> u64 {
        next_number(&mut self.state().seed)
    }

    /// Names a task or a timer.
    pub(super) fn number(&self) -> u64 {
        let mut state = self.state();
        state.numbers = state.numbers.wrapping_add(1);
        state.numbers
    }

    /// Whether a task or timer must wait for `resume`, which then wakes it. One of a machine that
    /// was killed waits for ever.
    pub(super) fn stands(&self, number: u64, waker: &Waker) -> bool {
        let mut state = self.state();
        if state.is_killed {
            return true;
        }
        if state.is_paused {
            state.standing.insert(number, waker.clone());
        }
        state.is_paused
    }

    /// Wakes a timer when the rate changes.
    pub(super) fn wait_for_rate(&self, number: u64, waker: &Waker) {
        self.state().alarms.insert(number, waker.clone());
    }

    /// Makes a task end with the machine.
    pub(super) fn adopt(&self, number: u64, task: Weak<dyn Killable>) {
        self.state().tasks.insert(number, task);
    }

    /// A task or timer is over.
    pub(super) fn forget(&self, number: u64) {
        let gone = {
            let mut state = self.state();
            let waker = (state.standing.remove(&number), state.alarms.remove(&number));
            (waker, state.tasks.remove(&number))
        };
        // Dropped when the lock is not held: a waker may own a whole task.
        drop(gone);
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("clock", &self.clock).finish_non_exhaustive()
    }
}
