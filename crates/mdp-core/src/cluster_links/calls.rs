//! The calls to one node that have no answer yet.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use mdp_transport::SharedFrame;

use super::CallTag;

/// Where the outcome of a call goes.
pub trait CallReply {
    /// Whether the caller has given up: a call of it that was not sent is not sent any more.
    fn is_abandoned(&self) -> bool;
}

/// One call.
#[derive(Debug)]
pub struct Call<R> {
    /// What is asked: at most [`CALL_BYTES_MAX`](super::CALL_BYTES_MAX).
    pub request: Vec<u8>,
    /// When it is given up.
    pub deadline: Instant,
    /// Where its outcome goes.
    pub reply: R,
}

#[derive(Debug)]
struct Open<R> {
    /// The request, until a byte of it was written or it is not wanted any more.
    request: Option<SharedFrame>,
    is_written: bool,
    deadline: Instant,
    reply: R,
}

/// A call whose time is up.
#[derive(Debug)]
pub(super) struct Expired<R> {
    pub(super) reply: R,
    /// Whether a byte of its request was written.
    pub(super) is_written: bool,
}

/// The calls to one node on one lane, by correlation id.
#[derive(Debug)]
pub(super) struct Calls<R> {
    by_id: BTreeMap<u64, Open<R>>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Those that no connection has, the oldest first.
    waiting: VecDeque<u64>,
    /// Those that the connection has and of which no byte is known to be written, in their order.
    handed_over: VecDeque<u64>,
    /// The bytes of the requests of both.
    unwritten_bytes: usize,
}

impl<R: CallReply> Calls<R> {
    pub(super) const fn new() -> Self {
        Self {
            by_id: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            waiting: VecDeque::new(),
            handed_over: VecDeque::new(),
            unwritten_bytes: 0,
        }
    }

    /// Adds a call behind those that wait.
    pub(super) fn push(&mut self, id: u64, call: Call<R>) {
        let Call { request, deadline, reply } = call;
        self.unwritten_bytes += request.len();
        let request = Some(SharedFrame::from(request));
        self.by_id.insert(id, Open { request, is_written: false, deadline, reply });
        self.deadlines.insert((deadline, id));
        self.waiting.push_back(id);
    }

    /// The next request for the connection, if it is still wanted then.
    pub(super) fn hand_over(&mut self, now: Instant) -> Option<(u64, SharedFrame)> {
        while let Some(id) = self.waiting.pop_front() {
            let Some(open) = self.by_id.get(&id) else { continue };
            if open.deadline <= now || open.reply.is_abandoned() {
                self.forget_request(id);
            } else if let Some(request) = open.request.clone() {
                self.handed_over.push_back(id);
                return Some((id, request));
            }
        }
        None
    }

    /// The connection has `count` requests of which no byte was written. Returns how many fewer those are
    /// than before.
    pub(super) fn note_unwritten(&mut self, count: usize) -> u64 {
        let mut written = 0;
        while self.handed_over.len() > count
            && let Some(id) = self.handed_over.pop_front()
        {
            written += 1;
            self.note_written(id);
        }
        written
    }

    /// The connection is gone, and of these requests no byte was written. Returns how many others it had.
    pub(super) fn take_back(&mut self, unsent: Vec<CallTag>) -> u64 {
        let unsent: BTreeSet<u64> = unsent.into_iter().filter_map(request_id).collect();
        let mut written = 0;
        while let Some(id) = self.handed_over.pop_back() {
            if unsent.contains(&id) {
                self.waiting.push_front(id);
            } else {
                written += 1;
                self.note_written(id);
            }
        }
        written
    }

    fn note_written(&mut self, id: u64) {
        self.forget_request(id);
        if let Some(open) = self.by_id.get_mut(&id) {
            open.is_written = true;
        }
    }

    /// The connection is gone: no answer comes to what was written.
    pub(super) fn take_written(&mut self) -> Vec<R> {
        let written = self.by_id.extract_if(.., |_, open| open.is_written);
        written
            .map(|(id, open)| {
                self.deadlines.remove(&(open.deadline, id));
                open.reply
            })
            .collect()
    }

    /// The request is not needed any more.
    fn forget_request(&mut self, id: u64) {
        if let Some(request) = self.by_id.get_mut(&id).and_then(|open| open.request.take()) {
            self.unwritten_bytes -= request.len();
        }
    }

