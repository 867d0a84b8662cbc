//! The brokers that a client or worker knows: those it was given and those it learned.

use std::time::{Duration, Instant};

use crate::{
    ConnectFailure, UnreachableEndpoint,
    backoff::Refusals,
    endpoint,
    listing::{MessageLimits, Nodes},
    options::{ENDPOINTS_MAX, LEARNED_ENDPOINTS_MAX},
};

/// How long a failed connection counts against a broker when no list says that it is up again.
const FAILURE_MEMORY: Duration = Duration::from_secs(10);

/// How long a broker that did not answer `mmi.endpoints`, or said that it has none, is not asked again.
/// One answer may be lost, and a broker may be replaced by a newer one; one that queues the question like
/// a request for a service without workers gets few of them.
pub(crate) const LISTING_RETRIED_AFTER: Duration = Duration::from_secs(600);

/// A set of brokers, by their places in [`Brokers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BrokerSet(u64);

// A set is one word.
const _: () = assert!(ENDPOINTS_MAX + LEARNED_ENDPOINTS_MAX <= 64);

impl BrokerSet {
    pub(crate) fn insert(&mut self, broker: usize) {
        self.0 |= bit(broker);
    }

    pub(crate) fn contains(self, broker: usize) -> bool {
        self.0 & bit(broker) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

fn bit(broker: usize) -> u64 {
    u32::try_from(broker).ok().and_then(|broker| 1_u64.checked_shl(broker)).unwrap_or(0)
}

/// Endpoints in order of preference: the configured ones, then the learned ones. A broker's place
/// stays its own; only a learned one that is no longer listed may give way to another.
#[derive(Debug)]
pub(crate) struct Brokers {
    known: Vec<Known>,
    configured: usize,
    /// `mmi.endpoints` was answered before.
    has_list: bool,
    /// What one message may hold, as a broker said last.
    limits: Option<MessageLimits>,
}

#[derive(Debug)]
struct Known {
    endpoint: String,
    standing: Standing,
    /// It said, or showed, that it has no `mmi.endpoints`, and is not asked before.
    no_listing_until: Option<Instant>,
    /// A connection to it was established.
    was_up: bool,
    /// When a connection to it failed or ended last, unless one is up since.
    failed_at: Option<Instant>,
    /// Why, if that is known.
    failure: Option<ConnectFailure>,
    /// How often it refused this side's keys or mechanism since a connection to it was established.
    refusals: Refusals,
    /// A list named it since then.
    is_listed_since: bool,
    /// The incarnation that the last list named.
    epoch: Option<u64>,
    /// It is not gone back to before.
    held_until: Option<Instant>,
}

/// What the last `mmi.endpoints` said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing that can be compared with this endpoint.
    Unknown,
    /// It is up and does not drain.
    Listed,
    /// It drains or is gone.
    Unlisted,
    /// The node that is reached there now said that it drains or is gone. Its address may be one
    /// that no list has, and lead to another node next time.
    SaidToLeave,
}

impl Brokers {
    /// `configured` has [`ENDPOINTS_MAX`] entries at most.
    pub(crate) fn new(configured: Vec<String>) -> Self {
        let known: Vec<Known> = configured.into_iter().map(Known::new).collect();
        Self { configured: known.len(), known, has_list: false, limits: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    pub(crate) fn endpoint(&self, broker: usize) -> &str {
        self.known.get(broker).map_or("", |known| &known.endpoint)
    }

    pub(crate) fn is_configured(&self, broker: usize) -> bool {
        broker < self.configured
    }

    /// Whether it drains or is gone, as it or other nodes say.
    pub(crate) fn is_leaving(&self, broker: usize) -> bool {
        self.known.get(broker).is_some_and(|known| match known.standing {
            Standing::Unlisted | Standing::SaidToLeave => true,
            Standing::Unknown | Standing::Listed => false,
        })
    }

    /// Whether requests may be sent there without a check: a learned endpoint need not be
    /// reachable from here.
    pub(crate) fn is_trusted(&self, broker: usize) -> bool {
        let is_good = |known: &Known| known.was_up && known.failed_at.is_none();
        self.is_configured(broker) || self.known.get(broker).is_some_and(is_good)
    }

    pub(crate) fn failed_since(&self, broker: usize, since: Instant) -> bool {
        let failed_at = self.known.get(broker).and_then(|known| known.failed_at);
        failed_at.is_some_and(|failed_at| failed_at >= since)
    }

    /// Whether it can be asked for `mmi.endpoints`.
    pub(crate) fn has_listing(&self, now: Instant, broker: usize) -> bool {
        self.listing_at(now, broker).is_some_and(|at| at <= now)
    }

    /// When it can be asked for `mmi.endpoints`. Within a process it never is.
    pub(crate) fn listing_at(&self, now: Instant, broker: usize) -> Option<Instant> {
        let known = self.known.get(broker)?;
        (!self.is_in_process(broker)).then(|| known.no_listing_until.map_or(now, |at| at.max(now)))
    }

    /// Whether its connections have no events: they are there at once.
    pub(crate) fn is_in_process(&self, broker: usize) -> bool {
        self.endpoint(broker).starts_with("inproc://")
    }

    pub(crate) fn is_held(&self, now: Instant, broker: usize) -> bool {
        let held_until = self.known.get(broker).and_then(|known| known.held_until);
        held_until.is_some_and(|until| until > now)
    }

    pub(crate) fn hold(&mut self, broker: usize, until: Instant) {
        if let Some(known) = self.known.get_mut(broker) {
            known.held_until = Some(until);
        }
    }

    pub(crate) fn on_no_listing(&mut self, now: Instant, broker: usize) {
        if let Some(known) = self.known.get_mut(broker) {
            known.no_listing_until = Some(now + LISTING_RETRIED_AFTER);
        }
    }

    pub(crate) fn on_up(&mut self, broker: usize) {
        if let Some(known) = self.known.get_mut(broker) {
            known.was_up = true;
            known.failed_at = None;
            known.failure = None;
            known.refusals = Refusals::default();
        }
    }

    pub(crate) fn on_examined(
        &mut self,
        now: Instant,
        (endpoint, failure): (&str, ConnectFailure),
        rng: &mut fastrand::Rng,
    ) {
        let mut known = self.known.iter_mut();
        if let Some(known) = known.find(|known| known.endpoint == endpoint) {
            if failure.is_refusal() {
                known.refusals.on_refused(now, rng);
            }
            known.failure = Some(failure);
        }
    }

    /// Whether it is known why it could not be reached.
    pub(crate) fn is_explained(&self, broker: usize) -> bool {
        self.known.get(broker).is_some_and(|known| known.failure.is_some())
    }

    /// Until when it is not connected to, because it has refused this side.
    pub(crate) fn refused_until(&self, now: Instant, broker: usize) -> Option<Instant> {
        self.known.get(broker)?.refusals.until(now)
    }

    /// When the first trusted one may be connected to.
    pub(crate) fn dialled_at(&self, now: Instant) -> Instant {
        let trusted = (0..self.len()).filter(|broker| self.is_trusted(*broker));
        let times = trusted.map(|broker| self.refused_until(now, broker).unwrap_or(now));
        times.min().unwrap_or(now)
    }

    /// The configured brokers, and why each could not be reached.
    pub(crate) fn unreachable(&self) -> Vec<UnreachableEndpoint> {
        let configured = self.known.iter().take(self.configured);
        let unreachable = configured.map(|known| UnreachableEndpoint {
            endpoint: known.endpoint.clone(),
            failure: known.failure.clone().unwrap_or(ConnectFailure::Unknown),
        });
        unreachable.collect()
    }

    pub(crate) fn on_failed(&mut self, now: Instant, broker: usize) {
        if let Some(known) = self.known.get_mut(broker) {
            known.failed_at = Some(now);
            known.is_listed_since = false;
            if known.standing == Standing::SaidToLeave {
                known.standing = Standing::Unknown;
            }
        }
    }

    /// The first of these in their order, but one that does not leave before one that does, and
    /// then one that has not failed, or that failed longer ago.
    pub(crate) fn best(&self, among: impl Iterator<Item = usize>) -> Option<usize> {
        among.min_by_key(|broker| {
            let failed_at = self.known.get(*broker).and_then(|known| known.failed_at);
            (self.is_leaving(*broker), failed_at)
        })
    }

    /// One of these at random, but one that does not leave before one that does, one that has not just
    /// refused this side before one that has, and then one that has not failed before the one that failed
    /// the longest ago. A failure is forgotten when a list names the broker again, or after
    /// [`FAILURE_MEMORY`].
    pub(crate) fn choose(
        &self,
        now: Instant,
        rng: &mut fastrand::Rng,
        among: impl Iterator<Item = usize>,
    ) -> Option<usize> {
        let rank = |broker: usize| {
            let failed_at = self.known.get(broker).and_then(|known| {
                let is_old = |at: &Instant| now.saturating_duration_since(*at) >= FAILURE_MEMORY;
                known.failed_at.filter(|at| !known.is_listed_since && !is_old(at))
            });
            (self.is_leaving(broker), self.refused_until(now, broker), failed_at)
        };
        let ranked: Vec<_> = among.map(|broker| (rank(broker), broker)).collect();
        let best = ranked.iter().map(|(rank, _)| *rank).min()?;
        let equal = ranked.iter().filter(|(rank, _)| *rank == best).map(|(_, broker)| *broker);
        rng.choice(equal.collect::<Vec<_>>())
    }

    pub(crate) fn learn_limits(&mut self, nodes: &Nodes) {
        self.limits = nodes.limits.or(self.limits);
    }

    /// What one message may hold, if a broker has said so.
    pub(crate) fn limits(&self) -> Option<MessageLimits> {
        self.limits
    }

    /// Those that the last list names.
    pub(crate) fn listed(&self) -> impl Iterator<Item = usize> {
        let is_listed = |known: &Known| known.standing == Standing::Listed;
        let listed = self.known.iter().enumerate().filter(move |(_, known)| is_listed(known));
        listed.map(|(broker, _)| broker)
    }

    /// Takes what `mmi.endpoints` of this broker said: the endpoints of the nodes that are up and do
    /// not drain. New ones come behind the known ones, up to [`LEARNED_ENDPOINTS_MAX`].
    ///
    /// A list without one of our endpoints says something about it only if it can be compared:
    /// if it was listed before, or others that were configured are. An address that only we use
    /// (of a load balancer, a forwarded port, another name of the machine) is in no list. A node
    /// that says its own name can be compared whatever its address.
    ///
    /// Returns the brokers that are new: added, back, or started again since the list before. The
    /// first list has none.
    pub(crate) fn learn(
        &mut self,
        from: usize,
        nodes: &Nodes,
        is_in_use: impl Fn(usize) -> bool,
    ) -> BrokerSet {
        self.learn_limits(nodes);
        if let Some(known) = self.known.get_mut(from) {
            known.no_listing_until = None;
        }
        let (mut set, mut newcomers) = (BrokerSet::default(), BrokerSet::default());
        for node in &nodes.listed {
            let endpoint = endpoint::parse_learned(&node.endpoint);
            let broker = endpoint.and_then(|endpoint| self.place_of(endpoint, &is_in_use));
            let Some(broker) = broker else { continue };
            set.insert(broker);
            if let Some(known) = self.known.get_mut(broker) {
                // A broker of 0.1.0 tells no epochs, and one whose catalog lags tells old ones.
                let is_younger = known.epoch.is_some() && node.epoch > known.epoch;
                if known.standing != Standing::Listed || is_younger {
                    newcomers.insert(broker);
                }
                known.epoch = known.epoch.max(node.epoch);
                known.is_listed_since = true;
            }
        }
        if set.is_empty() {
            // No other node is there, so there is nowhere to go.
            return BrokerSet::default();
        }
        let is_comparable = (0..self.configured).any(|broker| set.contains(broker));
        for (broker, known) in self.known.iter_mut().enumerate() {
            known.standing = match known.standing {
                _ if set.contains(broker) => Standing::Listed,
                _ if broker == from && nodes.has_answering == Some(true) => Standing::Unknown,
                _ if broker == from && nodes.has_answering == Some(false) => Standing::SaidToLeave,
                Standing::Unknown | Standing::SaidToLeave if !is_comparable => known.standing,
                Standing::Unknown
                | Standing::Listed
                | Standing::Unlisted
                | Standing::SaidToLeave => Standing::Unlisted,
            };
        }
        let has_list = std::mem::replace(&mut self.has_list, true);
        if has_list { newcomers } else { BrokerSet::default() }
    }

    fn place_of(&mut self, endpoint: String, is_in_use: &impl Fn(usize) -> bool) -> Option<usize> {
        let same = self.known.iter().position(|known| known.endpoint == endpoint);
        if same.is_some() {
            return same;
        }
        if self.known.len() < self.configured.saturating_add(LEARNED_ENDPOINTS_MAX) {
            tracing::debug!(endpoint, "endpoint learned");
            self.known.push(Known::new(endpoint));
            return self.known.len().checked_sub(1);
        }
        let gives_way = |broker: &usize| self.is_leaving(*broker) && !is_in_use(*broker);
        let broker = (self.configured..self.known.len()).find(gives_way)?;
        *self.known.get_mut(broker)? = Known::new(endpoint);
        Some(broker)
    }
}

impl Known {
    fn new(endpoint: String) -> Self {
        Self {
            endpoint,
            standing: Standing::Unknown,
            no_listing_until: None,
            was_up: false,
            failed_at: None,
            failure: None,
            refusals: Refusals::default(),
            is_listed_since: false,
            epoch: None,
            held_until: None,
        }
    }
}

#[cfg(test)]
mod tests;
