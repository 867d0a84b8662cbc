//! The thread that owns the front-end socket, the links and the engine: the only place that sleeps.

mod relay;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mdp_broker::{Broker, DropReason, Effect, Input, Outgoing, PeerId, Receipt};
use mdp_raft::Stop;
use mdp_replica::NewsState;
use mdp_wire::{AtBroker, DecodeLimits, decode_at_broker, worker::ToBroker};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use smallvec::{SmallVec, smallvec};
use thiserror::Error;

use crate::{
    NodeReport, REPORT_SERVICES_MAX, REPORT_WAITING_MAX, REPORT_WORKERS_MAX, ReportScope,
    SocketError,
    cluster::{Cluster, View},
    inbox::{INBOX_BATCH_MAX, Inbox, Message},
    notes,
    outgoing::{OutgoingBuffers, request_token},
    relay_link::RelayLinks,
    router::{Router, SendOutcome},
    zeromq::Frame,
};

/// How many messages are read before the inbox and the timers get their turn.
const BATCH_MAX: usize = 128;
/// The clock is read once for so many messages.
const MESSAGES_PER_CLOCK: usize = 8;
/// Timers wait until the ROUTER was read empty, so that nobody expires whose sign of life is
/// waiting there; but not longer than this.
const TIMERS_STARVED_MAX: Duration = Duration::from_millis(50);
/// The longest sleep: the count of turns shows that the thread lives.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// How long the last replies may wait for slow peers after a drain.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// How often is looked whether other nodes have closed their ends.
const FLUSH_STEP_MAX: Duration = Duration::from_millis(10);

/// The broker thread cannot go on.
#[derive(Debug, Error)]
pub enum BrokerThreadError {
    /// Receiving failed.
    #[error("cannot receive from the front-end socket: {0}")]
    Receive(SocketError),
    /// Sending failed for a reason other than the peer.
    #[error("cannot send to the front-end socket: {0}")]
    Send(SocketError),
    /// A socket between nodes failed for a reason other than the node.
    #[error("cannot use the sockets that carry requests between nodes: {0}")]
    Relay(SocketError),
    /// Waiting failed.
    #[error("cannot wait for the front-end socket: {0}")]
    Wait(std::io::Error),
}

/// When and how long to drain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrainTimes {
    /// How long everything may take, from the call to the end of waiting for workers.
    pub(crate) timeout: Duration,
    /// How long to go on as before, so that a load balancer can notice.
    pub(crate) announce: Duration,
}

/// How a broker thread ended.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// It drained.
    Drained(Drained),
    /// It was told to stop.
    Stopped,
    /// The cluster said that this node can not go on.
    Cluster(Stop),
}

/// What a drain came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drained {
    /// What the engine says.
    pub(crate) receipt: Receipt,
    /// Whether another node leads because of it.
    pub(crate) leader_moved: bool,
    /// How long it took since it was asked.
    pub(crate) took: Duration,
}

/// Whether and how this node is leaving.
#[derive(Clone, Debug)]
enum Phase {
    Serving,
    /// It will drain, but does not show it yet.
    Announcing {
        asked_at: Instant,
    },
    Draining {
        asked_at: Instant,
    },
    /// The engine has nothing left to do; the cluster is told.
    Leaving {
        asked_at: Instant,
        receipt: Receipt,
    },
    Ended(Ending),
}

/// Whether a socket was read until nothing was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RouterState {
    Emptied,
    MoreWaits,
}

/// Whether the descriptors were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Polled,
    Skipped,
}

/// Everything that the broker thread owns.
#[derive(Debug)]
pub(crate) struct BrokerThread<C> {
    pub(crate) broker: Broker<Frame>,
    pub(crate) router: Router,
    /// `None`: the node is alone.
    pub(crate) relay: Option<RelayLinks>,
    pub(crate) cluster: C,
    pub(crate) inbox: Inbox,
    pub(crate) outgoing: OutgoingBuffers,
    pub(crate) limits: DecodeLimits,
    pub(crate) drain: DrainTimes,
    /// Rises with every turn: the thread lives.
    pub(crate) turns: Arc<AtomicU64>,
    pub(crate) started_at: Instant,
}