    /// Takes the call that an answer is for; `None`: there is none.
    pub(super) fn answered(&mut self, id: u64) -> Option<R> {
        self.forget_request(id);
        let open = self.by_id.remove(&id)?;
        self.deadlines.remove(&(open.deadline, id));
        Some(open.reply)
    }

    /// Takes a call whose time is up.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Expired<R>> {
        while let Some((deadline, id)) =
            self.deadlines.first().copied().filter(|(at, _)| *at <= now)
        {
            self.deadlines.remove(&(deadline, id));
            let is_written = self.by_id.get(&id).is_none_or(|open| open.is_written);
            self.forget_request(id);
            self.waiting.retain(|waiting| *waiting != id);
            if let Some(open) = self.by_id.remove(&id) {
                return Some(Expired { reply: open.reply, is_written });
            }
        }
        None
    }

    /// When [`pop_expired`](Self::pop_expired) has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Whether requests wait for a connection.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many have no answer yet.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many bytes the requests have that were not written.
    pub(super) const fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }
}

const fn request_id(tag: CallTag) -> Option<u64> {
    match tag {
        CallTag::Request(id) => Some(id),
        CallTag::Answer => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    impl CallReply for &'static str {
        fn is_abandoned(&self) -> bool {
            *self == "abandoned"
        }
    }

    fn calls(count: u64, now: Instant) -> Calls<&'static str> {
        let mut calls = Calls::new();
        for id in 0..count {
            let request = vec![7; 10];
            calls.push(id, Call { request, deadline: now + SECOND, reply: "caller" });
        }
        calls
    }

    fn handed_over(calls: &mut Calls<&'static str>, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| calls.hand_over(now).map(|(id, _)| id)).collect()
    }

    #[test]
    fn answer_meets_its_call_once() {
        let now = crate::any_instant();
        let mut calls = calls(1, now);
        assert_eq!(handed_over(&mut calls, now), [0]);
        assert_eq!(calls.note_unwritten(0), 1);
        assert_eq!(calls.answered(0), Some("caller"));
        assert_eq!(calls.answered(0), None);
        assert_eq!((calls.len(), calls.next_deadline()), (0, None));
    }

    #[test]
    fn request_that_was_not_written_goes_to_the_next_connection_and_no_other_does() {
        let now = crate::any_instant();
        let mut calls = calls(4, now);
        assert_eq!(calls.hand_over(now).map(|(id, _)| id), Some(0));
        assert_eq!(calls.hand_over(now).map(|(id, _)| id), Some(1));
        assert_eq!(calls.hand_over(now).map(|(id, _)| id), Some(2));
        assert_eq!(calls.note_unwritten(2), 1);
        assert_eq!(calls.unwritten_bytes(), 30);

        assert_eq!(calls.take_back(vec![CallTag::Request(2)]), 1);

        assert_eq!(calls.unwritten_bytes(), 20);
        assert_eq!(handed_over(&mut calls, now), [2, 3]);
    }

    #[test]
    fn call_whose_time_is_up_or_whose_caller_gave_up_is_not_sent() {
        let now = crate::any_instant();
        let mut calls = calls(1, now);
        let later = now + 3 * SECOND;
        calls.push(7, Call { request: vec![7], deadline: later, reply: "abandoned" });
        calls.push(8, Call { request: vec![7], deadline: later, reply: "caller" });

        assert_eq!(handed_over(&mut calls, now + SECOND), [8]);
        let expired = calls.pop_expired(now + SECOND).unwrap();
        assert!(calls.pop_expired(now + SECOND).is_none());

        assert_eq!(expired.reply, "caller");
        assert_eq!(calls.next_deadline(), Some(later));
        assert_eq!(calls.unwritten_bytes(), 1);
    }

    #[test]
    fn expired_call_tells_whether_it_was_written() {
        let now = crate::any_instant();
        let mut calls = calls(2, now);
        assert!(calls.hand_over(now).is_some());
        calls.note_unwritten(0);
        let expired = [calls.pop_expired(now + SECOND), calls.pop_expired(now + SECOND)];
        assert_eq!(expired.map(|expired| expired.unwrap().is_written), [true, false]);
        assert_eq!((calls.len(), calls.has_waiting(), calls.unwritten_bytes()), (0, false, 0));
    }
}
