//! Nodes that live and cannot reach each other.

use std::time::{Duration, Instant};

use cluster_tests::{
    Asker, Code, RawWorker, Sighting, Tap, TestCluster, Version, Watch, hold_for, look_for, scale,
};

use crate::{
    GONE_WITHIN_OF_LEADER, HEALED_WITHIN, LOCAL_WITHIN, UNAVAILABLE_WITHIN, askers,
    assert_everywhere, assert_left_alone, machine, random, register,
};

use Code::{Found, NotFound, NotImplemented, Unavailable};

/// How often a client of a node asks about one of the services, each in turn.
const PERIOD: Duration = Duration::from_millis(10);

/// How long the majority may be without a leader.
const MAJORITY_WITHIN: Duration = Duration::from_millis(1_600);

/// The same where the leader still hears or is heard: connections must time out first.
const ONE_WAY_WITHIN: Duration = Duration::from_secs(6);

/// How far terms may rise by one cut, with the healing after it.
const TERMS_MAX: u64 = 2;

/// What is registered where in a cluster of which one node is cut off.
struct Scene {
    cluster: TestCluster,
    victim: usize,
    others: Vec<usize>,
    /// In the order of [`SERVICES`], as far as registered yet.
    workers: Vec<RawWorker>,
    term: u64,
}

/// One stays at the cut node, one at another; one leaves and one arrives while the cut lasts; one
/// never comes.
const SERVICES: [&str; 5] = [AT_VICTIM, STAYING, LEAVING, ARRIVING, "absent"];
const AT_VICTIM: &str = "at-victim";
const STAYING: &str = "staying";
const LEAVING: &str = "leaving";
const ARRIVING: &str = "arriving";

/// What is right about [`SERVICES`] after the cut.
const AFTERWARDS: [Code; 5] = [Found, Found, NotFound, Found, NotFound];

impl Scene {
    fn new(leads: bool) -> Self {
        let cluster = TestCluster::start_linked(&[]);
        let victim = if leads { cluster.leader() } else { cluster.follower() };
        let others: Vec<usize> = cluster.others(&[victim]).collect();
        let workers = [(victim, AT_VICTIM), (others[0], STAYING), (others[1], LEAVING)]
            .map(|(node, service)| register(&cluster, node, service))
            .into();
        let mut askers = askers(&cluster);
        for service in [AT_VICTIM, STAYING, LEAVING] {
            assert_everywhere(&mut askers, service, Found);
        }
        Self { term: cluster.term(), cluster, victim, others, workers }
    }

    /// What the cut node decides alone, it decides as before.
    fn assert_local_matters_are_decided(&self) {
        let node = self.cluster.node(self.victim);
        let asked_at = Instant::now();
        let answer = Asker::connect(node).answer_to("mmi.nothing", "-", LOCAL_WITHIN);
        assert_eq!(answer, Some(vec![b"501".to_vec()]), "after {:?}", asked_at.elapsed());
        let worker = RawWorker::connect(node, Version::V01);
        worker.ready("mmi.mine");
        let refusal = worker.socket.recv_within(LOCAL_WITHIN);
        assert_eq!(refusal, Some(Version::V01.disconnect()));
        println!("501 and refusal after {:?}", asked_at.elapsed());
    }

    /// The majority goes on: it elects, lets workers come and go, and forgets the cut node.
    fn majority_goes_on(&mut self, cut_at: Instant) {
        let [a, b] = [0, 1].map(|index| self.cluster.node(self.others[index]));
        let mut asker = Asker::connect(a);
        asker.wait_for(STAYING, Found, MAJORITY_WITHIN);
        println!("the majority answers {:?} after the cut", cut_at.elapsed());
        self.workers.push(RawWorker::register(b, Version::V02, ARRIVING));
        assert_eq!(asker.lookup(ARRIVING), Found);
        self.workers[2].disconnect();
        asker.wait_for(LEAVING, NotFound, MAJORITY_WITHIN);
        asker.wait_for(AT_VICTIM, NotFound, GONE_WITHIN_OF_LEADER);
        println!("the cut node's service is gone {:?} after the cut", cut_at.elapsed());
        assert!(cut_at.elapsed() <= GONE_WITHIN_OF_LEADER, "{:?}", cut_at.elapsed());
    }
}

