//! The calls to one node that have no answer yet.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use mdp_raft::CallError;
use tokio::sync::oneshot;

/// Where the outcome of a call goes.
pub(super) type Reply = oneshot::Sender<Result<Vec<u8>, CallError>>;

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Vec<u8>,
    pub(super) deadline: Instant,
    pub(super) reply: Reply,
}

#[derive(Debug)]
struct Open {
    /// The request, until it was sent.
    request: Option<Vec<u8>>,
    deadline: Instant,
    reply: Reply,
}

/// The calls to one node on one lane, by correlation id.
#[derive(Debug, Default)]
pub(super) struct Calls {
    by_id: BTreeMap<u64, Open>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Those that were not sent, oldest first.
    unsent: VecDeque<u64>,
}

impl Calls {
    /// Adds a call behind those that are not sent yet.
    pub(super) fn push(&mut self, id: u64, call: Call) {
        let Call { request, deadline, reply } = call;
        self.by_id.insert(id, Open { request: Some(request), deadline, reply });
        self.deadlines.insert((deadline, id));
        self.unsent.push_back(id);
    }

    /// The next request to be sent, if it is still wanted then. [`Calls::sent`] must follow, or it
    /// stays the next.
    pub(super) fn next_unsent(&mut self, now: Instant) -> Option<(u64, &[u8])> {
        while let Some(id) = self.unsent.front().copied() {
            let is_wanted = self
                .by_id
                .get(&id)
                .is_some_and(|open| open.deadline > now && !open.reply.is_closed());
            if is_wanted {
                return Some((id, self.by_id.get(&id)?.request.as_deref()?));
            }
            self.unsent.pop_front();
        }
        None
    }

    /// Notes that the next request was sent.
    pub(super) fn sent(&mut self) {
        if let Some(open) = self.unsent.pop_front().and_then(|id| self.by_id.get_mut(&id)) {
            open.request = None;
        }
    }

    /// Hands an answer to whoever waits for it; false if nobody does.
    pub(super) fn answer(&mut self, id: u64, answer: &[u8]) -> bool {
        let Some(open) = self.by_id.remove(&id) else { return false };
        self.deadlines.remove(&(open.deadline, id));
        open.reply.send(Ok(answer.to_vec())).is_ok()
    }

    /// Forgets the calls whose time is up; returns how many those are. Those that were never sent are told
    /// the obstacle.
    pub(super) fn expire(&mut self, now: Instant, obstacle: CallError) -> u64 {
        let mut expired = 0;
        while let Some((deadline, id)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            self.unsent.retain(|unsent| *unsent != id);
            if let Some(open) = self.by_id.remove(&id) {
                expired += 1;
                let error = if open.request.is_some() { obstacle } else { CallError::Timeout };
                // Whoever asked may have given up by itself.
                match open.reply.send(Err(error)) {
                    Ok(()) | Err(_) => {}
                }
            }
        }
        expired
    }

    /// When [`Calls::expire`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Whether requests wait to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// How many have no answer yet.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn call(deadline: Instant) -> (Call, oneshot::Receiver<Result<Vec<u8>, CallError>>) {
        let (reply, outcome) = oneshot::channel();
        (Call { request: b"?".to_vec(), deadline, reply }, outcome)
    }

    #[test]
    fn answer_meets_its_call_once() {
        let (now, mut calls) = (Instant::now(), Calls::default());
        let (first, mut outcome) = call(now + SECOND);
        calls.push(1, first);
        assert_eq!(calls.next_unsent(now), Some((1, b"?".as_slice())));
        calls.sent();

        assert!(calls.answer(1, b"!"));
        assert!(!calls.answer(1, b"again"));

        assert_eq!(outcome.try_recv(), Ok(Ok(b"!".to_vec())));
        assert_eq!((calls.len(), calls.next_deadline()), (0, None));
    }

    #[test]
    fn call_whose_time_is_up_is_neither_sent_nor_answered() {
        let (now, mut calls) = (Instant::now(), Calls::default());
        let (short, mut outcome) = call(now + SECOND);
        let (long, _long_outcome) = call(now + 3 * SECOND);
        calls.push(1, short);
        calls.push(2, long);

        assert_eq!(calls.next_unsent(now + SECOND).map(|(id, _)| id), Some(2));
        assert_eq!(calls.expire(now + SECOND, CallError::Refused), 1);

        assert_eq!(outcome.try_recv(), Ok(Err(CallError::Refused)));
        assert!(!calls.answer(1, b"late"));
        assert_eq!(calls.next_deadline(), Some(now + 3 * SECOND));
    }

    #[test]
    fn call_that_was_sent_and_not_answered_is_told_so() {
        let (now, mut calls) = (Instant::now(), Calls::default());
        let (sent, mut outcome) = call(now + SECOND);
        calls.push(1, sent);
        assert!(calls.next_unsent(now).is_some());
        calls.sent();

        assert_eq!(calls.expire(now + SECOND, CallError::NoAddress), 1);

        assert_eq!(outcome.try_recv(), Ok(Err(CallError::Timeout)));
    }

    #[test]
    fn expired_calls_leave_nothing_behind() {
        let (now, mut calls) = (Instant::now(), Calls::default());
        for id in 0..10 {
            calls.push(id, call(now).0);
        }

        assert_eq!(calls.expire(now, CallError::Timeout), 10);

        assert_eq!(calls.len(), 0);
        assert!(!calls.has_unsent());
    }
}
