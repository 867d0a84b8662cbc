//! What each identity uses of this node, and whether that is within its quotas.

use std::{collections::BTreeMap, time::Duration};

use crate::{Access, IdentityId, Quotas, Subject, time::Moment};

/// A rate is held on average over this time: as many requests as it allows in it may come at once.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// What one identity uses, all its connections together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Its requests without a reply.
    pub(crate) in_flight: u64,
    /// The bytes of those of them that wait for a worker here.
    pub(crate) queued_bytes: u64,
    /// Its workers, registered or registering.
    pub(crate) workers: u64,
}

#[derive(Debug, Default)]
struct Account {
    usage: Usage,
    /// When the requests so far would have come, had they come at the rate that is allowed (the
    /// generic cell rate algorithm, ITU-T I.371).
    rate_used_until: Moment,
}

/// What all identities use. Peers without one have no quotas.
#[derive(Debug, Default)]
pub(crate) struct Usages {
    accounts: BTreeMap<IdentityId, Account>,
}

impl Usages {
    /// Whether the quotas of a subject allow one more request; `waiting_bytes`: what it adds to those that
    /// wait. What the rate allows is taken.
    pub(crate) fn allow_request(
        &mut self,
        access: &Access,
        subject: Subject,
        waiting_bytes: usize,
        now: Moment,
    ) -> bool {
        let Some((account, quotas)) = self.account(access, subject) else { return true };
        let queued = account.usage.queued_bytes.saturating_add(count(waiting_bytes));
        quotas.max_in_flight.is_none_or(|max| account.usage.in_flight < max)
            && (waiting_bytes == 0 || quotas.max_queued_bytes.is_none_or(|max| queued <= max))
            && quotas.max_requests_per_second.is_none_or(|rate| account.take_turn(rate, now))
    }

    /// Whether the rate of a subject allows one more question to the broker itself. If so, it counts.
    pub(crate) fn allow_question(
        &mut self,
        access: &Access,
        subject: Subject,
        now: Moment,
    ) -> bool {
        let Some((account, quotas)) = self.account(access, subject) else { return true };
        quotas.max_requests_per_second.is_none_or(|rate| account.take_turn(rate, now))
    }

    /// Whether the quotas of a subject allow one more worker.
    pub(crate) fn allow_worker(&mut self, access: &Access, subject: Subject) -> bool {
        let Some((account, quotas)) = self.account(access, subject) else { return true };
        quotas.max_workers.is_none_or(|max| account.usage.workers < max)
    }

    /// A request was accepted.
    pub(crate) fn begin(&mut self, subject: Subject) {
        self.change(subject, |usage| usage.in_flight += 1);
    }

    /// A request has its reply, or gets none.
    pub(crate) fn end(&mut self, subject: Subject) {
        self.change(subject, |usage| usage.in_flight = usage.in_flight.saturating_sub(1));
    }

    /// A request waits for a worker.
    pub(crate) fn enqueue(&mut self, subject: Subject, bytes: usize) {
        self.change(subject, |usage| usage.queued_bytes += count(bytes));
    }

    /// A request waits no longer.
    pub(crate) fn dequeue(&mut self, subject: Subject, bytes: usize) {
        let bytes = count(bytes);
        self.change(subject, |usage| usage.queued_bytes = usage.queued_bytes.saturating_sub(bytes));
    }

    /// A worker registers.
    pub(crate) fn add_worker(&mut self, subject: Subject) {
        self.change(subject, |usage| usage.workers += 1);
    }

    /// A worker is gone.
    pub(crate) fn remove_worker(&mut self, subject: Subject) {
        self.change(subject, |usage| usage.workers = usage.workers.saturating_sub(1));
    }