/// Between these times the node may say nothing else than that it does not know.
fn assert_unavailable(sightings: &[Sighting], from: Instant, to: Instant) {
    // What was asked shortly before the healing may be answered by it.
    let asked = sightings
        .iter()
        .filter(|seen| seen.asked_at > from && seen.asked_at + UNAVAILABLE_WITHIN < to)
        .collect::<Vec<_>>();
    assert!(!asked.is_empty(), "nothing was asked while the node was cut off");
    // Where others build and test, even a clock of its own does not wake the node in time.
    let starved = scale().pick(LOCAL_WITHIN, Duration::ZERO);
    for seen in asked {
        let name = SERVICES[seen.service];
        assert_eq!(seen.code, Unavailable, "{name}, {:?} after the cut", seen.asked_at - from);
        assert!(seen.took() <= UNAVAILABLE_WITHIN + starved, "503 took {:?}", seen.took());
    }
}

/// After the healing the node may not know for a while, and is never wrong; then it is right.
fn assert_right_after(sightings: &[Sighting], healed_at: Instant) {
    for (service, right) in AFTERWARDS.iter().enumerate() {
        let name = SERVICES[service];
        let seen: Vec<&Sighting> = sightings
            .iter()
            .filter(|seen| seen.service == service && seen.asked_at > healed_at)
            .collect();
        let first = seen.iter().position(|seen| seen.code == *right);
        let (before, from) = seen.split_at(first.unwrap_or(seen.len()));
        let right_after = from.first().map(|seen| seen.answered_at - healed_at);
        println!("{name} is right {right_after:?} after the healing");
        assert!(right_after.is_some_and(|after| after <= HEALED_WITHIN), "{name}: {seen:?}");
        // Its own worker is offered anew a moment after the node knows of its end.
        let may_be_wrong = name == AT_VICTIM;
        let is_wrong = |seen: &&&Sighting| seen.code.is_certain() && seen.code != *right;
        let wrong = before.iter().filter(|_| !may_be_wrong).chain(from).find(is_wrong);
        assert_eq!(wrong, None, "{name}");
    }
}

fn cut_off_and_heal(leads: bool) {
    let mut scene = Scene::new(leads);
    let watch = Watch::start(scene.cluster.node(scene.victim), &SERVICES, PERIOD);
    let answered = look_for(HEALED_WITHIN, || watch.find(|seen| seen.code.is_certain()));
    assert!(answered.is_some(), "{:?}", watch.sightings());

    scene.cluster.cut_off(scene.victim);
    let cut_at = Instant::now();
    scene.assert_local_matters_are_decided();
    scene.majority_goes_on(cut_at);
    assert!(!scene.cluster.node(scene.victim).readiness().unwrap().is_ready);

    let healed_at = Instant::now();
    scene.cluster.heal();
    hold_for("the cut node's process lives", HEALED_WITHIN + HEALED_WITHIN, || {
        scene.cluster.node_mut(scene.victim).is_running()
    });

    let (sightings, unanswered) = watch.finish();
    assert_eq!(unanswered, 0, "of {}", sightings.len());
    assert_unavailable(&sightings, cut_at, healed_at);
    assert_right_after(&sightings, healed_at);
    scene.cluster.wait_until_ready();
    let term = scene.cluster.term();
    println!("terms: {} before the cut, {term} after the healing", scene.term);
    assert!(term <= scene.term + TERMS_MAX, "term {} and then {term}", scene.term);
    assert_left_alone(&scene.workers[0]);
    assert_left_alone(&scene.workers[1]);
    let mut askers = askers(&scene.cluster);
    for (service, code) in SERVICES.iter().zip(AFTERWARDS) {
        assert_everywhere(&mut askers, service, code);
    }
}

/// CL-07, CL-20: a node without quorum does not guess, and its end leaves nothing wrong.
#[test]
fn follower_that_is_cut_off_does_not_guess_and_comes_back() {
    let _machine = machine();
    cut_off_and_heal(false);
}

#[test]
fn leader_that_is_cut_off_does_not_guess_and_comes_back() {
    let _machine = machine();
    cut_off_and_heal(true);
}

