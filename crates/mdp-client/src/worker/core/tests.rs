//! The worker's state machine in virtual time.

mod spreading;

use super::*;
use crate::brokers::LISTING_RETRIED_AFTER;

const INTERVAL: Duration = Duration::from_secs(1);
const REFRESH: Duration = Duration::from_secs(5);
const REQUEST: [&[u8]; 6] = [b"", b"MDPW01", b"\x02", b"client", b"", b"x"];
const HEARTBEAT: [&[u8]; 3] = [b"", b"MDPW01", b"\x04"];
const DISCONNECT: [&[u8]; 3] = [b"", b"MDPW01", b"\x05"];

/// A core, its clock, and what a shell would have.
struct CoreTest {
    core: WorkerCore,
    now: Instant,
    /// Messages since the socket was opened; `None` without a socket.
    link: Option<Vec<Vec<Vec<u8>>>>,
    /// The hosts of all sockets so far.
    opened: Vec<String>,
    /// Questions for `mmi.endpoints`.
    asked: usize,
    /// Questions for `mmi.directory`.
    directory_questions: usize,
    running: Option<JobId>,
    complaints: Vec<Complaint>,
    is_finished: bool,
}

impl CoreTest {
    /// A worker that happens to begin at the first endpoint.
    fn new(endpoints: &[&str], seed: u64) -> Self {
        let seeds = (0..).map(|another| seed + (another << 32));
        let mut tests = seeds.map(|seed| Self::with_seed(endpoints, seed));
        tests.find(|test| test.opened == endpoints[..1]).unwrap()
    }

