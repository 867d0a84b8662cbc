//! One run: register, warm up, measure, drain.

use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    BenchError, BenchOptions, BenchReport,
    clients::{Clients, Next},
    peers::{PeerKind, Peers, mdp::MdpPeers, nats::NatsPeers},
    process::{self, ProcessTime},
    reach::Reach,
    report::{BrokerReport, LatencyRecorder, to_f64},
    sockets::{libzmq::LibzmqSockets, raw::RawSockets},
    workers::{Shared, Workers},
};

/// How often progress is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How often requests are looked through for those without a reply in time.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// The first requests, one for each service, must be answered within this time: the workers
/// connect and register meanwhile.
const SERVING_DEADLINE: Duration = Duration::from_secs(15);

/// What a run does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Workers register; one request for each service.
    Registering,
    /// Load that does not count.
    WarmingUp,
    /// Load that counts.
    Measuring,
    /// The last replies are awaited.
    Draining,
}

/// Reported several times a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// What the run does.
    pub phase: Phase,
    /// For how long it has done that.
    pub elapsed: Duration,
    /// Requests answered since the last report, per second.
    pub requests_per_second: f64,
    /// Half of the requests since the warm-up, or of this phase so far, were faster, in
    /// microseconds.
    pub p50_us: f64,
    /// Requests without a reply in time so far.
    pub timeouts: u64,
}

/// Loads a broker and measures it. Clients run on the calling thread, workers on another.
///
/// # Errors
/// The options make no sense, the broker does not serve, or the system does not play along.
pub fn run(
    options: &BenchOptions,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<BenchReport, BenchError> {
    run_until(options, &|| false, on_progress)
}

/// As [`run`], but the measurement also ends as soon as `is_over` says so.
pub(crate) fn run_until(
    options: &BenchOptions,
    is_over: &dyn Fn() -> bool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<BenchReport, BenchError> {
    match options.peers {
        PeerKind::Raw => run_with::<MdpPeers<RawSockets>>(options, is_over, on_progress),
        PeerKind::Libzmq => run_with::<MdpPeers<LibzmqSockets>>(options, is_over, on_progress),
        PeerKind::Nats => run_with::<NatsPeers>(options, is_over, on_progress),
    }
}

fn run_with<P: Peers>(
    options: &BenchOptions,
    is_over: &dyn Fn() -> bool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<BenchReport, BenchError> {
    options.check()?;
    raise_file_limit(options)?;
    let reach = Reach::start(&options.endpoint)?;
    let latencies = LatencyRecorder::new().ok_or(BenchError::WindowTooLarge)?;
    let rss_before_bytes = each_process(options, resident_bytes)?;
    let services = service_names(&options.service, options.services);
    let workers = WorkersThread::start(options, &services)?;
    let clients = Clients::<P>::connect(options, services, latencies)?;
    let reporter = Reporter::new();
    let run = Run { options, is_over, clients, workers, on_progress, reporter, reach, lost: None };
    run.measure(&rss_before_bytes)
}

/// The name, numbered if there are several.
fn service_names(name: &str, count: usize) -> Vec<Vec<u8>> {
    match count {
        1 => vec![name.as_bytes().to_vec()],
        _ => (0..count).map(|index| format!("{name}-{index}").into_bytes()).collect(),
    }
}

/// Looks at the broker's process and those of other nodes, in the order of the options.
fn each_process<T>(
    options: &BenchOptions,
    look: fn(u32) -> Result<T, BenchError>,
) -> Result<Vec<T>, BenchError> {
    options.pids().into_iter().map(look).collect()
}

fn resident_bytes(pid: u32) -> Result<u64, BenchError> {
    process::resident_bytes(pid).map_err(|error| BenchError::Process { pid, error })
}

fn process_time(pid: u32) -> Result<ProcessTime, BenchError> {
    ProcessTime::read(pid).map_err(|error| BenchError::Process { pid, error })
}

/// Each connection has a descriptor, and a socket of libzmq has one more. A broker that is started by this
/// process inherits the limit.
pub(crate) fn raise_file_limit(options: &BenchOptions) -> Result<(), BenchError> {
    let sockets = u64::try_from(options.workers + options.clients).unwrap_or(u64::MAX);
    let each = match options.peers {
        PeerKind::Raw | PeerKind::Nats => 1,
        PeerKind::Libzmq => 2,
    };
    require_files(sockets.saturating_mul(each).saturating_add(128))
}

/// Raises the limit on open files of this process and of those it starts.
///
/// # Errors
/// The system's own limit is lower.
pub(crate) fn require_files(needed: u64) -> Result<(), BenchError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised)
        .map_err(|_error| BenchError::FileLimit { needed, limit: limit.maximum.unwrap_or(0) })
}

/// The workers' thread; it ends with this handle.
pub(crate) struct WorkersThread {
    shared: Shared,
    thread: Option<JoinHandle<Result<usize, BenchError>>>,
}

impl WorkersThread {
    pub(crate) fn start(options: &BenchOptions, services: &[Vec<u8>]) -> Result<Self, BenchError> {
        let shared = Shared::default();
        let thread = match options.peers {
            PeerKind::Raw => spawn::<MdpPeers<RawSockets>>(options, services, &shared)?,
            PeerKind::Libzmq => spawn::<MdpPeers<LibzmqSockets>>(options, services, &shared)?,
            PeerKind::Nats => spawn::<NatsPeers>(options, services, &shared)?,
        };
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How many workers were sent away.
    pub(crate) fn disconnected(&self) -> u64 {
        self.shared.disconnected()
    }

    /// How many workers the broker has answered.
    pub(crate) fn registered(&self) -> u64 {
        self.shared.registered()
    }

    /// Whether the broker has answered so many.
    pub(crate) fn are_all_registered(&self, workers: usize) -> bool {
        usize::try_from(self.registered()).is_ok_and(|registered| registered >= workers)
    }

    /// Whether the thread has ended before it was told to.
    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Why the thread has ended, if it has before it was told to.
    pub(crate) fn failure(&mut self) -> Option<BenchError> {
        self.has_ended().then(|| self.stop().err().unwrap_or(BenchError::WorkersGone))
    }

    fn stop(&mut self) -> Result<usize, BenchError> {
        self.shared.stop();
        let thread = self.thread.take().ok_or(BenchError::WorkersGone)?;
        thread.join().map_err(|_panic| BenchError::WorkersGone)?
    }
}

/// Connects and registers workers, and lets them work on a thread of their own.
fn spawn<P: Peers>(
    options: &BenchOptions,
    services: &[Vec<u8>],
    shared: &Shared,
) -> Result<JoinHandle<Result<usize, BenchError>>, BenchError> {
    let workers = Workers::<P>::connect(options, services, shared.clone())?;
    let builder = thread::Builder::new().name(String::from("bench-workers"));
    builder.spawn(move || workers.run()).map_err(BenchError::Poll)
}

impl Drop for WorkersThread {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            // The run has failed for another reason, which is the one to report.
            drop(thread.join());
        }
    }
}

