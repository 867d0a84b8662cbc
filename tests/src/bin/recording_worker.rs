//! A worker in a process of its own, to be killed and frozen as one. It writes down what it does
//! before anybody else can know of it.
//!
//!     recording-worker FILE SERVICE JOB_MILLISECONDS_MAX ENDPOINT..
//!
//! Lines of the file, with nanoseconds of the monotonic clock: `registered NODE AT`,
//! `executes ID NODE AT`, `answered ID NODE AT`, `sent-away NODE AT`, `silent NODE AT`.
//! The node is the endpoint's place in the list. A killed process may leave half a line at the end.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a harness stops at the first surprise")]

use std::{
    env,
    fs::{File, OpenOptions},
    io::Write,
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{
    RECORDED_HEARTBEAT, RECORDED_SILENCE_MAX, RawSocket, RawWorker, Version, now_ns,
};

/// Before a worker that was refused asks again, of whichever node.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// After so long without an acknowledgement another node is asked.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(1);

fn main() {
    let mut arguments = env::args().skip(1);
    let mut next = || arguments.next().unwrap_or_else(|| panic!("an argument is missing"));
    let file = OpenOptions::new().create(true).append(true).open(next()).unwrap();
    let service = next();
    let job_ms_max = next().parse().unwrap();
    let endpoints: Vec<String> = arguments.collect();
    let context = zmq::Context::new();
    let mut recorder =
        Recorder { file, service, job_ms_max, random: fastrand::Rng::new(), context, node: 0 };
    loop {
        recorder.node = recorder.random.usize(0..endpoints.len());
        if let Some(endpoint) = endpoints.get(recorder.node) {
            recorder.serve(endpoint);
        }
    }
}

struct Recorder {
    file: File,
    service: String,
    job_ms_max: u64,
    random: fastrand::Rng,
    context: zmq::Context,
    node: usize,
}

/// One registration.
struct Session {
    worker: RawWorker,
    is_registered: bool,
    heard_at: Instant,
    heartbeat_at: Instant,
}

impl Recorder {
    /// One line, with one call: what was written stays when the process is killed.
    fn write(&mut self, what: &str) {
        let line = format!("{what} {} {}\n", self.node, now_ns());
        self.file.write_all(line.as_bytes()).unwrap();
    }

    /// Registers and serves until that is over.
    fn serve(&mut self, endpoint: &str) {
        let socket = RawSocket::connect(endpoint, &self.context, zmq::DEALER, |_| Ok(()));
        let now = Instant::now();
        let mut session = Session {
            worker: RawWorker { socket, version: Version::V01 },
            is_registered: false,
            heard_at: now,
            heartbeat_at: now + RECORDED_HEARTBEAT,
        };
        session.worker.ready(&self.service);
        loop {
            if let Some(message) = session.worker.socket.recv_within(session.patience()) {
                session.heard_at = Instant::now();
                if message == Version::V01.disconnect() {
                    return self.on_sent_away(&session);
                }
                if !session.is_registered {
                    session.is_registered = true;
                    self.write("registered");
                }
                if message != Version::V01.heartbeat() {
                    self.execute(&mut session, &message);
                }
            } else if session.is_silent() {
                if session.is_registered {
                    self.write("silent");
                }
                return;
            }
            session.heartbeat();
        }
    }

    fn on_sent_away(&mut self, session: &Session) {
        if session.is_registered {
            self.write("sent-away");
        } else {
            thread::sleep(REFUSED_PAUSE);
        }
    }

    fn execute(&mut self, session: &mut Session, message: &[Vec<u8>]) {
        let [_, _, _, address, _, body] = message else { panic!("no request: {message:?}") };
        let id = String::from_utf8_lossy(body).into_owned();
        self.write(&format!("executes {id}"));
        thread::sleep(Duration::from_millis(self.random.u64(0..=self.job_ms_max)));
        session.worker.answer(address, body);
        session.heartbeat_at = Instant::now() + RECORDED_HEARTBEAT;
        self.write(&format!("answered {id}"));
    }
}

impl Session {
    /// How long there is nothing to do.
    fn patience(&self) -> Duration {
        let silent_at = self.heard_at + self.silence_max();
        let next = self.heartbeat_at.min(silent_at);
        next.saturating_duration_since(Instant::now())
    }

    fn silence_max(&self) -> Duration {
        if self.is_registered { RECORDED_SILENCE_MAX } else { ACKNOWLEDGED_WITHIN }
    }

    fn is_silent(&self) -> bool {
        self.heard_at.elapsed() >= self.silence_max()
    }

    /// Shows that it lives, when it is time to. One that waits for its acknowledgement may, too.
    fn heartbeat(&mut self) {
        if Instant::now() >= self.heartbeat_at {
            self.worker.heartbeat();
            self.heartbeat_at = Instant::now() + RECORDED_HEARTBEAT;
        }
    }
}
