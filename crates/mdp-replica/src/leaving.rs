//! The last steps of a drain: others lead, and the life ends. Each is tried for a while.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::HandingOver;

/// How long the end of this life is proposed.
const GONE_TIMEOUT: Duration = Duration::from_secs(1);
/// How soon it is proposed again.
const GONE_RETRY: Duration = Duration::from_millis(250);
/// How soon to look again whether leadership was handed over.
const HAND_OVER_LOOK: Duration = Duration::from_millis(20);

#[derive(Debug)]
enum Step {
    /// The node still has work to do.
    Working,
    /// It has none, and waits for another leader.
    HandingOver {
        look_at: Instant,
    },
    /// It asks the cluster to end its life.
    EndingLife {
        until: Instant,
        next_at: Instant,
    },
    Over,
}

/// A drain that has begun.
#[derive(Debug)]
pub(crate) struct Leaving {
    handing_over: Option<HandingOver>,
    leader_moved: bool,
    step: Step,
}

impl Leaving {
    /// `handing_over` ends within a limit of its own; `None`: others lead already.
    pub(crate) const fn new(handing_over: Option<HandingOver>) -> Self {
        Self { handing_over, leader_moved: false, step: Step::Working }
    }

    /// The node has nothing left to do.
    pub(crate) const fn end(&mut self, now: Instant) {
        if let Step::Working = self.step {
            self.step = Step::HandingOver { look_at: now };
        }
    }

    /// Goes on; true if the end of this life is to be proposed now.
    pub(crate) fn wants_proposal(&mut self, now: Instant, has_life: bool) -> bool {
        if let Step::HandingOver { look_at } = &mut self.step {
            match self.handing_over.as_mut().map(oneshot::Receiver::try_recv) {
                Some(Err(oneshot::error::TryRecvError::Empty)) => {
                    *look_at = now + HAND_OVER_LOOK;
                    return false;
                }
                Some(Ok(has_moved)) => self.leader_moved = has_moved,
                Some(Err(oneshot::error::TryRecvError::Closed)) | None => {}
            }
            self.handing_over = None;
            self.step = Step::EndingLife { until: now + GONE_TIMEOUT, next_at: now };
        }
        let Step::EndingLife { until, next_at } = &mut self.step else { return false };
        if !has_life || now >= *until {
            self.step = Step::Over;
            return false;
        }
        if now < *next_at {
            return false;
        }
        *next_at = now + GONE_RETRY;
        true
    }

    /// When to go on.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.step {
            Step::Working | Step::Over => None,
            Step::HandingOver { look_at } => Some(look_at),
            Step::EndingLife { until, next_at } => Some(until.min(next_at)),
        }
    }

    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.step, Step::Over)
    }

    pub(crate) const fn leader_moved(&self) -> bool {
        self.leader_moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any_instant;

    #[test]
    fn life_ends_after_another_node_leads() {
        let now = any_instant();
        let (moved, handing_over) = oneshot::channel();
        let mut leaving = Leaving::new(Some(handing_over));
        assert_eq!(leaving.poll_timeout(), None);

        leaving.end(now);
        assert!(!leaving.wants_proposal(now, true));
        moved.send(true).unwrap();
        assert!(leaving.wants_proposal(now + HAND_OVER_LOOK, true));
        assert!(!leaving.is_over());
        assert!(!leaving.wants_proposal(now + HAND_OVER_LOOK, false));

        assert!(leaving.is_over() && leaving.leader_moved());
    }

    #[test]
    fn end_of_life_is_proposed_again_and_given_up() {
        let now = any_instant();
        let mut leaving = Leaving::new(None);
        leaving.end(now);

        let (mut proposals, mut at) = (0, now);
        while let Some(due) = leaving.poll_timeout() {
            at = due;
            proposals += usize::from(leaving.wants_proposal(at, true));
        }

        assert_eq!((proposals, at - now), (4, GONE_TIMEOUT));
        assert!(leaving.is_over() && !leaving.leader_moved());
    }
}
