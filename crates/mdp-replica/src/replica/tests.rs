use std::{cell::RefCell, rc::Rc, time::Duration};

use mdp_broker::{Broker, Effect, LookupOutcome, PeerId, Seed, Settings};
use mdp_catalog::{Boot, CatalogChange, Endpoints, Epoch, NodeId, NodeUp, Seq, SoftwareVersion};
use mdp_raft::{ClusterStatus, RoundId};
use mdp_wire::{AtBroker, ServiceFrame, Version, worker::ToBroker};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::{HandingOver, any_instant};

/// This process, and another one.
const PROCESS: u64 = 7;
const OTHER: u64 = 8;

/// What consensus was asked.
#[derive(Debug, Default)]
struct Asked {
    proposals: Vec<CatalogEntry>,
    rounds: Vec<RoundId>,
    handing_over: Option<HandingOver>,
}

/// Consensus that notes what it is asked.
#[derive(Clone, Debug, Default)]
struct Scripted(Rc<RefCell<Asked>>);

impl Agreement for Scripted {
    const IS_ALONE: bool = false;

    fn propose(&self, entry: CatalogEntry) -> Proposed {
        self.0.borrow_mut().proposals.push(entry);
        Proposed::Sent
    }

    fn read(&self, round: RoundId) {
        self.0.borrow_mut().rounds.push(round);
    }

    fn status(&self) -> Option<ClusterStatus> {
        Some(ClusterStatus {
            name: name("node-1"),
            node_id: NodeId(1),
            cluster_id: Some("00ff".to_owned()),
            leader: Some(name("node-2")),
            term: 3,
            committed_index: 9,
            applied_index: 9,
            last_log_index: 9,
            snapshot_index: 0,
            members: Vec::new(),
            member_change: None,
            unheard_voters: 0,
            call_formats: Vec::new(),
            refused_calls: Vec::new(),
            commit_times: Default::default(),
            upgrade: mdp_raft::UpgradeStatus::default(),
            not_ready: Vec::new(),
        })
    }

    fn begin_leaving(&self) -> Option<HandingOver> {
        self.0.borrow_mut().handing_over.take()
    }
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn service(text: &str) -> ServiceName {
    ServiceName::try_from(text).unwrap()
}

fn life(node: &str, epoch: u64) -> Incarnation {
    Incarnation { node: name(node), epoch: Epoch(epoch) }
}

fn up(node: &str, process: u64, expected: u64) -> CatalogEntry {
    CatalogEntry::NodeUp(NodeUp {
        node: name(node),
        node_id: NodeId(process),
        boot: Boot { process, attempt: u32::try_from(expected).unwrap() },
        expected_epoch: Epoch(expected),
        endpoints: Endpoints {
            client: format!("tcp://{node}:5555"),
            cluster: String::new(),
            relay: if node == "mute" { String::new() } else { format!("tcp://{node}:5557") },
        },
        version: SoftwareVersion::default(),
    })
}

fn offer(incarnation: &Incarnation, seq: u64, name: &str) -> CatalogEntry {
    let (incarnation, services) = (incarnation.clone(), vec![service(name)]);
    CatalogEntry::Offer { incarnation, seq: Seq(seq), services }
}

/// The copy of the node `node-1`, and its feed.
struct Test {
    replica: Replica<Scripted, Vec<u8>>,
    news: mpsc::Sender<News>,
    asked: Scripted,
    now: Instant,
}

impl Test {
    fn new() -> Self {
        Self::with(Consistency::Linearizable, None)
    }

    fn with(consistency: Consistency, node_timeout: Option<Duration>) -> Self {
        let (news, feed) = mpsc::channel(1_000);
        let (asked, now) = (Scripted::default(), any_instant());
        let membership = Membership {
            node: name("node-1"),
            process: PROCESS,
            consistency,
            isolation: node_timeout.map(|timeout| IsolationWatch::new(timeout, now)),
        };
        let replica = Replica::new(asked.clone(), feed, membership, now);
        Self { replica, news, asked, now }
    }

    /// The life of this node began at index 1.
    fn joined() -> Self {
        let mut test = Self::new();
        test.apply(1, up("node-1", PROCESS, 0));
        test.answers();
        test
    }

    fn tell(&mut self, news: News) {
        self.news.try_send(news).unwrap();
        assert_eq!(self.replica.read_news(self.now), NewsState::Emptied);
    }