impl<C: Cluster> BrokerThread<C> {
    /// Serves until it is drained or stopped.
    pub(crate) fn run(self) -> Result<Ending, BrokerThreadError> {
        let now = Instant::now();
        let frames = Vec::with_capacity(16);
        let phase = Phase::Serving;
        let (drops, notes) = (notes::DropLog::default(), notes::NoteLog::default());
        Running { it: self, frames, now, timers_ran_at: now, phase, drops, notes }.run()
    }
}

/// A broker thread at work.
struct Running<C> {
    it: BrokerThread<C>,
    /// The frames of the message at hand; its memory is used again and again.
    frames: Vec<Frame>,
    now: Instant,
    timers_ran_at: Instant,
    phase: Phase,
    drops: notes::DropLog,
    notes: notes::NoteLog,
}

impl<C: Cluster> Running<C> {
    fn run(mut self) -> Result<Ending, BrokerThreadError> {
        loop {
            self.it.turns.fetch_add(1, Ordering::Relaxed);
            self.now = Instant::now();
            self.read_inbox()?;
            let news = self.read_news()?;
            let router = self.read_router()?;
            let relay = self.read_relay()?;
            self.retry_outgoing()?;
            self.tend_relay()?;
            self.run_timers(router)?;
            self.it.cluster.flush(self.now);
            self.end_if_left();
            if let Phase::Ended(ending) = &self.phase {
                let ending = ending.clone();
                if let Ending::Drained(_) = ending {
                    self.flush()?;
                }
                return Ok(ending);
            }
            let is_all_read = [router, relay] == [RouterState::Emptied; 2];
            let wait = if is_all_read && news == NewsState::Emptied {
                self.wait()?
            } else {
                Wait::Skipped
            };
            if wait == Wait::Skipped
                && let Some(relay) = &mut self.it.relay
            {
                relay.wake_all();
            }
        }
    }

    fn read_inbox(&mut self) -> Result<(), BrokerThreadError> {
        for _ in 0..INBOX_BATCH_MAX {
            match self.it.inbox.take() {
                None => return Ok(()),
                Some(Message::Drain) => self.handle_drain()?,
                Some(Message::Stop) => self.phase = Phase::Ended(Ending::Stopped),
                Some(Message::Report { scope, reply }) => {
                    // Whoever asked may have gone.
                    match reply.send(Box::new(self.report(scope))) {
                        Ok(()) | Err(_) => {}
                    }
                }
            }
        }
        self.it.inbox.ring_again();
        Ok(())
    }

    fn handle_drain(&mut self) -> Result<(), BrokerThreadError> {
        match self.phase {
            Phase::Serving if self.it.drain.announce.is_zero() => self.begin_drain(self.now),
            Phase::Serving => {
                self.phase = Phase::Announcing { asked_at: self.now };
                Ok(())
            }
            Phase::Announcing { .. }
            | Phase::Draining { .. }
            | Phase::Leaving { .. }
            | Phase::Ended(_) => Ok(()),
        }
    }

    fn begin_drain(&mut self, asked_at: Instant) -> Result<(), BrokerThreadError> {
        self.phase = Phase::Draining { asked_at };
        self.it.cluster.begin_drain(self.now);
        self.handle(Input::Drain { deadline: asked_at + self.it.drain.timeout })
    }

    /// What the cluster agreed on and answered, before new work.
    fn read_news(&mut self) -> Result<NewsState, BrokerThreadError> {
        let news = self.it.cluster.read_news(self.now);
        self.run_effects()?;
        if let Some(stop) = self.it.cluster.take_stop() {
            self.phase = Phase::Ended(Ending::Cluster(stop));
        }
        Ok(news)
    }

