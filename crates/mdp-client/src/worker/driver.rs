//! The worker's shell: one thread runs the effects of all its state machines on sockets.

use std::{
    collections::VecDeque,
    io, mem,
    sync::Arc,
    time::{Duration, Instant},
};

use zmq::PollItem;

use crate::{
    ConnectFailure, ServiceName, StopHandle, WorkerCounters, WorkerError, WorkerObserver,
    WorkerOptions,
    backoff::Backoff,
    bell::{self, Bell, BellListener},
    dialer::{DialEvent, Dialed, Dialer},
    endpoint,
    keys::LinkKeys,
    options::WORKER_CONCURRENCY_MAX,
    socket::{self, Link, LinkEvent, LinkSettings, Room, Sent},
    warnings::{Complaint, Warnings},
    worker::{
        core::{CoreSettings, Farewell, WorkerCore, WorkerEffect, WorkerInput},
        executor::{Executor, JOB_EVENTS_MAX, JobEvent, Offer},
        parting::Partings,
        stop::Stop,
    },
};

/// Messages read from one connection before the others, and the timers, get their turn.
const MESSAGES_PER_TURN_MAX: usize = 64;

/// Messages in libzmq's queue that wait for the network. A reply may be large, so few.
const OUTGOING_MESSAGES_MAX: i32 = 32;

/// Messages that wait for room in libzmq's queue. While one waits, nothing is taken from the
/// handler, so only heartbeats add to them; more than this many mean that nothing moves.
const UNSENT_MESSAGES_MAX: usize = 64;

/// All connections of one worker.
pub(crate) struct Driver<E> {
    slots: Vec<Slot<E>>,
    bell: BellListener,
    warnings: Warnings,
    observer: WorkerObserver,
    /// What the observer was told last, of each connection.
    shown: Vec<Option<Instant>>,
}

/// One connection: state machine, socket, handler.
struct Slot<E> {
    core: WorkerCore,
    executor: E,
    dialer: Dialer,
    linger: Duration,
    link: Option<Link>,
    /// Links that were left and are not closed yet.
    partings: Partings,
    /// Where the connection goes that is open or waits for a name.
    endpoint: String,
    /// The name of `endpoint` is being resolved until then.
    resolving_until: Option<Instant>,
    /// The link was established once, so its end needs no explanation.
    was_up: bool,
    /// What has to be said in the log, if it was not said a short time ago.
    complaints: Vec<Complaint>,
    unsent: VecDeque<Vec<Vec<u8>>>,
    is_finished: bool,
}

/// What of a link is ready.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    /// A name was resolved, or a failed connection examined.
    has_dialed: bool,
    has_messages: bool,
    has_events: bool,
}

/// Runs a worker on the calling thread until it is stopped. `make_executor` is called once per
/// connection.
pub(crate) fn run<E: Executor>(
    options: WorkerOptions,
    stop: &StopHandle,
    make_executor: impl FnMut(&Offer, &Arc<Bell>) -> io::Result<E>,
) -> Result<WorkerCounters, WorkerError> {
    let (bell, listener) = bell::bell().map_err(WorkerError::Thread)?;
    let bell = Arc::new(bell);
    let mut driver = Driver::new(options, &bell, listener, make_executor)?;
    stop.listen(&bell);
    driver.run(stop)?;
    let counters = driver.counters();
    for slot in driver.slots {
        // The link first: a handler that is not waited for must not keep it.
        drop(slot.link);
        match stop.asked() {
            Stop::Now => {}
            Stop::No | Stop::AfterReply => slot.executor.join(),
        }
    }
    Ok(counters)
}