    fn apply(&mut self, index: u64, entry: CatalogEntry) {
        self.tell(News::Applied { index, entries: vec![(index, entry)] });
    }

    /// A snapshot in which only these entries were applied.
    fn replace(&mut self, index: u64, entries: Vec<CatalogEntry>) {
        let mut catalog = Catalog::new();
        for (index, entry) in (1..).zip(entries) {
            catalog.apply(index, entry).unwrap();
        }
        self.tell(News::Replaced { index, catalog: Box::new(catalog) });
    }

    fn ask(&mut self, query: u64, name: &str) {
        self.replica.lookup(QueryId(query), service(name), LookupPurpose::Availability);
        self.replica.flush(self.now);
    }

    fn rounds(&self) -> Vec<RoundId> {
        std::mem::take(&mut self.asked.0.borrow_mut().rounds)
    }

    fn round(&self) -> RoundId {
        let [round] = self.rounds()[..] else { panic!("not one round") };
        round
    }

    fn proposals(&self) -> Vec<CatalogEntry> {
        std::mem::take(&mut self.asked.0.borrow_mut().proposals)
    }

    fn answers(&mut self) -> Vec<Input<Vec<u8>>> {
        std::iter::from_fn(|| self.replica.poll_answer()).collect()
    }

    fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.replica.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.replica.handle_timeout(self.now);
        }
        self.now = until;
    }
}

fn looked_up(query: u64, outcome: LookupOutcome) -> Input<Vec<u8>> {
    Input::LookedUp { query: QueryId(query), outcome }
}

fn committed_up(node: &str, epoch: u64) -> Input<Vec<u8>> {
    Input::Committed(CatalogChange::NodeUp { incarnation: life(node, epoch) })
}

fn committed_gone(node: &str, epoch: u64) -> Input<Vec<u8>> {
    Input::Committed(CatalogChange::NodeGone { incarnation: life(node, epoch) })
}

#[test]
fn only_the_current_life_of_this_process_proposes() {
    let mut test = Test::new();
    let (first, second) = (life("node-1", 1), life("node-1", 3));
    test.replica.propose(offer(&life("node-1", 0), 1, "echo"));
    test.apply(1, up("node-1", PROCESS, 0));
    test.replica.propose(offer(&first, 1, "echo"));
    test.apply(2, CatalogEntry::NodeGone { incarnation: first.clone() });
    test.replica.propose(offer(&first, 2, "echo"));
    test.apply(3, up("node-1", PROCESS, 1));
    test.replica.propose(offer(&first, 3, "echo"));
    test.replica.propose(offer(&second, 1, "echo"));

    assert_eq!(test.proposals(), [offer(&first, 1, "echo"), offer(&second, 1, "echo")]);
    let told = [committed_up("node-1", 1), committed_gone("node-1", 1), committed_up("node-1", 3)];
    assert_eq!(test.answers(), told);
}

#[test]
fn life_of_another_process_under_this_name_is_not_ours() {
    let mut test = Test::new();
    test.apply(1, up("node-1", OTHER, 0));
    test.apply(2, offer(&life("node-1", 1), 1, "echo"));
    // An engine that took that life for its own would take the offer for its own, too.
    let told = test.answers();
    assert!(matches!(told[..], [Input::Committed(CatalogChange::Offered { .. })]), "{told:?}");

    test.replica.propose(offer(&life("node-1", 1), 2, "more"));
    test.ask(1, "echo");
    let round = test.round();
    test.tell(News::Read { round, index: Some(2) });

    assert_eq!(test.proposals(), []);
    assert_eq!(test.answers(), [looked_up(1, LookupOutcome::OfferedElsewhere)]);
}

#[test]
fn worker_is_not_acknowledged_by_what_the_process_before_offered() {
    let mut test = Test::new();
    let (now, seed) = (test.now, Seed([1; 32]));
    let mut broker: Broker<Vec<u8>> =
        Broker::new(life("node-1", 0), Settings::default(), seed, now);
    let ready = ToBroker::Ready { service: ServiceFrame::try_new(b"x".to_vec()).unwrap() };
    let message = AtBroker::Worker { version: Version::V01, message: ready };
    let from = PeerId::from(&b"worker"[..]);
    broker.handle_input(now, Input::Received { from, source: None, message });

    test.apply(1, up("node-1", OTHER, 0));
    test.apply(2, offer(&life("node-1", 1), 1, "old"));
    test.apply(3, offer(&life("node-1", 1), 2, "older"));
    for answer in test.answers() {
        broker.handle_input(now, answer);
    }

    let sent = std::iter::from_fn(|| broker.poll_effect())
        .filter(|effect| matches!(effect, Effect::Send { .. }))
        .count();
    assert_eq!(sent, 0);
}