    fn report(&self, scope: ReportScope) -> NodeReport {
        let broker = &self.it.broker;
        let services = match scope {
            ReportScope::Totals => Vec::new(),
            ReportScope::Services | ReportScope::Workers => {
                // Those with waiting requests are never left out for others.
                let waiting = broker.waiting_services(REPORT_SERVICES_MAX).into_iter();
                let others = broker.services().filter(|service| service.queued == 0);
                waiting.chain(others).take(REPORT_SERVICES_MAX).collect()
            }
        };
        let workers = match scope {
            ReportScope::Totals | ReportScope::Services => Vec::new(),
            ReportScope::Workers => broker.workers().take(REPORT_WORKERS_MAX).collect(),
        };
        let waiting = broker.waiting_services(REPORT_WAITING_MAX);
        let relay = self.relay_report();
        let mut counters = broker.counters().clone();
        if let Some(undelivered) = relay.as_ref().map(|relay| relay.totals.undelivered) {
            *counters.dropped.entry(DropReason::OriginGone).or_default() += undelivered;
        }
        NodeReport {
            gauges: broker.gauges(),
            queued_bytes_max: broker.queued_bytes_max(),
            counters,
            outgoing: self.it.outgoing.totals(),
            reads: self.it.cluster.read_totals(),
            relay,
            applied_index: self.it.cluster.applied_index(),
            uptime: self.now.saturating_duration_since(self.it.started_at),
            waiting,
            services,
            workers,
        }
    }

    /// Reads a batch, and runs what the engine decided about it: about the first message at once,
    /// for the sake of latency when there is little to do, about the others together, because
    /// messages that leave together wake libzmq's thread once and not once each.
    fn read_router(&mut self) -> Result<RouterState, BrokerThreadError> {
        for count in 0..BATCH_MAX {
            let received = self.it.router.receive(&mut self.frames);
            let Some(from) = received.map_err(BrokerThreadError::Receive)? else {
                self.run_effects()?;
                return Ok(RouterState::Emptied);
            };
            if count % MESSAGES_PER_CLOCK == 0 {
                self.now = Instant::now();
            }
            let input = match decode_at_broker(&mut self.frames, &self.it.limits) {
                Ok(message) => {
                    let source = ready_frame(&message).and_then(|frame| frame.peer_address());
                    Input::Received { from, source, message }
                }
                Err(error) => {
                    if let Some(oversized) = self.it.router.take_oversized() {
                        self.notes.log_oversized(self.now, &from, oversized, &self.it.limits);
                    }
                    Input::Malformed { from, error }
                }
            };
            self.it.broker.handle_input(self.now, input);
            if count == 0 {
                self.run_effects()?;
            }
        }
        self.run_effects()?;
        Ok(RouterState::MoreWaits)
    }

    fn retry_outgoing(&mut self) -> Result<(), BrokerThreadError> {
        if self.it.outgoing.is_empty() {
            return Ok(());
        }
        self.it.outgoing.retry(self.now, &mut self.it.router).map_err(BrokerThreadError::Send)?;
        self.run_effects()
    }

    fn run_timers(&mut self, router: RouterState) -> Result<(), BrokerThreadError> {
        let is_starved =
            self.now.saturating_duration_since(self.timers_ran_at) > TIMERS_STARVED_MAX;
        if router == RouterState::MoreWaits && !is_starved {
            return Ok(());
        }
        self.now = Instant::now();
        self.timers_ran_at = self.now;
        self.drops.look(self.now, &mut self.it.broker);
        if let Phase::Announcing { asked_at } = self.phase
            && self.now >= asked_at + self.it.drain.announce
        {
            self.begin_drain(asked_at)?;
        }
        if self.it.broker.poll_timeout().is_some_and(|at| at <= self.now) {
            self.it.broker.handle_timeout(self.now);
            self.run_effects()?;
        }
        if self.it.cluster.poll_timeout().is_some_and(|at| at <= self.now) {
            self.it.cluster.handle_timeout(self.now);
            self.run_effects()?;
        }
        Ok(())
    }