    fn with_seed(endpoints: &[&str], seed: u64) -> Self {
        let settings = CoreSettings {
            endpoints: endpoints.iter().map(|host| format!("tcp://{host}:1")).collect(),
            service: ServiceName::try_from("echo").unwrap(),
            version: Version::V01,
            heartbeat_interval: INTERVAL,
            heartbeat_liveness: 3,
            endpoints_refresh: REFRESH,
            rebalances: true,
            handshake_min: Duration::ZERO,
        };
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10), seed);
        let now = Instant::now();
        let core = WorkerCore::new(now, settings, backoff, fastrand::Rng::with_seed(seed));
        let mut test = Self {
            core,
            now,
            link: None,
            opened: Vec::new(),
            asked: 0,
            directory_questions: 0,
            running: None,
            complaints: Vec::new(),
            is_finished: false,
        };
        test.run_effects();
        test
    }

    fn handle(&mut self, input: WorkerInput) {
        self.core.handle_input(self.now, input);
        self.run_effects();
    }

    fn receive(&mut self, frames: &[&[u8]]) {
        self.handle(WorkerInput::Received { frames: frames.iter().map(|f| f.to_vec()).collect() });
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.core.handle_timeout(self.now);
        self.run_effects();
        assert!(self.core.poll_timeout().is_none_or(|at| at > self.now), "the shell would spin");
    }

    /// Lets time pass, at a broker that lives.
    fn live_until(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.advance(INTERVAL);
            self.receive(&HEARTBEAT);
        }
    }

    /// Answers `mmi.endpoints`, as brokers of 0.1 do.
    fn list(&mut self, hosts: &[&str]) {
        let nodes = hosts.iter().map(|host| format!(r#"{{"endpoint":"tcp://{host}:1"}}"#));
        self.list_entries(nodes);
    }

    fn list_entries(&mut self, nodes: impl Iterator<Item = String>) {
        let page = format!(r#"{{"endpoints":[{}]}}"#, nodes.collect::<Vec<_>>().join(","));
        self.receive(&[b"", b"MDPC01", b"mmi.endpoints", b"200", page.as_bytes()]);
    }

    /// Answers `mmi.directory`.
    fn answer_directory(&mut self, entry: &str) {
        let page = format!(r#"{{"services":[{{"name":"echo",{entry}}}]}}"#);
        self.receive(&[b"", b"MDPC01", b"mmi.directory", b"200", page.as_bytes()]);
    }

    fn finish_job(&mut self) {
        if let Some(job) = self.running.take() {
            self.handle(WorkerInput::Final { job, body: vec![b"done".to_vec()] });
        }
    }

    fn run_effects(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            assert!(!self.is_finished, "{effect:?} after the end");
            match effect {
                WorkerEffect::Open { endpoint } => {
                    assert_eq!(self.link, None, "two sockets");
                    self.link = Some(Vec::new());
                    let host = endpoint.strip_prefix("tcp://").and_then(|e| e.strip_suffix(":1"));
                    self.opened.push(host.unwrap().to_owned());
                }
                WorkerEffect::Send { frames } => {
                    let sent = self.link.as_mut().expect("a socket to send on");
                    if frames[1] == b"MDPC01" {
                        assert_ne!(sent[..], [] as [Vec<Vec<u8>>; 0], "asked before READY");
                        let count = match frames[2].as_slice() {
                            b"mmi.endpoints" => &mut self.asked,
                            b"mmi.directory" => &mut self.directory_questions,
                            other => panic!("{}", other.escape_ascii()),
                        };
                        *count += 1;
                        continue;
                    }
                    // MDP7-26, MDP7-28: first of all, and never again.
                    assert_eq!(sent.is_empty(), frames[2] == b"\x01", "{frames:?}");
                    // MDP7-31: our DISCONNECT is the last message.
                    assert_ne!(sent.last().map(|last| last[2].as_slice()), Some(&b"\x05"[..]));
                    sent.push(frames);
                }
                WorkerEffect::Close { farewell } => {
                    let sent = self.link.take().expect("a socket to close");
                    let said = sent.last().is_some_and(|last| last[2] == b"\x05");
                    assert_eq!(said, farewell == Farewell::Flushed);
                }
                WorkerEffect::Run { job, .. } => {
                    assert_eq!(self.running.replace(job), None, "two jobs at a time (A2)");
                }
                WorkerEffect::Complain { complaint } => self.complaints.push(complaint),
                WorkerEffect::Finished => self.is_finished = true,
            }
        }
    }

    fn last_command(&self) -> Option<&[u8]> {
        self.link.as_ref().and_then(|sent| sent.last()).map(|frames| frames[2].as_slice())
    }
}

#[test]
fn heartbeat_is_due_an_interval_after_the_last_message() {
    let mut test = CoreTest::new(&["a"], 1);
    test.receive(&REQUEST);
    test.advance(INTERVAL / 2);
    test.finish_job();
    assert_eq!(test.last_command(), Some(&b"\x03"[..]));

    test.advance(INTERVAL / 2);
    assert_eq!(test.last_command(), Some(&b"\x03"[..]), "the reply was a sign of life");
    test.advance(INTERVAL / 2);
    assert_eq!(test.last_command(), Some(&b"\x04"[..]));
}

#[test]
fn broker_is_held_to_interval_times_liveness() {
    let mut test = CoreTest::new(&["a", "b"], 1);
    test.advance(INTERVAL * 3 / 2);
    test.receive(&HEARTBEAT);

    test.advance(INTERVAL * 3 - Duration::from_millis(1));
    assert_eq!(test.opened, ["a"]);
    test.advance(Duration::from_millis(1));
    assert_eq!(test.link, None);
    test.advance(Duration::from_millis(100));
    assert_eq!(test.opened, ["a", "b"]);
}

#[test]
fn good_connection_makes_pauses_short_again() {
    let mut test = CoreTest::new(&["a"], 1);
    for _ in 0..10 {
        test.receive(&DISCONNECT);
        test.advance(Duration::from_secs(10));
    }
    let opened = test.opened.len();

    test.receive(&HEARTBEAT);
    test.advance(INTERVAL);
    test.receive(&DISCONNECT);
    assert_eq!(test.opened.len(), opened + 1, "at once");
    test.receive(&DISCONNECT);
    test.advance(Duration::from_millis(100));
    assert_eq!(test.opened.len(), opened + 2, "after the shortest pause");
}

#[test]
fn connection_is_not_replaced_while_the_handler_works() {
    let mut test = CoreTest::new(&["a", "b"], 1);
    test.receive(&REQUEST);
    test.handle(WorkerInput::ConnectionLost);
    test.advance(Duration::from_secs(60));
    assert_eq!(test.opened, ["a"]);
    assert_eq!(test.core.poll_timeout(), None, "nothing to wait for but the handler");

    test.finish_job();

    assert_eq!(test.opened, ["a", "b"]);
    assert_eq!(test.last_command(), Some(&b"\x01"[..]), "the old reply is not sent");
}

#[test]
fn unreachable_brokers_are_passed_over_in_one_round() {
    let mut test = CoreTest::new(&["a", "b", "c"], 1);

    test.handle(WorkerInput::ConnectionLost);
    test.handle(WorkerInput::ConnectionLost);
    let mut round = test.opened.clone();
    round.sort_unstable();
    assert_eq!(round, ["a", "b", "c"], "at once");
    test.handle(WorkerInput::ConnectionLost);
    assert_eq!(test.opened.len(), 3, "then with a pause");
    test.advance(Duration::from_millis(100));

    assert_eq!(test.opened.len(), 4);
}

#[test]
fn worker_goes_to_a_learned_broker_at_once_when_its_own_leaves() {
    let mut test = CoreTest::new(&["a"], 1);
    assert_eq!(test.asked, 0, "not before it is registered");
    test.receive(&HEARTBEAT);
    assert_eq!(test.asked, 1);
    test.list(&["a", "b", "c"]);

    test.receive(&DISCONNECT);

    assert!(["b", "c"].contains(&test.opened[1].as_str()), "{:?}", test.opened);
    assert_eq!(test.core.counters().messages_malformed, 0);
}

#[test]
fn brokers_that_leave_too_come_last() {
    let mut test = CoreTest::new(&["a", "b", "c"], 1);
    test.receive(&HEARTBEAT);
    test.list(&["a", "c"]);

    test.receive(&DISCONNECT);
    assert_eq!(test.opened, ["a", "c"]);
    test.handle(WorkerInput::ConnectionLost);
    test.handle(WorkerInput::ConnectionLost);

    assert_eq!(test.opened, ["a", "c", "a", "b"], "better than none");
}

#[test]
fn worker_stays_where_it_is() {
    let mut test = CoreTest::new(&["a", "b"], 1);
    test.receive(&HEARTBEAT);
    test.receive(&DISCONNECT);
    test.receive(&HEARTBEAT);

    for _ in 0..100 {
        test.list(&["a", "b"]);
        test.advance(INTERVAL);
        test.receive(&HEARTBEAT);
    }

    assert_eq!(test.opened, ["a", "b"]);
}

#[test]
fn broker_that_does_not_answer_is_left_alone_for_a_while() {
    let mut test = CoreTest::new(&["a"], 1);
    let live = |test: &mut CoreTest| test.live_until(REFRESH);
    test.receive(&HEARTBEAT);
    test.list(&["a"]);
    live(&mut test);
    assert_eq!(test.asked, 2);

    live(&mut test);
    live(&mut test);
    test.receive(&DISCONNECT);
    test.receive(&HEARTBEAT);
    live(&mut test);
    assert_eq!(test.asked, 2, "it was silent once");
    test.live_until(LISTING_RETRIED_AFTER);
    assert_eq!(test.asked, 3, "it may have lost one question");
    test.list(&["a"]);
    live(&mut test);
    assert_eq!(test.asked, 4, "it has answered");

    let mut test = CoreTest::new(&["a"], 1);
    test.receive(&HEARTBEAT);
    test.receive(&[b"", b"MDPC01", b"mmi.endpoints", b"501"]);
    live(&mut test);
    assert_eq!(test.asked, 1, "it has no such service");
    test.live_until(LISTING_RETRIED_AFTER);
    assert_eq!(test.asked, 2, "it may have been replaced by one that has");
}

#[test]
fn answer_that_is_late_is_taken_all_the_same() {
    let mut test = CoreTest::new(&["a"], 1);
    test.receive(&HEARTBEAT);
    test.live_until(REFRESH * 2);
    assert_eq!(test.asked, 1);

    test.list(&["a", "b"]);
    test.receive(&DISCONNECT);

    assert_eq!(test.opened, ["a", "b"]);
}

#[test]
fn rules_hold_whatever_happens() {
    // The rules are the assertions in `run_effects`.
    for seed in 0..500 {
        let mut luck = fastrand::Rng::with_seed(seed);
        let mut test = CoreTest::new(&["a", "b", "c"][..luck.usize(1..=3)], seed);

        for _ in 0..300 {
            match luck.u8(..15) {
                0..=2 => test.receive(&REQUEST),
                3 | 4 => test.receive(&HEARTBEAT),
                5 => test.receive(&DISCONNECT),
                6 => test.handle(WorkerInput::ConnectionLost),
                12 => test.list(&["a", "b", "d"][luck.usize(..3)..]),
                13 => test.answer_directory(r#""nodes":["n1"],"workers":2"#),
                7 => test.receive(&[b"", b"MDPW01", &[luck.u8(..)]]),
                8 | 9 => test.finish_job(),
                10 => {
                    if let Some(job) = test.running.take() {
                        test.handle(WorkerInput::Panicked { job });
                    }
                }
                _ => test.advance(Duration::from_millis(luck.u64(..2_000))),
            }
        }
        assert!(test.opened.len() > 1, "seed {seed}");

        test.handle(WorkerInput::Leave);
        test.finish_job();
        assert!(test.is_finished, "seed {seed}");
        assert_eq!((test.link, test.core.poll_timeout()), (None, None), "seed {seed}");
    }
}

#[test]
fn worker_that_is_not_registered_says_why() {
    let mut test = CoreTest::new(&["a", "b"], 1);
    let refused = |test: &mut CoreTest| {
        let (endpoint, failure) = ("tcp://b:1".to_owned(), ConnectFailure::Refused);
        test.handle(WorkerInput::Examined { endpoint, failure });
    };

    refused(&mut test);
    assert_eq!(test.complaints.len(), 1);
    assert!(test.complaints[0].text.contains("`echo` not served: b:1: connection refused"));
    test.receive(&DISCONNECT);
    let refusal = &test.complaints[1].text;
    assert!(refusal.contains("tcp://a:1 refuses the worker"), "{refusal}");
    test.advance(Duration::from_millis(100));
    test.receive(&HEARTBEAT);
    // It is registered: that another broker is away is no news.
    refused(&mut test);
    assert_eq!(test.complaints.len(), 2, "{:?}", test.complaints);
}

#[test]
fn heartbeats_that_are_much_rarer_than_the_brokers_are_complained_of() {
    for (gap, expected) in [(INTERVAL, 0), (INTERVAL / 2, 0), (INTERVAL / 3, 1)] {
        let mut test = CoreTest::new(&["a"], 1);
        test.receive(&HEARTBEAT);
        test.advance(gap);
        test.receive(&HEARTBEAT);

        assert_eq!(test.complaints.len(), expected, "{gap:?}: {:?}", test.complaints);
    }
}

#[test]
fn same_complaint_has_the_same_text_whatever_was_measured() {
    let mut test = CoreTest::new(&["a"], 1);
    test.receive(&HEARTBEAT);
    let gaps = [INTERVAL / 3, INTERVAL / 4];
    for gap in gaps {
        test.advance(gap);
        test.receive(&HEARTBEAT);
    }

    let [first, second] = test.complaints.as_slice() else { panic!("{:?}", test.complaints) };
    assert_eq!(first.text, second.text);
    assert_eq!([first.broker_interval, second.broker_interval], gaps.map(Some));
}

fn not_admitted(host: &str) -> WorkerInput {
    let endpoint = format!("tcp://{host}:1");
    WorkerInput::Examined { endpoint, failure: ConnectFailure::NotAdmitted }
}

#[test]
fn worker_whose_key_is_refused_comes_back_after_pauses_up_to_half_a_minute() {
    let mut test = CoreTest::new(&["a"], 1);
    for (opened, full_s) in (1..).zip([1, 2, 4, 8, 16, 30, 30]) {
        assert_eq!(test.opened.len(), opened);
        test.handle(not_admitted("a"));
        test.handle(WorkerInput::ConnectionLost);
        let full = Duration::from_secs(full_s);

        test.advance(full.mul_f64(0.49));
        assert_eq!(test.opened.len(), opened, "{full:?}");
        // The pause after a connection that failed, up to 10 s, may be the longer one.
        test.advance(full.mul_f64(0.52).max(Duration::from_secs(10)));
    }
}

#[test]
fn reason_that_is_known_late_lengthens_the_pause() {
    let mut test = CoreTest::new(&["a"], 1);
    test.handle(WorkerInput::ConnectionLost);
    test.handle(not_admitted("a"));

    test.advance(Duration::from_millis(490));
    assert_eq!(test.opened.len(), 1);
    test.advance(Duration::from_millis(520));
    assert_eq!(test.opened.len(), 2);
}

#[test]
fn worker_that_is_refused_at_one_broker_registers_at_another() {
    let mut test = CoreTest::new(&["a", "b"], 1);
    test.handle(not_admitted("a"));
    test.handle(WorkerInput::ConnectionLost);
    assert_eq!(test.opened, ["a", "b"]);
}