impl<E: Executor> Driver<E> {
    fn new(
        options: WorkerOptions,
        bell: &Arc<Bell>,
        listener: BellListener,
        mut make_executor: impl FnMut(&Offer, &Arc<Bell>) -> io::Result<E>,
    ) -> Result<Self, WorkerError> {
        let keys = LinkKeys::of(options.key.clone(), options.server_key)?;
        let settings = check(&options, keys.as_ref())?;
        let links = LinkSettings {
            context: socket::context_or_new(options.context.clone()),
            connect_timeout: options.connect_timeout,
            tcp_keepalive: None,
            outgoing_messages_max: OUTGOING_MESSAGES_MAX,
            frame_bytes_max: options.request_bytes_max,
            keys,
        };
        let offer = Offer { service: settings.service.clone(), version: settings.version };
        let mut slots = Vec::with_capacity(options.concurrency);
        for _ in 0..options.concurrency {
            let (min, max) = (options.reconnect_min, options.reconnect_max);
            let backoff = Backoff::new(min, max, fastrand::u64(..));
            let rng = fastrand::Rng::with_seed(fastrand::u64(..));
            slots.push(Slot {
                core: WorkerCore::new(Instant::now(), settings.clone(), backoff, rng),
                executor: make_executor(&offer, bell).map_err(WorkerError::Thread)?,
                dialer: Dialer::new(links.clone()).map_err(WorkerError::Thread)?,
                linger: options.linger,
                link: None,
                partings: Partings::new(options.linger),
                endpoint: String::new(),
                resolving_until: None,
                was_up: false,
                complaints: Vec::new(),
                unsent: VecDeque::new(),
                is_finished: false,
            });
        }
        let observer = options.observer.unwrap_or_default();
        observer.begin(slots.len());
        let shown = vec![None; slots.len()];
        Ok(Self { slots, bell: listener, warnings: Warnings::default(), observer, shown })
    }

    fn run(&mut self, stop: &StopHandle) -> Result<(), WorkerError> {
        let mut obeyed = Stop::No;
        for slot in &mut self.slots {
            slot.run_effects();
        }
        loop {
            let asked = stop.asked();
            if asked != obeyed {
                obeyed = asked;
                self.slots.iter_mut().for_each(|slot| slot.stop(asked));
            }
            self.show_registrations();
            if self.slots.iter().all(|slot| slot.is_finished && slot.partings.is_empty()) {
                return Ok(());
            }
            let ready = self.wait()?;
            for (slot, ready) in self.slots.iter_mut().zip(ready) {
                slot.turn(ready);
                let now = Instant::now();
                for complaint in slot.complaints.drain(..) {
                    self.warnings.warn(now, &complaint);
                }
            }
        }
    }

    /// Lets the observer see what has changed.
    fn show_registrations(&mut self) {
        let places = self.slots.iter().zip(&mut self.shown).enumerate();
        for (connection, (slot, shown)) in places {
            let registration = slot.core.registration();
            let since = registration.as_ref().map(|registration| registration.since);
            if *shown != since {
                *shown = since;
                self.observer.set(connection, registration);
            }
        }
    }

    /// Waits for messages, events, handlers, the stop handle or a timer.
    fn wait(&self) -> Result<Vec<Ready>, zmq::Error> {
        let mut items = vec![self.bell.poll_ring()];
        for slot in &self.slots {
            items.push(slot.dialer.poll_wake());
            items.extend(slot.poll_link().into_iter().flatten());
        }
        // Behind those that are looked at below: these get a turn whatever is ready.
        items.extend(self.slots.iter().flat_map(|slot| slot.partings.poll_items()));
        let until = self.slots.iter().filter_map(|slot| slot.poll_timeout()).min();
        socket::wait(&mut items, until)?;
        // Before handlers and stop handle are looked at: a later ring is for the next wait.
        self.bell.silence();
        let mut items = items.iter().skip(1);
        let mut is_next_readable = || items.next().is_some_and(PollItem::is_readable);
        let ready = self.slots.iter().map(|slot| Ready {
            has_dialed: is_next_readable(),
            has_messages: slot.link.is_some() && is_next_readable(),
            has_events: slot.link.is_some() && is_next_readable(),
        });
        Ok(ready.collect())
    }

    fn counters(&self) -> WorkerCounters {
        let counters = self.slots.iter().map(|slot| slot.core.counters());
        counters.fold(WorkerCounters::default(), WorkerCounters::plus)
    }
}