    fn end_if_left(&mut self) {
        if let Phase::Leaving { asked_at, receipt } = self.phase
            && self.it.cluster.has_left()
        {
            let took = Instant::now().saturating_duration_since(asked_at);
            let leader_moved = self.it.cluster.leader_moved();
            self.phase = Phase::Ended(Ending::Drained(Drained { receipt, leader_moved, took }));
        }
    }

    fn handle(&mut self, input: Input<Frame>) -> Result<(), BrokerThreadError> {
        self.it.broker.handle_input(self.now, input);
        self.run_effects()
    }

    /// Runs what the engine decided, then tells it what came of that, until both are done.
    fn run_effects(&mut self) -> Result<(), BrokerThreadError> {
        loop {
            while let Some(effect) = self.it.broker.poll_effect() {
                self.run_effect(effect)?;
            }
            let Some(input) = self.poll_input() else { return Ok(()) };
            self.it.broker.handle_input(self.now, input);
        }
    }

    /// What came of the effects, once all of them have been run.
    fn poll_input(&mut self) -> Option<Input<Frame>> {
        let lost = self.it.outgoing.poll_lost().map(|lost| {
            self.notes.log_lost_peer(self.now, &lost);
            Input::PeerLost { peer: lost.peer, unsent: lost.unsent }
        });
        let lost = lost.or_else(|| self.it.relay.as_mut()?.poll_input());
        lost.or_else(|| self.it.cluster.poll_answer())
    }

    fn run_effect(&mut self, effect: Effect<Frame>) -> Result<(), BrokerThreadError> {
        match effect {
            Effect::Send { to, message } => self.run_send(&to, message)?,
            Effect::ToOwner { link, message } => {
                if let Some(relay) = &mut self.it.relay {
                    let sent = relay.send_to_owner(link, message);
                    sent.map_err(BrokerThreadError::Relay)?;
                }
            }
            Effect::ToOrigin { link, message } => {
                if let Some(relay) = &mut self.it.relay {
                    let sent = relay.send_to_origin(self.now, link, message);
                    sent.map_err(BrokerThreadError::Relay)?;
                }
            }
            Effect::Propose(entry) => self.it.cluster.propose(entry),
            Effect::Lookup { query, service, purpose } => {
                self.it.cluster.lookup(query, service, purpose);
            }
            Effect::Describe { query, page } => {
                let outgoing = self.it.outgoing.totals();
                let links = self.it.relay.as_ref().map(RelayLinks::states).unwrap_or_default();
                let view = View { broker: &self.it.broker, outgoing, links: &links, now: self.now };
                self.it.cluster.describe(query, page, &view);
            }
            Effect::Note(note) => self.notes.log(self.now, &note),
            Effect::Drained(receipt) => {
                let asked_at = match self.phase {
                    Phase::Draining { asked_at }
                    | Phase::Announcing { asked_at }
                    | Phase::Leaving { asked_at, .. } => asked_at,
                    Phase::Serving | Phase::Ended(_) => self.now,
                };
                self.phase = Phase::Leaving { asked_at, receipt };
                self.it.cluster.leave(self.now);
            }
        }
        Ok(())
    }

    fn run_send(&mut self, to: &PeerId, message: Outgoing<Frame>) -> Result<(), BrokerThreadError> {
        if self.it.outgoing.holds(to) {
            self.it.outgoing.keep(self.now, to, message);
            return Ok(());
        }
        match self.it.router.send(to, message).map_err(BrokerThreadError::Send)? {
            SendOutcome::Sent => {}
            SendOutcome::Full(message) => self.it.outgoing.keep(self.now, to, message),
            SendOutcome::Gone(message) => self.it.outgoing.lose(to, request_token(&message)),
        }
        Ok(())
    }

