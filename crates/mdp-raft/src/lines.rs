//! Log lines that other nodes can cause at will: one of each kind in a while, with how many were left out.

use std::{sync::Mutex, time::Duration};

use mdp_rate_limiter::{Admission, Bucket, Limit};

use crate::{
    clock::{Instant, now},
    hub::lock,
    runtime::Runtime,
};

/// How often a line of one kind is written at most: callers are told apart by ids that they choose.
const LINE: Limit = Limit { most: 1, interval: Duration::from_secs(10) };

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A proposal cannot be read.
    Proposal,
    /// What a leader sent cannot be read.
    Entries,
    /// A newcomer's question was passed on.
    PassedOn,
    /// A learner was made.
    Joined,
    /// A learner that never answered gives way.
    GivesWay,
    /// A member has another address.
    Moved,
    /// A node that no known node has as a voter wants to lead this one.
    Unknown,
    /// A node calls in the name of another one.
    OtherKey,
}

impl Line {
    const COUNT: usize = 8;
}

/// When each kind of line may be written again.
#[derive(Debug)]
pub(crate) struct LineLimits<R: Runtime>(Mutex<[Bucket<Instant<R>>; Line::COUNT]>);

impl<R: Runtime> Default for LineLimits<R> {
    fn default() -> Self {
        Self(Mutex::new([Bucket::full(LINE); Line::COUNT]))
    }
}

impl<R: Runtime> LineLimits<R> {
    /// Asks for a line.
    pub(crate) fn admit(&self, line: Line) -> Admission {
        let mut buckets = lock(&self.0);
        buckets.get_mut(line as usize).map_or(Admission::Throttled, |it| it.admit(now::<R>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tokio;

    #[tokio::test(start_paused = true)]
    async fn line_of_a_kind_is_written_once_in_ten_seconds_and_tells_how_many_were_left_out() {
        let lines = LineLimits::<Tokio>::default();
        let first = Admission::Allowed { left_out: None };
        assert_eq!(lines.admit(Line::PassedOn), first);
        for _ in 0..1_000 {
            assert_eq!(lines.admit(Line::PassedOn), Admission::Throttled);
        }
        assert_eq!(lines.admit(Line::Unknown), first);

        tokio::time::advance(LINE.interval).await;

        assert_eq!(lines.admit(Line::PassedOn), Admission::Allowed { left_out: Some(1_000) });
        assert_eq!(lines.admit(Line::PassedOn), Admission::Throttled);
    }
}
