//! What the broker counts. Counters are read, not emitted, and only ever rise.

use std::{collections::BTreeMap, time::Duration};

use mdp_histogram::Histogram;
use mdp_wire::Defect;

use crate::Denial;

/// Why a request, a reply or a command was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// The message was malformed (AM-01).
    Malformed(Defect),
    /// The request waited longer than its TTL (MDP7-17), or may not wait at all.
    Expired,
    /// As many workers as allowed were lost with the request.
    AttemptsExhausted,
    /// At-most-once: the worker that had the request was lost.
    OutcomeUnknown,
    /// A part of the reply had reached the client when the worker was lost.
    PartiallyAnswered,
    /// The partial replies kept for a 0.1 client are too large, or `max_queued_bytes` are kept.
    PartialsTooLarge,
    /// `max_queued_requests` are waiting.
    QueueFull,
    /// `max_queued_requests` of the service are waiting.
    ServiceQueueFull,
    /// `max_queued_requests_per_client` of the client are waiting.
    ClientQueueFull,
    /// `max_queued_bytes` are kept; the newest request of the greediest client went.
    Shed,
    /// `max_services` are known.
    TooManyServices,
    /// Too many questions to the cluster are open.
    TooManyQueries,
    /// The client is gone.
    ClientGone,
    /// This node drains, and nobody can serve the request.
    Draining,
    /// A request that another node sent a second time.
    RepeatedForward,
    /// A request of another node that is gone, or the reply to one.
    OriginGone,
    /// A reply of another node to a request that it does not have any more.
    LateReply,
    /// The worker that had the request answered it with a message that cannot be read (AM-21).
    BadAnswer,
    /// A reply to a token that its worker does not hold.
    UnknownToken,
    /// A command from a peer that is not a registered worker.
    NotRegistered,
    /// The client's identity may not call the service.
    NotAllowed,
    /// The client's identity has used up a quota.
    OverQuota,
}

impl DropReason {
    /// Every reason that is not about the bytes of a message, in the order of declaration.
    const OTHERS: [Self; 21] = [
        Self::Expired,
        Self::AttemptsExhausted,
        Self::OutcomeUnknown,
        Self::PartiallyAnswered,
        Self::PartialsTooLarge,
        Self::QueueFull,
        Self::ServiceQueueFull,
        Self::ClientQueueFull,
        Self::Shed,
        Self::TooManyServices,
        Self::TooManyQueries,
        Self::ClientGone,
        Self::Draining,
        Self::RepeatedForward,
        Self::OriginGone,
        Self::LateReply,
        Self::BadAnswer,
        Self::UnknownToken,
        Self::NotRegistered,
        Self::NotAllowed,
        Self::OverQuota,
    ];

    /// Every reason, in the order of declaration.
    pub fn all() -> impl Iterator<Item = Self> {
        Defect::ALL.into_iter().map(Self::Malformed).chain(Self::OTHERS)
    }

    /// The value of the metric label `reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed(defect) => defect.label(),
            Self::Expired => "expired",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::PartiallyAnswered => "partially_answered",
            Self::PartialsTooLarge => "partials_too_large",
            Self::QueueFull => "queue_full",
            Self::ServiceQueueFull => "service_queue_full",
            Self::ClientQueueFull => "client_queue_full",
            Self::Shed => "shed",
            Self::TooManyServices => "too_many_services",
            Self::TooManyQueries => "too_many_queries",
            Self::ClientGone => "client_gone",
            Self::Draining => "draining",
            Self::RepeatedForward => "repeated_forward",
            Self::OriginGone => "origin_gone",
            Self::LateReply => "late_reply",
            Self::BadAnswer => "bad_answer",
            Self::UnknownToken => "unknown_token",
            Self::NotRegistered => "not_registered",
            Self::NotAllowed => "not_allowed",
            Self::OverQuota => "over_quota",
        }
    }
}