    /// Sleeps until something may have to be done.
    fn wait(&mut self) -> Result<Wait, BrokerThreadError> {
        // Timers may have sent something since the sockets were read empty.
        if self.it.router.is_readable().map_err(BrokerThreadError::Receive)? {
            return Ok(Wait::Skipped);
        }
        if let Some(relay) = &mut self.it.relay
            && relay.look().map_err(BrokerThreadError::Relay)?
        {
            return Ok(Wait::Skipped);
        }
        let announced = match self.phase {
            Phase::Announcing { asked_at } => Some(asked_at + self.it.drain.announce),
            Phase::Serving | Phase::Draining { .. } | Phase::Leaving { .. } | Phase::Ended(_) => {
                None
            }
        };
        let due = [
            self.it.broker.poll_timeout(),
            self.it.cluster.poll_timeout(),
            self.it.outgoing.next_retry(),
            self.it.relay.as_ref().and_then(RelayLinks::poll_timeout),
            announced,
        ];
        let due = due.into_iter().flatten().min();
        let sleep = due.map_or(SLEEP_MAX, |at| at.saturating_duration_since(Instant::now()));
        self.poll(sleep.min(SLEEP_MAX))?;
        Ok(Wait::Polled)
    }

    fn poll(&mut self, sleep: Duration) -> Result<(), BrokerThreadError> {
        let router = self.it.router.descriptor().map_err(BrokerThreadError::Receive)?;
        let mut descriptors: SmallVec<[PollFd<'_>; 8]> = smallvec![
            PollFd::from_borrowed_fd(self.it.inbox.bell(), PollFlags::IN),
            PollFd::from_borrowed_fd(router, PollFlags::IN),
        ];
        if let Some(relay) = &self.it.relay {
            relay.descriptors(&mut descriptors).map_err(BrokerThreadError::Relay)?;
        }
        // A turn that comes a little early finds nothing due and sleeps again.
        let timeout = Timespec {
            tv_sec: i64::try_from(sleep.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(sleep.subsec_nanos()),
        };
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(BrokerThreadError::Wait(error.into())),
        }
        let rang: SmallVec<[bool; 8]> =
            descriptors.iter().map(|descriptor| !descriptor.revents().is_empty()).collect();
        drop(descriptors);
        if rang.first() == Some(&true) {
            self.it.inbox.silence();
        }
        if let Some(relay) = &mut self.it.relay {
            relay.wake(rang.into_iter().skip(2));
        }
        Ok(())
    }

    /// Gives slow peers and other nodes a last chance to take what was meant for them.
    fn flush(&mut self) -> Result<(), BrokerThreadError> {
        let deadline = Instant::now() + FLUSH_MAX;
        loop {
            self.now = Instant::now();
            let retried = self.it.outgoing.retry(self.now, &mut self.it.router);
            retried.map_err(BrokerThreadError::Send)?;
            // What comes now goes back, for there are no workers any more.
            self.read_relay()?;
            let are_nodes_done = self.say_bye()?;
            let retry_at = self.it.outgoing.next_retry();
            if retry_at.is_none() && are_nodes_done {
                return Ok(());
            }
            if self.now >= deadline {
                let outgoing = self.it.outgoing.totals();
                if outgoing.messages > 0 {
                    let messages = outgoing.messages;
                    tracing::warn!(messages, "replies dropped: not read in time");
                }
                return Ok(());
            }
            let sleep =
                retry_at.map_or(FLUSH_STEP_MAX, |at| at.saturating_duration_since(self.now));
            self.poll(sleep.min(FLUSH_STEP_MAX))?;
        }
    }
}

/// The frame of a READY that knows where the worker connects from. A copy, but only of a READY.
fn ready_frame(message: &AtBroker<Frame>) -> Option<Frame> {
    match message {
        AtBroker::Worker { message: ToBroker::Ready { service }, .. } => {
            Some(service.clone().into_frame())
        }
        AtBroker::Client(_)
        | AtBroker::Worker {
            message:
                ToBroker::Partial { .. }
                | ToBroker::Final { .. }
                | ToBroker::Undelimited { .. }
                | ToBroker::Heartbeat
                | ToBroker::Disconnect
                | ToBroker::Request,
            ..
        } => None,
    }
}