    /// What each identity uses that uses something.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (IdentityId, Usage)> {
        let accounts = self.accounts.iter().map(|(id, account)| (*id, account.usage));
        accounts.filter(|(_, usage)| *usage != Usage::default())
    }

    fn account<'a>(
        &mut self,
        access: &'a Access,
        subject: Subject,
    ) -> Option<(&mut Account, &'a Quotas)> {
        let Subject::Identity(id) = subject else { return None };
        let quotas = &access.identity(id)?.quotas;
        Some((self.accounts.entry(id).or_default(), quotas))
    }

    fn change(&mut self, subject: Subject, change: impl FnOnce(&mut Usage)) {
        if let Subject::Identity(id) = subject {
            change(&mut self.accounts.entry(id).or_default().usage);
        }
    }
}

impl Account {
    /// Whether one more fits into the rate. If so, it counts.
    fn take_turn(&mut self, per_second: u64, now: Moment) -> bool {
        if per_second == 0 {
            return false;
        }
        let Ok(per_second) = u32::try_from(per_second) else { return true };
        let interval = RATE_WINDOW / per_second;
        let used_until = self.rate_used_until.max(now);
        if used_until.since(now) > RATE_WINDOW.saturating_sub(interval) {
            return false;
        }
        self.rate_used_until = used_until.after(interval);
        true
    }
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Enforcement, Grants, Identity};

    fn table(quotas: Quotas) -> (Access, Subject) {
        let identity = Identity {
            name: "a".parse().unwrap(),
            keys: vec![crate::IdentityKey([1; 32])],
            grants: Grants::default(),
            quotas,
            not_after: None,
        };
        let access =
            Access::new(&Access::default(), vec![identity], None, Enforcement::Enforce).unwrap();
        let id = access.identity_of(&crate::IdentityKey([1; 32])).unwrap();
        (access, Subject::Identity(id))
    }

    #[test]
    fn rate_is_held_on_average_and_may_come_at_once() {
        let quotas = Quotas { max_requests_per_second: Some(10), ..Quotas::default() };
        let (access, subject) = table(quotas);
        let mut usages = Usages::default();
        let mut now = Moment::default();
        let mut allowed = |now| usages.allow_request(&access, subject, 0, now);
        assert_eq!((0..100).filter(|_| allowed(now)).count(), 10);
        now = now.after(Duration::from_millis(250));
        assert_eq!((0..100).filter(|_| allowed(now)).count(), 2);
        now = now.after(Duration::from_secs(3_600));
        assert_eq!((0..100).filter(|_| allowed(now)).count(), 10);

        let (access, subject) = table(Quotas { max_requests_per_second: Some(0), ..quotas });
        assert!(!usages.allow_request(&access, subject, 0, now.after(Duration::from_secs(9))));
    }

    #[test]
    fn each_quota_counts_what_is_there_and_not_what_was() {
        let quotas = Quotas {
            max_in_flight: Some(2),
            max_queued_bytes: Some(100),
            max_workers: Some(1),
            ..Quotas::default()
        };
        let (access, subject) = table(quotas);
        let mut usages = Usages::default();
        let now = Moment::default();
        usages.begin(subject);
        assert!(usages.allow_request(&access, subject, 100, now));
        assert!(!usages.allow_request(&access, subject, 101, now));
        usages.enqueue(subject, 60);
        assert!(!usages.allow_request(&access, subject, 41, now));
        assert!(usages.allow_request(&access, subject, 0, now), "it does not wait");
        usages.begin(subject);
        assert!(!usages.allow_request(&access, subject, 0, now));
        usages.end(subject);
        usages.dequeue(subject, 60);
        assert!(usages.allow_request(&access, subject, 100, now));

        assert!(usages.allow_worker(&access, subject));
        usages.add_worker(subject);
        assert!(!usages.allow_worker(&access, subject));
        usages.remove_worker(subject);
        assert!(usages.allow_worker(&access, subject));
        for other in [Subject::Anonymous, Subject::Unrestricted] {
            assert!(usages.allow_request(&access, other, usize::MAX, now));
        }
        usages.end(subject);
        assert_eq!(usages.iter().count(), 0);
    }
}
