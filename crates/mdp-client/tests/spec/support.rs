//! A broker that does only what a test tells it, and clients and workers in threads.

use std::{
    net::TcpListener,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mdp_client::{
    CallError, Client, ClientOptions, Reply, Request, StopHandle, Version, Worker, WorkerCounters,
    WorkerOptions,
};

/// How long a test waits for what must come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The heartbeat interval of workers under test.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);

/// Silence that makes a broker lost for impatient workers: interval x liveness.
pub(crate) const SILENCE_MAX: Duration = Duration::from_millis(600);

/// What a loaded machine may add to any time.
pub(crate) const SLACK: Duration = Duration::from_secs(5);

/// Frames from byte strings.
macro_rules! frames {
    ($($frame:expr),* $(,)?) => { vec![$(AsRef::<[u8]>::as_ref($frame).to_vec()),*] };
}
pub(crate) use frames;

/// The routing id of a connection.
pub(crate) type Peer = Vec<u8>;

/// A raw ROUTER.
pub(crate) struct FakeBroker {
    router: zmq::Socket,
    pub(crate) endpoint: String,
}

impl FakeBroker {
    pub(crate) fn start() -> Self {
        Self::bind("tcp://127.0.0.1:*")
    }

    /// Binds again where a broker was stopped. A context of its own ends with the socket.
    pub(crate) fn bind(endpoint: &str) -> Self {
        Self::bind_with(endpoint, |_| Ok(()))
    }

    /// A broker whose socket takes little that it is not asked for.
    pub(crate) fn start_slow() -> Self {
        Self::bind_with("tcp://127.0.0.1:*", |router| router.set_rcvhwm(1))
    }

    fn bind_with(endpoint: &str, set: impl FnOnce(&zmq::Socket) -> Result<(), zmq::Error>) -> Self {
        let router = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        set(&router).unwrap();
        router.set_linger(0).unwrap();
        router.set_router_mandatory(true).unwrap();
        router.bind(endpoint).unwrap();
        let endpoint = router.get_last_endpoint().unwrap().unwrap();
        Self { router, endpoint }
    }

    /// Closes the socket with all connections and returns the endpoint, which is free then.
    pub(crate) fn stop(self) -> String {
        self.endpoint
    }

    /// The next message, which must come.
    pub(crate) fn recv(&self) -> (Peer, Vec<Vec<u8>>) {
        self.recv_within(DEADLINE).expect("a message before the deadline")
    }

    /// The next message, if it comes in this time.
    pub(crate) fn recv_within(&self, time: Duration) -> Option<(Peer, Vec<Vec<u8>>)> {
        let ready = self.router.poll(zmq::POLLIN, i64::try_from(time.as_millis()).unwrap());
        if ready.unwrap() == 0 {
            return None;
        }
        let mut frames = self.router.recv_multipart(0).unwrap();
        let peer = frames.remove(0);
        Some((peer, frames))
    }

    /// Every message that comes in this time.
    pub(crate) fn recv_all(&self, time: Duration) -> Vec<(Peer, Vec<Vec<u8>>)> {
        let end = Instant::now() + time;
        let left = || end.saturating_duration_since(Instant::now());
        std::iter::from_fn(|| self.recv_within(left())).collect()
    }

    /// The next message that is not this one.
    pub(crate) fn recv_other_than(&self, skipped: &[Vec<u8>]) -> (Peer, Vec<Vec<u8>>) {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            let (peer, frames) = self.recv();
            if frames != skipped {
                return (peer, frames);
            }
        }
        panic!("nothing but {skipped:?}");
    }

    /// The next message of this peer that is equal to this one; others are passed over.
    pub(crate) fn expect(&self, wanted: &[Vec<u8>]) -> Peer {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            let (peer, frames) = self.recv();
            if frames == wanted {
                return peer;
            }
        }
        panic!("{wanted:?} did not come");
    }

    pub(crate) fn send(&self, peer: &Peer, frames: Vec<Vec<u8>>) {
        self.try_send(peer, frames).unwrap();
    }

    /// Fails when the peer is gone.
    pub(crate) fn try_send(&self, peer: &Peer, frames: Vec<Vec<u8>>) -> Result<(), zmq::Error> {
        self.router.send_multipart(std::iter::once(peer.clone()).chain(frames), 0)
    }
}

/// Waits until one of these brokers gets the READY of a worker, which begins at any of them. That
/// broker, the connection, and the others.
pub(crate) fn first_of(
    mut brokers: Vec<FakeBroker>,
    version: Version,
) -> (FakeBroker, Peer, Vec<FakeBroker>) {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        for place in 0..brokers.len() {
            let received = brokers[place].recv_within(Duration::from_millis(2));
            if let Some((peer, frames)) = received {
                assert_eq!(frames, ready(version));
                return (brokers.remove(place), peer, brokers);
            }
        }
    }
    panic!("no broker got a READY");
}

/// The endpoints of some brokers.
pub(crate) fn endpoints(brokers: &[FakeBroker]) -> Vec<&str> {
    brokers.iter().map(|broker| broker.endpoint.as_str()).collect()
}

/// Two endpoints where nobody listens: ports below the range that systems hand out.
pub(crate) const REFUSED: [&str; 2] = ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"];