#[test]
fn lookup_is_answered_at_the_index_of_its_round_and_not_before() {
    let mut test = Test::joined();
    test.apply(2, up("node-2", OTHER, 0));
    test.answers();
    for (query, name) in [(1, "here"), (2, "there"), (3, "nowhere")] {
        let purpose = LookupPurpose::Availability;
        test.replica.lookup(QueryId(query), service(name), purpose);
    }
    test.replica.flush(test.now);
    let round = test.round();

    test.tell(News::Read { round, index: Some(4) });
    test.apply(3, offer(&life("node-1", 1), 1, "here"));
    let early: Vec<_> = test.answers();
    test.apply(4, offer(&life("node-2", 2), 1, "there"));

    assert!(matches!(early[..], [Input::Committed(_)]), "{early:?}");
    let answers = test.answers();
    assert!(matches!(answers.first(), Some(Input::Committed(_))), "{answers:?}");
    let outcomes = [
        looked_up(1, LookupOutcome::OfferedHere),
        looked_up(2, LookupOutcome::OfferedElsewhere),
        looked_up(3, LookupOutcome::NotOffered),
    ];
    assert_eq!(answers[1..], outcomes);
}

#[test]
fn lookup_that_came_after_a_round_began_waits_for_the_next() {
    let mut test = Test::joined();
    test.ask(1, "echo");
    let first = test.round();
    test.ask(2, "echo");
    assert_eq!(test.rounds(), []);

    test.tell(News::Read { round: first, index: Some(1) });
    assert_eq!(test.answers(), [looked_up(1, LookupOutcome::NotOffered)]);
    test.apply(2, offer(&life("node-1", 1), 1, "echo"));
    test.answers();
    test.replica.flush(test.now);
    let second = test.round();
    test.tell(News::Read { round: second, index: Some(2) });

    assert!(second > first);
    assert_eq!(test.answers(), [looked_up(2, LookupOutcome::OfferedHere)]);
}

#[test]
fn round_without_quorum_answers_that_nobody_knows() {
    let mut test = Test::joined();
    test.ask(1, "echo");
    let round = test.round();

    test.tell(News::Read { round, index: None });

    assert_eq!(test.answers(), [looked_up(1, LookupOutcome::NoQuorum)]);
    // An answer that comes nevertheless is too late.
    test.tell(News::Read { round, index: Some(1) });
    assert_eq!(test.answers(), []);
    let totals = test.replica.read_totals();
    assert_eq!((totals.lookups, totals.rounds, totals.without_quorum), (1, 1, 1));
}

#[test]
fn local_consistency_answers_clients_at_once_and_proofs_by_the_cluster() {
    let mut test = Test::with(Consistency::Local, None);
    test.ask(1, "echo");
    let before_anything_came = test.rounds().len();
    test.apply(1, up("node-1", PROCESS, 0));
    test.apply(2, offer(&life("node-1", 1), 1, "echo"));
    test.answers();

    test.ask(2, "echo");
    test.replica.lookup(QueryId(3), service("echo"), LookupPurpose::Proof);

    assert_eq!(before_anything_came, 1);
    assert_eq!(test.answers(), [looked_up(2, LookupOutcome::OfferedHere)]);
    assert_eq!(test.rounds(), []);
}

#[test]
fn another_catalog_tells_the_engine_of_its_own_life_only() {
    let mut test = Test::joined();
    test.replace(5, vec![up("node-1", PROCESS, 0), up("node-2", OTHER, 0)]);
    assert_eq!(test.answers(), []);

    let gone = CatalogEntry::NodeGone { incarnation: life("node-1", 1) };
    test.replace(7, vec![up("node-1", PROCESS, 0), gone.clone()]);
    assert_eq!(test.answers(), [committed_gone("node-1", 1)]);

    test.replace(9, vec![up("node-1", PROCESS, 0), gone, up("node-1", PROCESS, 1)]);
    assert_eq!(test.answers(), [committed_up("node-1", 3)]);

    test.replace(11, vec![up("node-1", OTHER, 0)]);
    assert_eq!(test.answers(), [committed_gone("node-1", 3)]);
    assert_eq!(test.replica.applied_index(), 11);
}

