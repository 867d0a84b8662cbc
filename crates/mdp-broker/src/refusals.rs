//! How often a refused READY is answered at once.
//!
//! DISCONNECT makes a reference worker connect and send READY again without any delay, for ever
//! (protocol.md 6.7). So each offender gets a small burst of immediate answers, and then answers
//! that are held back. Nothing here allocates per refusal except a place in a bounded list.

use std::{collections::VecDeque, hash::Hasher, net::IpAddr, time::Duration};

use mdp_wire::Version;

use crate::{PeerId, time::Moment};

/// How many refused READYs of one source and service are answered at once, and how many more per
/// second.
pub const REFUSAL_BURST: u32 = 10;

/// How long a refusal is held back when there are more.
pub(crate) const REFUSAL_DELAY: Duration = Duration::from_millis(250);

/// How many refusals are held back at most. Beyond that the worker gets no answer, misses its
/// heartbeats and comes back by its own slow clock.
const DELAYED_MAX: usize = 10_000;

/// Offenders are told apart by a hash only, so that their number costs no memory. It has a key of this
/// process: none can choose a name of a service that uses up the answers of another one.
const BUCKETS: u64 = 256;

/// How often an offender was refused lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// For the first time, or the first after a second of peace: worth a line in the log.
    First,
    /// Within the rate that is answered at once.
    Within,
    /// More often.
    Beyond,
}

/// One token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    filled_at: Moment,
}

/// The rate limit of refusals, and those that are held back.
#[derive(Debug)]
pub(crate) struct Refusals {
    buckets: Vec<Bucket>,
    hash_key: u64,
    delayed: VecDeque<(Moment, PeerId, Version)>,
}

impl Refusals {
    /// `hash_key` is random.
    pub(crate) fn new(now: Moment, hash_key: u64) -> Self {
        let full = Bucket { tokens: REFUSAL_BURST, filled_at: now };
        let buckets = (0..BUCKETS).map(|_| full).collect();
        Self { buckets, hash_key, delayed: VecDeque::new() }
    }

    /// Takes a token of this offender.
    pub(crate) fn take(&mut self, source: Option<IpAddr>, service: &[u8], now: Moment) -> Pace {
        let slot = self.slot(source, service);
        let Some(bucket) = self.buckets.get_mut(slot) else { return Pace::Beyond };
        let per_token = Duration::from_secs(1) / REFUSAL_BURST;
        let earned = now.since(bucket.filled_at).as_nanos() / per_token.as_nanos();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(REFUSAL_BURST);
            bucket.tokens = bucket.tokens.saturating_add(earned).min(REFUSAL_BURST);
            bucket.filled_at = now;
        }
        let pace = match bucket.tokens {
            0 => Pace::Beyond,
            REFUSAL_BURST => Pace::First,
            _ => Pace::Within,
        };
        bucket.tokens = bucket.tokens.saturating_sub(1);
        pace
    }

    fn slot(&self, source: Option<IpAddr>, service: &[u8]) -> usize {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write_u64(self.hash_key);
        std::hash::Hash::hash(&source, &mut hasher);
        hasher.write(service);
        usize::try_from(hasher.finish() % BUCKETS).unwrap_or(0)
    }

    /// Holds a refusal back, if there is room. Returns when it is due if it is the only one, for
    /// then its timer has to be set.
    pub(crate) fn delay(&mut self, peer: PeerId, version: Version, now: Moment) -> Option<Moment> {
        if self.delayed.len() >= DELAYED_MAX {
            return None;
        }
        let due = now.after(REFUSAL_DELAY);
        let is_first = self.delayed.is_empty();
        self.delayed.push_back((due, peer, version));
        is_first.then_some(due)
    }

    /// The next refusal that is due.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<(PeerId, Version)> {
        if self.next()? > now {
            return None;
        }
        self.pop()
    }

    /// The next refusal, due or not.
    pub(crate) fn pop(&mut self) -> Option<(PeerId, Version)> {
        self.delayed.pop_front().map(|(_, peer, version)| (peer, version))
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Moment> {
        self.delayed.front().map(|(due, ..)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offenders_that_share_a_bucket_are_others_in_every_process() {
        let slots = |hash_key| {
            let refusals = Refusals::new(Moment::default(), hash_key);
            (0..64_u8).map(|n| refusals.slot(None, &[n])).collect::<Vec<_>>()
        };
        assert_eq!(slots(1), slots(1));
        assert_ne!(slots(1), slots(2));
    }
}