/// Totals since the start, except where a field says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests received from clients, `mmi.*` not counted.
    pub requests: u64,
    /// `mmi.*` requests received.
    pub mmi_requests: u64,
    /// Requests handed to a worker, a second attempt counted again.
    pub dispatched: u64,
    /// Final replies sent to clients, `mmi.*` not counted.
    pub replied: u64,
    /// Partial replies sent to clients.
    pub partials: u64,
    /// Requests taken back from a lost worker to be given to another.
    pub redispatched: u64,
    /// Requests of this node's clients that were sent to another node, a second time counted again.
    pub forwarded: u64,
    /// Of those, the ones that came back and no worker had had.
    pub returned: u64,
    /// Of those, the ones asked back because a worker elsewhere was free.
    pub recalled: u64,
    /// Requests that other nodes sent to this one.
    pub forwards_received: u64,
    /// Final replies sent to other nodes.
    pub forwards_replied: u64,
    /// Replies of 0.1 workers without the empty frame behind the address, taken as if it were there.
    pub undelimited_replies: u64,
    /// Registrations proven and acknowledged.
    pub registrations: u64,
    /// Registrations refused.
    pub refused_registrations: u64,
    /// Workers that expired.
    pub expired_workers: u64,
    /// Times that the process was found to have stood still.
    pub pauses: u64,
    /// From a request's arrival at this node to its final reply to a client of this node.
    pub request_times: Histogram,
    /// From a request's arrival to the first worker, or node with workers, that it was given to.
    pub queue_times: Histogram,
    /// From a question to `mmi.service` to its answer, if the cluster was asked.
    pub lookup_times: Histogram,
    /// What was dropped, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// What was denied, by kind.
    pub denials: BTreeMap<Denial, u64>,
    /// What would have been denied, and was done (`security.access = "report"`), by kind.
    pub reported_denials: BTreeMap<Denial, u64>,
}

impl Counters {
    pub(crate) fn drop(&mut self, reason: DropReason) {
        self.drop_many(reason, 1);
    }

    pub(crate) fn drop_many(&mut self, reason: DropReason, count: u64) {
        if count > 0 {
            *self.dropped.entry(reason).or_default() += count;
        }
    }

    /// How many were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(&reason).copied().unwrap_or(0)
    }
}

/// What the broker holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Services known, with workers or with requests.
    pub services: usize,
    /// Workers registered or registering.
    pub workers: usize,
    /// Workers that wait for work.
    pub idle_workers: usize,
    /// Requests that wait for a worker here.
    pub queued_requests: usize,
    /// Requests that a worker of this node has.
    pub held_requests: usize,
    /// Requests of this node's clients that another node has.
    pub forwarded_requests: usize,
    /// Bytes of waiting, held and forwarded requests, with the overhead of each.
    pub queued_bytes: usize,
    /// How long the oldest request has waited for a worker; zero: none waits.
    pub oldest_request_age: Duration,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_is_listed_once_and_has_a_label_of_its_own() {
        // A reason that is added has no position here, which the compiler says.
        let position = |reason| match reason {
            DropReason::Malformed(_) => 0,
            DropReason::Expired => 1,
            DropReason::AttemptsExhausted => 2,
            DropReason::OutcomeUnknown => 3,
            DropReason::PartiallyAnswered => 4,
            DropReason::PartialsTooLarge => 5,
            DropReason::QueueFull => 6,
            DropReason::ServiceQueueFull => 7,
            DropReason::ClientQueueFull => 8,
            DropReason::Shed => 9,
            DropReason::TooManyServices => 10,
            DropReason::TooManyQueries => 11,
            DropReason::ClientGone => 12,
            DropReason::Draining => 13,
            DropReason::RepeatedForward => 14,
            DropReason::OriginGone => 15,
            DropReason::LateReply => 16,
            DropReason::BadAnswer => 17,
            DropReason::UnknownToken => 18,
            DropReason::NotRegistered => 19,
            DropReason::NotAllowed => 20,
            DropReason::OverQuota => 21,
        };
        let positions: Vec<usize> = DropReason::all().map(position).collect();
        let expected: Vec<usize> = [0; Defect::ALL.len()].into_iter().chain(1..=21).collect();
        assert_eq!(positions, expected);
        let labels: BTreeSet<&str> = DropReason::all().map(DropReason::label).collect();
        assert_eq!(labels.len(), positions.len());
    }
}
