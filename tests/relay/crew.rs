//! Workers and clients that behave as reference peers do, each in a thread of its own.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use cluster_tests::{Message, PATIENCE, RawClient, RawWorker, Version, look_for, wait_until};

use Version::V01;

/// `broker.heartbeat_interval` of clusters that a crew works for.
pub(crate) const HEARTBEATS: (&str, &str) = ("broker.heartbeat_interval", "1s");

/// How often a worker says that it lives.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(300);

/// How long a worker listens before it looks whether anything else is to be done.
const TURN: Duration = Duration::from_millis(50);

/// How long a worker waits after it was refused.
const BACK_OFF: Duration = Duration::from_millis(100);

/// How long a worker waits for the acknowledgement of its READY before it goes elsewhere.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(3);

/// How long a client waits for a reply, and how often it asks, as the Guide's.
const CALL_TIMEOUT: Duration = Duration::from_millis(2_500);
const ATTEMPTS_MAX: usize = 3;

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    registered: AtomicUsize,
    /// How often a worker was told to go.
    disconnects: AtomicUsize,
    executed: Mutex<Vec<Vec<u8>>>,
}

/// Workers that answer each request with its body.
#[derive(Debug)]
pub(crate) struct Crew {
    service: String,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    pub(crate) fn new(service: &str) -> Self {
        Self { service: service.to_owned(), shared: Arc::default(), threads: Vec::new() }
    }

    /// A worker that goes from one endpoint to the next when it is told to go.
    pub(crate) fn hire(&mut self, endpoints: &[String]) {
        let (shared, service) = (Arc::clone(&self.shared), self.service.clone());
        let endpoints = endpoints.to_vec();
        self.threads.push(thread::spawn(move || {
            for endpoint in endpoints.iter().cycle() {
                if !work_at(endpoint, &service, &shared) {
                    break;
                }
            }
        }));
    }

    #[track_caller]
    pub(crate) fn wait_until_registered(&self, count: usize) {
        wait_until("the workers are registered", PATIENCE, || self.registered() == count);
    }

    /// How many are registered now.
    pub(crate) fn registered(&self) -> usize {
        self.shared.registered.load(Ordering::SeqCst)
    }

    /// How often workers were told to go so far.
    pub(crate) fn disconnects(&self) -> usize {
        self.shared.disconnects.load(Ordering::SeqCst)
    }

    /// Lets all take leave; the bodies of what they executed.
    pub(crate) fn leave(mut self) -> Vec<Vec<u8>> {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        std::mem::take(&mut self.shared.executed.lock().unwrap())
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
    }
}

/// Works until it is told to go or hears nothing; whether it shall go elsewhere then.
fn work_at(endpoint: &str, service: &str, shared: &Shared) -> bool {
    let worker = RawWorker::connect(endpoint, V01);
    worker.ready(service);
    let mut is_registered = false;
    let ready_at = Instant::now();
    let mut heartbeat_at = ready_at + HEARTBEAT_EVERY;
    let goes_on = loop {
        if shared.is_over.load(Ordering::SeqCst) {
            worker.disconnect();
            let _taken = worker.settles_within(CALL_TIMEOUT);
            break false;
        }
        if Instant::now() >= heartbeat_at {
            worker.heartbeat();
            heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
        }
        let Some(message) = worker.socket.recv_within(TURN) else {
            if !is_registered && ready_at.elapsed() > UNACKNOWLEDGED_MAX {
                break true;
            }
            continue;
        };
        if message == V01.disconnect() {
            shared.disconnects.fetch_add(1, Ordering::SeqCst);
            if !is_registered {
                let _waited = look_for(BACK_OFF, || None::<()>);
            }
            break true;
        }
        if !is_registered {
            is_registered = true;
            shared.registered.fetch_add(1, Ordering::SeqCst);
        }
        if message != V01.heartbeat() {
            answer(&worker, &message, shared);
        }
    };
    if is_registered {
        shared.registered.fetch_sub(1, Ordering::SeqCst);
    }
    goes_on
}

fn answer(worker: &RawWorker, work: &Message, shared: &Shared) {
    let [_, _, _, address, _, body] = work.as_slice() else { panic!("no request: {work:?}") };
    shared.executed.lock().unwrap().push(body.clone());
    worker.answer(address, body);
}

/// What calls came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// How many were answered.
    pub(crate) answered: usize,
    /// How many needed more than one attempt.
    pub(crate) retried: usize,
    /// The bodies of those that no attempt got a reply to.
    pub(crate) failed: Vec<String>,
}

/// Clients that call all the time and go to the next node when there is no reply.
#[derive(Debug)]
pub(crate) struct Callers {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Calls>>,
}

impl Callers {
    /// One client for each endpoint, which begins there.
    pub(crate) fn start(service: &str, endpoints: &[String]) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let threads = (0..endpoints.len()).map(|first| {
            let (service, endpoints) = (service.to_owned(), endpoints.to_vec());
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || call_all_the_time(&service, &endpoints, first, &is_over))
        });
        Self { threads: threads.collect(), is_over }
    }

    /// Waits for the last replies.
    pub(crate) fn finish(mut self) -> Calls {
        self.is_over.store(true, Ordering::SeqCst);
        let mut sum = Calls::default();
        for thread in self.threads.drain(..) {
            let Calls { answered, retried, failed } = thread.join().unwrap();
            sum.answered += answered;
            sum.retried += retried;
            sum.failed.extend(failed);
        }
        sum
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

fn call_all_the_time(
    service: &str,
    endpoints: &[String],
    first: usize,
    is_over: &AtomicBool,
) -> Calls {
    let mut calls = Calls::default();
    let mut next = endpoints.iter().cycle().skip(first);
    let mut client = RawClient::connect(next.next().unwrap().as_str(), V01);
    for number in 0.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let body = format!("{first} {number}");
        let answered_in = (1..=ATTEMPTS_MAX).find(|_| {
            client.request(service, &body);
            let reply = client.socket.recv_within(CALL_TIMEOUT);
            let is_answered = reply.is_some();
            if let Some(reply) = reply {
                assert_eq!(reply, V01.reply(service, &[body.as_bytes()]), "a wrong reply");
            } else {
                client = RawClient::connect(next.next().unwrap().as_str(), V01);
            }
            is_answered
        });
        match answered_in {
            Some(attempts) => {
                calls.answered += 1;
                calls.retried += usize::from(attempts > 1);
            }
            None => calls.failed.push(body),
        }
    }
    calls
}