/// Cuts some directions for a while. Workers that nobody lost stay found wherever a node is sure,
/// and the node that nobody cut off answers again within the time.
fn cut_in_part(shape: &str, directions: impl Fn(usize, &[usize]) -> Vec<(usize, usize)>) {
    const LASTS: Duration = Duration::from_secs(5);
    let cluster = TestCluster::start_linked(&[]);
    let leader = cluster.leader();
    let followers: Vec<usize> = cluster.others(&[leader]).collect();
    // The second follower keeps all its connections.
    let untouched = followers[1];
    let worker = register(&cluster, untouched, "echo");
    let watches: Vec<Watch> =
        cluster.nodes().iter().map(|node| Watch::start(node, &["echo"], PERIOD)).collect();
    let term = cluster.term();

    for (from, to) in directions(leader, &followers) {
        cluster.links().turn(from, to, Tap::Held);
    }
    let cut_at = Instant::now();
    let last_unsure = || {
        let seen = watches[untouched].sightings();
        let unsure = seen.iter().filter(|seen| seen.asked_at > cut_at && seen.code != Found);
        unsure.map(|seen| seen.answered_at - cut_at).max().unwrap_or_default()
    };
    let back = look_for(ONE_WAY_WITHIN + LASTS, || {
        // Nothing but the right answer for as long as the cut is watched.
        (cut_at.elapsed() >= last_unsure() + LASTS).then(last_unsure)
    });
    println!("{shape}: the untouched node does not know for {back:?}");
    assert!(back.is_some_and(|back| back <= ONE_WAY_WITHIN), "{shape}: {back:?}");

    cluster.links().heal();
    cluster.wait_until_ready();
    for watch in watches {
        let (sightings, _) = watch.finish();
        let wrong: Vec<_> = sightings.iter().filter(|seen| seen.code == NotFound).collect();
        assert!(wrong.is_empty(), "{shape}: {wrong:?}");
    }
    println!("{shape}: term {term} and then {}", cluster.term());
    assert_left_alone(&worker);
    for asker in &mut askers(&cluster) {
        asker.wait_for("echo", Found, HEALED_WITHIN);
    }
}

#[test]
fn leader_that_one_follower_cannot_reach_is_no_harm() {
    let _machine = machine();
    cut_in_part("leader and one follower", |leader, followers| {
        vec![(leader, followers[0]), (followers[0], leader)]
    });
}

#[test]
fn leader_that_hears_nobody_is_replaced() {
    let _machine = machine();
    cut_in_part("leader hears nobody", |leader, followers| {
        vec![(followers[0], leader), (followers[1], leader)]
    });
}

#[test]
fn leader_that_nobody_hears_is_replaced() {
    let _machine = machine();
    cut_in_part("nobody hears the leader", |leader, followers| {
        vec![(leader, followers[0]), (leader, followers[1])]
    });
}

#[test]
fn flapping_links_never_make_a_wrong_answer() {
    let _machine = machine();
    let mut random = random();
    let cluster = TestCluster::start_linked(&[]);
    let worker = register(&cluster, 0, "echo");
    let watches: Vec<Watch> = cluster
        .nodes()
        .iter()
        .map(|node| Watch::start(node, &["echo", "absent"], PERIOD))
        .collect();
    for _ in 0..scale().pick(10, 200) {
        cluster.links().cut_off(random.usize(0..cluster.nodes().len()));
        let pause = Duration::from_millis(random.u64(50..700));
        watches[0].let_pass(pause);
        cluster.links().heal();
        watches[0].let_pass(pause / 2);
    }

    // No cut is as long as `cluster.node_timeout`, so nobody is lost.
    let healed_at = Instant::now();
    cluster.wait_until_ready();
    println!("ready {:?} after the last cut, term {}", healed_at.elapsed(), cluster.term());
    for watch in watches {
        let (sightings, _) = watch.finish();
        let expected = [Found, NotFound];
        let is_wrong =
            |seen: &&Sighting| seen.code.is_certain() && seen.code != expected[seen.service];
        let wrong: Vec<_> = sightings.iter().filter(is_wrong).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(sightings.iter().all(|seen| seen.code != NotImplemented));
    }
    assert_left_alone(&worker);
}
