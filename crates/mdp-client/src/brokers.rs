//! The brokers that a client or worker knows: those it was given and those it learned.

use std::time::Instant;

use crate::{
    endpoint,
    listing::Nodes,
    options::{ENDPOINTS_MAX, LEARNED_ENDPOINTS_MAX},
};

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
}

#[derive(Debug)]
struct Known {
    endpoint: String,
    standing: Standing,
    /// It said, or showed, that it has no `mmi.endpoints`.
    has_no_listing: bool,
    /// A connection to it was established.
    was_up: bool,
    /// When a connection to it failed or ended last, unless one is up since.
    failed_at: Option<Instant>,
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
        Self { configured: known.len(), known }
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

    /// Whether it can be asked for `mmi.endpoints`. Within a process nobody asks it.
    pub(crate) fn has_listing(&self, broker: usize) -> bool {
        let may_have = |known: &Known| !known.has_no_listing;
        self.known.get(broker).is_some_and(may_have) && !self.is_in_process(broker)
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

    pub(crate) fn on_no_listing(&mut self, broker: usize) {
        if let Some(known) = self.known.get_mut(broker) {
            known.has_no_listing = true;
        }
    }

    pub(crate) fn on_up(&mut self, broker: usize) {
        if let Some(known) = self.known.get_mut(broker) {
            known.was_up = true;
            known.failed_at = None;
        }
    }

    pub(crate) fn on_failed(&mut self, now: Instant, broker: usize) {
        if let Some(known) = self.known.get_mut(broker) {
            known.failed_at = Some(now);
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

    /// Takes what `mmi.endpoints` of this broker said: the endpoints of the nodes that are up and do
    /// not drain. New ones come behind the known ones, up to [`LEARNED_ENDPOINTS_MAX`].
    ///
    /// A list without one of our endpoints says something about it only if it can be compared:
    /// if it was listed before, or others that were configured are. An address that only we use
    /// (of a load balancer, a forwarded port, another name of the machine) is in no list. A node
    /// that says its own name can be compared whatever its address.
    pub(crate) fn learn(&mut self, from: usize, nodes: &Nodes, is_in_use: impl Fn(usize) -> bool) {
        let mut set = BrokerSet::default();
        for endpoint in
            nodes.endpoints.iter().filter_map(|endpoint| endpoint::parse_learned(endpoint))
        {
            if let Some(broker) = self.place_of(endpoint, &is_in_use) {
                set.insert(broker);
            }
        }
        if set.is_empty() {
            // Nobody else is there, so there is nowhere to go.
            return;
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
            has_no_listing: false,
            was_up: false,
            failed_at: None,
            held_until: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOBODY: fn(usize) -> bool = |_| false;

    fn strings(endpoints: &[&str]) -> Vec<String> {
        endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect()
    }

    fn list(endpoints: &[&str]) -> Nodes {
        Nodes { endpoints: strings(endpoints), has_answering: None }
    }

    /// From a node that says its name, whether in the list or not.
    fn named_list(endpoints: &[&str], has_answering: bool) -> Nodes {
        Nodes { endpoints: strings(endpoints), has_answering: Some(has_answering) }
    }

    fn brokers(configured: &[&str]) -> Brokers {
        Brokers::new(strings(configured))
    }

    fn leaving(brokers: &Brokers) -> Vec<usize> {
        (0..brokers.len()).filter(|broker| brokers.is_leaving(*broker)).collect()
    }

    #[test]
    fn learned_endpoints_come_behind_the_configured_ones() {
        let mut brokers = brokers(&["tcp://b:1"]);

        brokers.learn(0, &list(&["tcp://a:1", "b:1", "c:1"]), NOBODY);

        let endpoints: Vec<_> = (0..brokers.len()).map(|b| brokers.endpoint(b)).collect();
        assert_eq!(endpoints, ["tcp://b:1", "tcp://a:1", "tcp://c:1"]);
        assert!(brokers.is_trusted(0) && !brokers.is_trusted(1));
        brokers.on_up(1);
        assert!(brokers.is_trusted(1));
    }

    #[test]
    fn addresses_that_are_none_are_ignored() {
        let mut brokers = brokers(&["tcp://a:1"]);

        brokers.learn(0, &list(&["", "x", "tcp://*:5", "inproc://x", "ipc:///x", "a:1"]), NOBODY);

        assert_eq!((brokers.len(), leaving(&brokers)), (1, vec![]));
    }

    #[test]
    fn endpoint_that_is_listed_no_more_leaves() {
        let mut brokers = brokers(&["tcp://a:1"]);
        brokers.learn(0, &list(&["a:1", "b:1"]), NOBODY);
        assert_eq!(leaving(&brokers), [0; 0]);

        brokers.learn(0, &list(&["b:1"]), NOBODY);
        assert_eq!(leaving(&brokers), [0]);

        brokers.learn(0, &list(&["a:1", "b:1"]), NOBODY);
        assert_eq!(leaving(&brokers), [0; 0]);
    }

    #[test]
    fn endpoint_under_a_name_of_ours_does_not_leave() {
        let mut brokers = brokers(&["tcp://balancer:1"]);

        brokers.learn(0, &list(&["a:1", "b:1"]), NOBODY);

        assert_eq!(leaving(&brokers), [0; 0]);
    }

    #[test]
    fn node_under_a_name_of_ours_leaves_when_it_says_so() {
        let mut brokers = brokers(&["tcp://balancer:1"]);

        brokers.learn(0, &named_list(&["a:1", "b:1"], true), NOBODY);
        assert_eq!(leaving(&brokers), [0; 0]);
        brokers.learn(0, &named_list(&["b:1"], false), NOBODY);
        assert_eq!(leaving(&brokers), [0, 1]);

        // What another node says does not tell who is reached there.
        brokers.learn(2, &named_list(&["b:1"], true), NOBODY);
        assert_eq!(leaving(&brokers), [0, 1]);
        brokers.learn(0, &named_list(&["b:1"], true), NOBODY);
        assert_eq!(leaving(&brokers), [1]);
    }

    #[test]
    fn name_of_ours_may_lead_to_another_node_when_the_connection_is_lost() {
        let mut brokers = brokers(&["tcp://balancer:1"]);
        brokers.learn(0, &named_list(&["b:1"], false), NOBODY);
        assert_eq!(leaving(&brokers), [0]);

        brokers.on_failed(Instant::now(), 0);

        assert_eq!(leaving(&brokers), [0; 0]);
    }

    #[test]
    fn node_that_lists_itself_does_not_leave_whatever_its_address() {
        let mut brokers = brokers(&["tcp://balancer:1", "tcp://b:1"]);

        brokers.learn(0, &named_list(&["a:1", "b:1"], true), NOBODY);

        assert_eq!(leaving(&brokers), [0; 0]);
    }

    #[test]
    fn list_with_one_configured_endpoint_says_that_the_others_leave() {
        let mut brokers = brokers(&["tcp://a:1", "tcp://b:1"]);

        brokers.learn(0, &list(&["b:1"]), NOBODY);

        assert_eq!(leaving(&brokers), [0]);
    }

    #[test]
    fn empty_list_says_nothing() {
        let mut brokers = brokers(&["tcp://a:1", "tcp://b:1"]);
        brokers.learn(0, &list(&["a:1", "b:1"]), NOBODY);

        brokers.learn(0, &list(&[]), NOBODY);

        assert_eq!(leaving(&brokers), [0; 0]);
    }

    #[test]
    fn learned_endpoints_are_bounded_and_give_way_when_gone() {
        let mut brokers = brokers(&["tcp://a:1"]);
        let many = |host: &str| {
            let endpoints = (1..100).map(|n| format!("{host}:{n}")).collect();
            Nodes { endpoints, has_answering: None }
        };

        brokers.learn(0, &many("old"), NOBODY);
        assert_eq!(brokers.len(), 1 + LEARNED_ENDPOINTS_MAX);
        brokers.learn(0, &list(&["a:1"]), NOBODY);
        brokers.learn(0, &many("new"), |broker| broker == 2);

        assert_eq!(brokers.len(), 1 + LEARNED_ENDPOINTS_MAX);
        assert_eq!(brokers.endpoint(1), "tcp://new:1");
        assert_eq!(brokers.endpoint(2), "tcp://old:2", "in use");
    }

    #[test]
    fn best_is_the_first_that_neither_leaves_nor_failed() {
        let mut brokers = brokers(&["tcp://a:1", "tcp://b:1", "tcp://c:1"]);
        let now = Instant::now();
        assert_eq!(brokers.best(0..3), Some(0));

        brokers.on_failed(now, 0);
        assert_eq!(brokers.best(0..3), Some(1));
        brokers.learn(0, &list(&["a:1", "c:1"]), NOBODY);
        assert_eq!(brokers.best(0..3), Some(2));
        brokers.on_failed(now + Duration::from_secs(1), 2);
        assert_eq!(brokers.best(0..3), Some(0), "it failed longer ago");
        assert_eq!(brokers.best(1..2), Some(1), "better than none");
        assert_eq!(brokers.best(0..0), None);
    }
}