impl<E: Executor> Slot<E> {
    fn turn(&mut self, ready: Ready) {
        if ready.has_dialed {
            self.read_dialer();
        }
        if self.resolving_until.is_some_and(|until| until <= Instant::now()) {
            self.fail(ConnectFailure::NameUnanswered);
            self.run_effects();
        }
        if ready.has_messages {
            self.read_messages();
        }
        if ready.has_events {
            self.read_events();
        }
        self.send_unsent();
        self.partings.turn(Instant::now());
        self.read_handler();
        // After reading: a broker is not silent because this thread was.
        self.core.handle_timeout(Instant::now());
        self.run_effects();
    }

    fn stop(&mut self, asked: Stop) {
        match asked {
            Stop::No => {}
            Stop::AfterReply => self.handle(WorkerInput::Leave),
            Stop::Now => self.handle(WorkerInput::LeaveNow),
        }
    }

    fn handle(&mut self, input: WorkerInput) {
        self.core.handle_input(Instant::now(), input);
        self.run_effects();
    }

    fn read_messages(&mut self) {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            // Looked at anew each time: a message may have replaced the link.
            let Some(link) = &self.link else { return };
            match link.recv() {
                Ok(Some(frames)) => self.handle(WorkerInput::Received { frames }),
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "receiving failed");
                    return self.handle(WorkerInput::ConnectionLost);
                }
            }
        }
    }

    fn read_events(&mut self) {
        let Some(link) = &self.link else { return };
        let event = link.recv_event().unwrap_or(Some(LinkEvent::Down));
        match event {
            None => {}
            Some(LinkEvent::Up) => self.was_up = true,
            Some(LinkEvent::Down) => {
                if !self.was_up
                    && let Some(failure) = self.dialer.examine(&self.endpoint, link)
                {
                    let endpoint = self.endpoint.clone();
                    self.handle(WorkerInput::Examined { endpoint, failure });
                }
                // A DISCONNECT that came before the end of the connection still counts.
                self.read_messages();
                self.handle(WorkerInput::ConnectionLost);
            }
        }
    }

    /// Takes what the handler made, unless the connection is full: then the handler waits.
    fn read_handler(&mut self) {
        for _ in 0..JOB_EVENTS_MAX {
            if !self.unsent.is_empty() {
                return;
            }
            let Some(event) = self.executor.poll_event() else { return };
            self.handle(match event {
                JobEvent::Partial { job, body } => WorkerInput::Partial { job, body },
                JobEvent::Final { job, body } => WorkerInput::Final { job, body },
                JobEvent::Panicked { job } => WorkerInput::Panicked { job },
                JobEvent::Failed { job, reason } => WorkerInput::Failed { job, reason },
            });
        }
    }

    fn run_effects(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                WorkerEffect::Open { endpoint } => self.run_open(&endpoint),
                WorkerEffect::Send { frames } => {
                    self.unsent.push_back(frames);
                    self.send_unsent();
                }
                WorkerEffect::Close { farewell } => self.run_close(farewell),
                WorkerEffect::Run { job, body } => self.executor.start(job, body),
                WorkerEffect::Complain { complaint } => self.complaints.push(complaint),
                WorkerEffect::Finished => self.is_finished = true,
            }
        }
    }

    fn run_open(&mut self, endpoint: &str) {
        tracing::debug!(endpoint, "connecting");
        endpoint.clone_into(&mut self.endpoint);
        let dialed = self.dialer.dial(endpoint);
        self.on_dialed(dialed);
    }

    fn on_dialed(&mut self, dialed: Dialed) {
        (self.link, self.was_up, self.resolving_until) = (None, false, None);
        match dialed {
            Dialed::Link(link) => {
                self.link = Some(link);
                self.send_unsent();
            }
            Dialed::Resolving => {
                self.resolving_until = Some(Instant::now() + self.dialer.connect_timeout());
            }
            Dialed::Failed(failure) => self.fail(failure),
        }
    }

    /// The connection cannot be made.
    fn fail(&mut self, failure: ConnectFailure) {
        self.resolving_until = None;
        let endpoint = self.endpoint.clone();
        let now = Instant::now();
        self.core.handle_input(now, WorkerInput::Examined { endpoint, failure });
        self.core.handle_input(now, WorkerInput::ConnectionLost);
    }

    /// Takes what name servers said and examinations found.
    fn read_dialer(&mut self) {
        while let Some(event) = self.dialer.poll_event() {
            match event {
                DialEvent::Resolved { endpoint, result } => {
                    if self.resolving_until.is_none() || endpoint != self.endpoint {
                        continue;
                    }
                    let dialed = match result {
                        Ok(addresses) => self.dialer.dial_resolved(&endpoint, &addresses),
                        Err(failure) => Dialed::Failed(failure),
                    };
                    self.on_dialed(dialed);
                }
                DialEvent::Examined { endpoint, failure } => {
                    let input = WorkerInput::Examined { endpoint, failure };
                    self.core.handle_input(Instant::now(), input);
                }
            }
            self.run_effects();
        }
    }

    fn run_close(&mut self, farewell: Farewell) {
        match farewell {
            Farewell::Silent => {
                self.unsent.clear();
                self.resolving_until = None;
                drop(self.link.take());
            }
            // The next link may be opened before this one has taken everything.
            Farewell::Flushed => {
                self.resolving_until = None;
                let unsent = mem::take(&mut self.unsent);
                match self.link.take() {
                    Some(link) if unsent.is_empty() => link.close(self.linger),
                    Some(link) => self.partings.part(Instant::now(), link, unsent),
                    None => {}
                }
            }
        }
    }

    fn send_unsent(&mut self) {
        if self.resolving_until.is_some() {
            return self.bound_unsent();
        }
        while let Some(frames) = self.unsent.pop_front() {
            let Some(link) = &self.link else { return self.unsent.clear() };
            match link.send(frames) {
                Ok(Sent::Yes) => {}
                Ok(Sent::Full(frames)) => {
                    self.unsent.push_front(frames);
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "sending failed");
                    return self.core.handle_input(Instant::now(), WorkerInput::ConnectionLost);
                }
            }
        }
        self.bound_unsent();
    }

    fn bound_unsent(&mut self) {
        if self.unsent.len() > UNSENT_MESSAGES_MAX {
            self.unsent.clear();
            self.core.handle_input(Instant::now(), WorkerInput::ConnectionLost);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let own = [self.partings.poll_timeout(), self.resolving_until];
        own.into_iter().chain([self.core.poll_timeout()]).flatten().min()
    }

    fn poll_link(&self) -> Option<[PollItem<'_>; 2]> {
        let room = if self.unsent.is_empty() { Room::NotNeeded } else { Room::Needed };
        self.link.as_ref().map(|link| [link.poll_message(room), link.poll_event()])
    }
}

/// Checks the options and completes them.
fn check(options: &WorkerOptions, keys: Option<&LinkKeys>) -> Result<CoreSettings, WorkerError> {
    let service = ServiceName::try_from(options.service.as_slice())?;
    if service.is_reserved() {
        return Err(WorkerError::ReservedService { service });
    }
    if options.concurrency == 0 || options.concurrency > WORKER_CONCURRENCY_MAX {
        let (got, max) = (options.concurrency, WORKER_CONCURRENCY_MAX);
        return Err(WorkerError::ConcurrencyOutOfRange { got, max });
    }
    if options.heartbeat_interval.is_zero() || options.heartbeat_liveness == 0 {
        return Err(WorkerError::NoHeartbeat);
    }
    Ok(CoreSettings {
        endpoints: endpoint::parse_all(&options.endpoints)?,
        service,
        version: options.version,
        heartbeat_interval: options.heartbeat_interval,
        heartbeat_liveness: options.heartbeat_liveness,
        endpoints_refresh: options.endpoints_refresh,
        rebalances: options.rebalances,
        handshake_min: match keys {
            None => Duration::ZERO,
            Some(_) => socket::handshake_timeout(options.connect_timeout, keys),
        },
    })
}