#[test]
fn another_catalog_answers_the_rounds_that_waited_for_its_index() {
    let mut test = Test::joined();
    test.ask(1, "far");
    let round = test.round();
    test.tell(News::Read { round, index: Some(6) });
    assert_eq!(test.answers(), []);

    let there = offer(&life("node-2", 2), 1, "far");
    test.replace(6, vec![up("node-1", PROCESS, 0), up("node-2", OTHER, 0), there]);

    assert_eq!(test.answers(), [looked_up(1, LookupOutcome::OfferedElsewhere)]);
}

#[test]
fn entry_that_only_this_copy_refuses_ends_the_node() {
    let mut test = Test::joined();

    test.apply(2, offer(&life("node-1", 9), 1, "echo"));

    assert!(matches!(test.replica.take_stop(), Some(Stop::Fatal { .. })));
    assert_eq!(test.replica.take_stop(), None);
}

#[test]
fn stop_is_passed_on() {
    let mut test = Test::joined();

    test.tell(News::Stopped(Stop::Removed));

    assert_eq!(test.replica.take_stop(), Some(Stop::Removed));
}

#[test]
fn news_is_taken_in_parts() {
    let mut test = Test::joined();
    for index in 0..=u64::try_from(NEWS_BATCH_MAX).unwrap() {
        test.news.try_send(News::Applied { index, entries: Vec::new() }).unwrap();
    }

    assert_eq!(test.replica.read_news(test.now), NewsState::MoreWaits);
    assert_eq!(test.replica.read_news(test.now), NewsState::Emptied);

    assert_eq!(test.replica.applied_index(), u64::try_from(NEWS_BATCH_MAX).unwrap());
}

#[test]
fn isolation_is_found_by_rounds_of_their_own_and_told_once() {
    let mut test = Test::with(Consistency::Linearizable, Some(Duration::from_secs(4)));
    let mut isolated_after = Vec::new();
    for second in 1..=8 {
        test.advance(Duration::from_secs(1));
        isolated_after.extend(test.answers().into_iter().map(|input| (second, input)));
        for round in test.rounds() {
            test.tell(News::Read { round, index: None });
        }
    }

    assert_eq!(isolated_after, [(4, Input::Isolated)]);
}

#[test]
fn node_that_nobody_asks_to_watch_begins_no_rounds() {
    let mut test = Test::joined();

    test.advance(Duration::from_secs(60));

    assert_eq!((test.rounds(), test.replica.poll_timeout()), (vec![], None));
}

#[test]
fn drain_ends_with_the_end_of_this_life() {
    let mut test = Test::joined();
    let (moved, handing_over) = oneshot::channel();
    test.asked.0.borrow_mut().handing_over = Some(handing_over);
    test.replica.begin_drain(test.now);
    assert_eq!(test.replica.poll_timeout(), None);

    test.replica.leave(test.now);
    test.advance(Duration::from_millis(50));
    assert_eq!(test.proposals(), []);
    moved.send(true).unwrap();
    test.advance(Duration::from_millis(50));
    let gone = CatalogEntry::NodeGone { incarnation: life("node-1", 1) };
    assert_eq!(test.proposals(), std::slice::from_ref(&gone));
    assert!(!test.replica.has_left());
    test.apply(2, gone);
    test.advance(Duration::from_secs(1));

    assert!(test.replica.has_left() && test.replica.leader_moved());
}

#[test]
fn drain_without_a_quorum_is_given_up() {
    let mut test = Test::joined();
    test.replica.begin_drain(test.now);
    test.replica.leave(test.now);
    let begun = test.now;

    while !test.replica.has_left() {
        test.advance(Duration::from_millis(10));
    }

    assert!(test.now - begun <= Duration::from_millis(1_010));
    assert!(!test.replica.leader_moved());
    assert_eq!(test.proposals().len(), 4);
}