/// An endpoint where nobody listens yet.
pub(crate) fn free_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp://{}", listener.local_addr().unwrap())
}

/// An endpoint that takes connections and then says nothing, like a stopped process.
pub(crate) fn frozen_endpoint() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, endpoint)
}

/// Client options with short times, and without questions that a scripted broker would have to
/// answer.
pub(crate) fn client_options(version: Version, endpoints: &[&str]) -> ClientOptions {
    ClientOptions::default()
        .endpoints(endpoints.iter().copied())
        .version(version)
        .timeout(Duration::from_secs(5))
        .reconnect_min(Duration::from_millis(20))
        .reconnect_max(Duration::from_millis(20))
        .endpoints_refresh(Duration::ZERO)
}

/// A call in a thread.
pub(crate) fn call_in_thread(
    options: ClientOptions,
    service: &'static str,
    body: &'static str,
) -> JoinHandle<Result<Reply, CallError>> {
    thread::spawn(move || Client::connect(options).unwrap().call(service, body))
}

/// A worker in a thread; stopped when dropped.
pub(crate) struct TestWorker {
    pub(crate) stop: StopHandle,
    thread: Option<JoinHandle<WorkerCounters>>,
}

impl TestWorker {
    pub(crate) fn start<H>(options: WorkerOptions, handler: H) -> Self
    where
        H: Fn(Request) -> Vec<Vec<u8>> + Send + Sync + 'static,
    {
        let stop = StopHandle::new();
        let handle = stop.clone();
        let thread = thread::spawn(move || Worker::run(options, handler, &handle).unwrap());
        Self { stop, thread: Some(thread) }
    }

    pub(crate) fn echo(version: Version, endpoints: &[&str]) -> Self {
        Self::start(worker_options(version, endpoints), |request| request.frames)
    }

    /// Waits until the worker has left by itself.
    pub(crate) fn join(mut self) -> WorkerCounters {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        self.stop.stop_now();
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}

/// Worker options for a broker that may be silent for [`SILENCE_MAX`].
pub(crate) fn impatient_options(version: Version, endpoints: &[&str]) -> WorkerOptions {
    worker_options(version, endpoints).heartbeat_liveness(6)
}

/// Worker options with short times, for a broker that may be silent and is asked nothing.
pub(crate) fn worker_options(version: Version, endpoints: &[&str]) -> WorkerOptions {
    WorkerOptions::default()
        .endpoints(endpoints.iter().copied())
        .service(b"echo".to_vec())
        .endpoints_refresh(Duration::ZERO)
        .version(version)
        .heartbeat_interval(INTERVAL)
        .heartbeat_liveness(100)
        .reconnect_min(Duration::from_millis(20))
        .reconnect_max(Duration::from_millis(100))
}

/// A handler that works until it is told to end, and says when it begins.
pub(crate) struct Gate {
    pub(crate) began: mpsc::Receiver<()>,
    pub(crate) end: mpsc::Sender<()>,
}

impl Gate {
    /// The gate, and a handler that gives the body back when it is opened.
    pub(crate) fn new() -> (Self, impl Fn(Request) -> Vec<Vec<u8>> + Send + Sync + 'static) {
        let (begin, began) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let (begin, ended) = (std::sync::Mutex::new(begin), std::sync::Mutex::new(ended));
        let handler = move |request: Request| {
            // A test that is over has dropped its ends.
            begin.lock().unwrap().send(()).ok();
            ended.lock().unwrap().recv().ok();
            request.frames
        };
        (Self { began, end }, handler)
    }

    pub(crate) fn wait_until_begun(&self) {
        self.began.recv_timeout(DEADLINE).unwrap();
    }
}

pub(crate) fn heartbeat(version: Version) -> Vec<Vec<u8>> {
    match version {
        Version::V01 => frames![b"", b"MDPW01", b"\x04"],
        Version::V02 => frames![b"MDPW02", b"\x05"],
    }
}

pub(crate) fn disconnect(version: Version) -> Vec<Vec<u8>> {
    match version {
        Version::V01 => frames![b"", b"MDPW01", b"\x05"],
        Version::V02 => frames![b"MDPW02", b"\x06"],
    }
}

pub(crate) fn ready(version: Version) -> Vec<Vec<u8>> {
    match version {
        Version::V01 => frames![b"", b"MDPW01", b"\x01", b"echo"],
        Version::V02 => frames![b"MDPW02", b"\x01", b"echo"],
    }
}

/// A request as the broker gives it to a worker.
pub(crate) fn request(version: Version, client: &str, body: &str) -> Vec<Vec<u8>> {
    match version {
        Version::V01 => frames![b"", b"MDPW01", b"\x02", client, b"", body],
        Version::V02 => frames![b"MDPW02", b"\x02", client, b"", body],
    }
}

/// The reply or final reply of a worker.
pub(crate) fn answer(version: Version, client: &str, body: &str) -> Vec<Vec<u8>> {
    match version {
        Version::V01 => frames![b"", b"MDPW01", b"\x03", client, b"", body],
        Version::V02 => frames![b"MDPW02", b"\x04", client, b"", body],
    }
}

pub(crate) const VERSIONS: [Version; 2] = [Version::V01, Version::V02];