struct Run<'a, P: Peers> {
    options: &'a BenchOptions,
    /// Whether the measurement ends before its time.
    is_over: &'a dyn Fn() -> bool,
    clients: Clients<P>,
    workers: WorkersThread,
    on_progress: &'a mut dyn FnMut(Progress),
    reporter: Reporter,
    reach: Reach,
    /// Why the broker is gone.
    lost: Option<String>,
}

impl<P: Peers> Run<'_, P> {
    fn measure(mut self, rss_before_bytes: &[u64]) -> Result<BenchReport, BenchError> {
        self.register()?;
        let mut report = BenchReport::empty(self.options);
        self.clients.fill(self.options.window)?;
        self.warm_up()?;

        let own_pid = std::process::id();
        let own_before = process_time(own_pid)?;
        let before = each_process(self.options, process_time)?;
        let replies_before = self.clients.counts().replies;
        let began_at = Instant::now();
        self.clients.clear_latencies();
        let deadline = began_at + self.options.duration;
        self.turn_until(Phase::Measuring, Next::Request, |run, now| {
            now >= deadline || (run.is_over)()
        })?;
        report.ended_early.clone_from(&self.lost);
        let ended_at =
            if self.lost.is_some() { self.reach.last_reply_at() } else { Instant::now() };
        let duration = ended_at.saturating_duration_since(began_at);
        let own_spent = process_time(own_pid)?.since(&own_before);

        report.requests = self.clients.counts().replies - replies_before;
        if report.requests == 0 {
            return Err(self.nothing_measured(duration));
        }
        report.duration_seconds = duration.as_secs_f64();
        report.requests_per_second = to_f64(report.requests) / report.duration_seconds;
        report.latency = self.clients.latencies().latency();
        report.generator_cpu_us_per_request =
            BrokerReport::new(&own_spent, report.requests, 0, 0).cpu_us_per_request;
        // What a process spent that has ended is not known.
        if self.lost.is_none() {
            self.report_processes(&mut report, &before, rss_before_bytes)?;
        }
        self.drain(&mut report)?;
        Ok(report)
    }

    fn nothing_measured(&self, duration: Duration) -> BenchError {
        match &self.lost {
            Some(reason) => BenchError::Unreachable {
                endpoint: self.options.endpoint.clone(),
                reason: reason.clone(),
            },
            None => BenchError::NothingMeasured { duration },
        }
    }

    fn report_processes(
        &self,
        report: &mut BenchReport,
        before: &[ProcessTime],
        rss_before_bytes: &[u64],
    ) -> Result<(), BenchError> {
        let after = each_process(self.options, process_time)?;
        let rss_after_bytes = each_process(self.options, resident_bytes)?;
        let spent = after.iter().zip(before).map(|(after, before)| after.since(before));
        let rss = rss_before_bytes.iter().zip(rss_after_bytes);
        let mut processes = spent.zip(rss).map(|(spent, (&before, after))| {
            BrokerReport::new(&spent, report.requests, before, after)
        });
        report.broker = self.options.pid.and_then(|_| processes.next());
        report.peers = processes.collect();
        Ok(())
    }

    /// Asks every service once: brokers keep requests until a worker registers.
    fn register(&mut self) -> Result<(), BenchError> {
        let services = self.options.services;
        self.clients.fill(services)?;
        let deadline = Instant::now() + SERVING_DEADLINE;
        self.turn_until(Phase::Registering, Next::Nothing, |run, now| {
            run.clients.outstanding() == 0 || now >= deadline || run.workers.has_ended()
        })?;
        let missing = self.clients.outstanding();
        if missing == 0 {
            return Ok(());
        }
        if self.lost.is_some() {
            return Err(self.nothing_measured(SERVING_DEADLINE));
        }
        // The thread's own error says more.
        if let Some(error) = self.workers.failure() {
            return Err(error);
        }
        Err(BenchError::NotServing {
            endpoint: self.options.endpoint.clone(),
            answered: services - missing,
            services,
            waited: SERVING_DEADLINE,
            disconnected: self.workers.disconnected(),
        })
    }

    /// At least for the time that was asked for and for one whole window, but not for ever.
    fn warm_up(&mut self) -> Result<(), BenchError> {
        let began_at = Instant::now();
        let earliest = began_at + self.options.warmup;
        let latest = earliest + self.options.request_timeout;
        let window = u64::try_from(self.options.window).unwrap_or(u64::MAX);
        let enough = self.clients.counts().replies.saturating_add(window);
        self.turn_until(Phase::WarmingUp, Next::Request, |run, now| {
            let is_full = run.clients.counts().replies >= enough;
            (now >= earliest && is_full) || now >= latest
        })
    }

    fn drain(mut self, report: &mut BenchReport) -> Result<(), BenchError> {
        let deadline = Instant::now() + self.options.request_timeout;
        self.turn_until(Phase::Draining, Next::Nothing, |run, now| {
            run.clients.outstanding() == 0 || now >= deadline || run.workers.has_ended()
        })?;
        self.clients.give_up();
        let counts = self.clients.counts();
        report.timeouts = counts.timeouts;
        report.unexpected_replies = counts.unexpected;
        report.workers_disconnected = self.workers.disconnected();
        report.workers_used = self.workers.stop()?;
        if report.ended_early.is_none() {
            report.ended_early = self.lost;
        }
        Ok(())
    }

    /// Takes replies until `is_done` or the broker is lost, looking after time-outs and progress meanwhile.
    fn turn_until(
        &mut self,
        phase: Phase,
        next: Next,
        is_done: impl Fn(&Self, Instant) -> bool,
    ) -> Result<(), BenchError> {
        let began_at = Instant::now();
        let mut expire_at = began_at + EXPIRY_INTERVAL;
        loop {
            let now = Instant::now();
            if self.lost.is_none() {
                let (replies, is_cut) = (self.clients.counts().replies, self.clients.is_cut());
                self.lost = self.reach.look(now, replies, is_cut);
            }
            if self.lost.is_some() || is_done(self, now) {
                return Ok(());
            }
            if now >= expire_at {
                self.clients.expire(self.options.request_timeout, next)?;
                expire_at = now + EXPIRY_INTERVAL;
            }
            if let Some(requests_per_second) = self.reporter.due(now, self.clients.counts().replies)
            {
                (self.on_progress)(Progress {
                    phase,
                    elapsed: now.saturating_duration_since(began_at),
                    requests_per_second,
                    p50_us: self.clients.latencies().latency().p50_us,
                    timeouts: self.clients.counts().timeouts,
                });
            }
            self.clients.turn(Duration::from_millis(10), next)?;
        }
    }
}

/// When to report progress, and the pace since the last time.
struct Reporter {
    last_at: Instant,
    last_replies: u64,
}

impl Reporter {
    fn new() -> Self {
        Self { last_at: Instant::now(), last_replies: 0 }
    }

    /// Replies per second since the last report, when the next one is due.
    fn due(&mut self, now: Instant, replies: u64) -> Option<f64> {
        let elapsed = now.saturating_duration_since(self.last_at);
        if elapsed < PROGRESS_INTERVAL {
            return None;
        }
        let pace = to_f64(replies.saturating_sub(self.last_replies)) / elapsed.as_secs_f64();
        (self.last_at, self.last_replies) = (now, replies);
        Some(pace)
    }
}

#[cfg(test)]
mod tests;