#[test]
fn peers_are_told_once_after_each_change_and_never_before_this_node_lives() {
    let mut test = Test::new();
    let peers = |epoch, nodes: &[&str]| {
        let node = |node: &&str| (name(node), format!("tcp://{node}:5557"));
        let nodes = nodes.iter().map(node).collect();
        Some(Peers { cluster: "00ff".to_owned(), epoch: Epoch(epoch), nodes })
    };
    test.apply(1, up("node-2", OTHER, 0));
    test.apply(2, up("mute", OTHER, 0));
    assert_eq!(test.replica.take_peers(), None);

    test.apply(3, up("node-1", PROCESS, 0));
    assert_eq!(test.replica.take_peers(), peers(3, &["node-2"]));
    assert_eq!(test.replica.take_peers(), None);

    test.apply(4, CatalogEntry::NodeDraining { incarnation: life("node-2", 1), seq: Seq(1) });
    test.apply(5, offer(&life("node-1", 3), 1, "echo"));
    assert_eq!(test.replica.take_peers(), None);
    test.apply(6, up("node-3", OTHER, 0));
    assert_eq!(test.replica.take_peers(), peers(3, &["node-2", "node-3"]));

    // Links stay when this node itself is given up.
    test.apply(7, CatalogEntry::NodeGone { incarnation: life("node-1", 3) });
    test.apply(8, CatalogEntry::NodeGone { incarnation: life("node-2", 1) });
    assert_eq!(test.replica.take_peers(), peers(3, &["node-3"]));
    test.replace(9, vec![up("node-1", PROCESS, 0), up("node-4", OTHER, 0)]);
    assert_eq!(test.replica.take_peers(), peers(1, &["node-4"]));
}

#[test]
fn service_that_others_offer_too_is_not_only_theirs() {
    let mut test = Test::joined();
    test.apply(2, up("node-2", OTHER, 0));
    test.apply(3, up("node-3", OTHER, 0));
    test.apply(4, offer(&life("node-2", 2), 1, "one"));
    test.apply(5, offer(&life("node-2", 2), 2, "two"));
    test.apply(6, offer(&life("node-3", 3), 1, "two"));

    let is_node_2 = |node: &NodeName| node.as_str() == "node-2";
    let is_only_theirs = ["one", "two", "none"]
        .map(|name| test.replica.is_only_offered_by(&service(name), &is_node_2));

    assert_eq!(is_only_theirs, [true, false, false]);
}

/// A node without peers.
fn alone() -> Replica<Alone, Vec<u8>> {
    let CatalogEntry::NodeUp(up) = up("node-1", PROCESS, 0) else { panic!("it is one") };
    let mut replica = Replica::alone(up, any_instant()).unwrap();
    let begun = CatalogChange::NodeUp { incarnation: life("node-1", 1) };
    assert_eq!(replica.poll_answer(), Some(Input::Committed(begun)));
    replica
}

#[test]
fn alone_a_proposal_is_committed_at_once_and_an_old_one_is_not() {
    let mut replica = alone();
    let incarnation = life("node-1", 1);
    replica.propose(offer(&incarnation, 1, "echo"));
    replica.propose(offer(&incarnation, 1, "late"));

    let services = vec![service("echo")];
    let change = CatalogChange::Offered { incarnation, seq: Seq(1), services };
    assert_eq!(replica.poll_answer(), Some(Input::Committed(change)));
    assert_eq!((replica.poll_answer(), replica.applied_index()), (None, 2));
}

#[test]
fn alone_every_question_is_answered_at_once() {
    let mut replica = alone();
    replica.propose(offer(&life("node-1", 1), 1, "echo"));
    assert!(replica.poll_answer().is_some());

    replica.lookup(QueryId(1), service("echo"), LookupPurpose::Proof);
    replica.lookup(QueryId(2), service("nothing"), LookupPurpose::Availability);

    for (query, outcome) in [(1, LookupOutcome::OfferedHere), (2, LookupOutcome::NotOffered)] {
        let answer = Input::LookedUp { query: QueryId(query), outcome };
        assert_eq!(replica.poll_answer(), Some(answer));
    }
    let totals = replica.read_totals();
    assert_eq!((totals.lookups, totals.rounds), (2, 0));
    assert!(replica.take_peers().is_none() && replica.status().is_none());
}

#[test]
fn alone_a_node_leaves_at_once() {
    let (mut replica, now) = (alone(), any_instant());
    replica.begin_drain(now);
    assert!(!replica.has_left());
    replica.leave(now);

    assert!(replica.has_left() && !replica.leader_moved());
    let ended = CatalogChange::NodeGone { incarnation: life("node-1", 1) };
    assert_eq!(replica.poll_answer(), Some(Input::Committed(ended)));
    assert_eq!(replica.poll_timeout(), None);
}
