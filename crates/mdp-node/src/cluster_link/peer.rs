//! One other node on one lane: its connection, and the calls to it.

use std::{
    net::SocketAddr,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_raft::CallError;
use mdp_wire::Position;

use super::{
    CALLS_PER_PEER_MAX, CONNECT_MILLISECONDS_MAX, HEARTBEAT_MILLISECONDS,
    HEARTBEAT_TIMEOUT_MILLISECONDS, RECONNECT_MILLISECONDS_MAX, RECONNECT_MILLISECONDS_MIN,
    calls::{Call, Calls},
    configure, correlation_of,
    counters::{LinkCounters, count},
};
use crate::{
    Endpoint, SocketError,
    endpoint::next_address,
    zeromq::{Context, Frame, FrameFlow, Socket, SocketOption},
};

/// A connection that was not used for so long is closed.
const PEER_IDLE_MAX: Duration = Duration::from_secs(60);
/// How many answers of one node are read before the others get their turn.
const ANSWERS_BATCH_MAX: usize = 64;
/// How soon a name is looked up again while its node cannot be reached: it may have moved.
const RESOLVE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long a request may wait for a connection until its address is tried once more, to learn why: libzmq
/// tries again and does not say why.
const PROBE_AFTER: Duration = Duration::from_millis(100);
/// When a look-up that says nothing is given up.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(15);

/// One other node on one lane.
///
/// Names are looked up by the resolver's own threads, never by libzmq: it would do it in its thread
/// for I/O, and a name server that does not answer would silence the nodes that are connected.
#[derive(Debug)]
pub(super) struct Peer {
    endpoint: Endpoint,
    connection: Option<Connection>,
    calls: Calls,
    used_at: Instant,
    /// When its name may be looked up next.
    resolve_at: Instant,
    /// When its address may be tried next.
    probe_at: Instant,
    /// What requests that cannot be sent are told.
    obstacle: CallError,
    /// Whether its socket may have something to do although its descriptor is silent.
    is_awake: bool,
    has_warned: bool,
}

#[derive(Debug)]
struct Connection {
    address: SocketAddr,
    socket: Socket,
}

impl Peer {
    pub(super) fn new(
        context: &Arc<Context>,
        endpoint: Endpoint,
        now: Instant,
    ) -> Result<Self, SocketError> {
        let address = endpoint.socket_address();
        let connection = address.map(|address| Connection::open(context, address)).transpose()?;
        Ok(Self {
            endpoint,
            connection,
            calls: Calls::default(),
            used_at: now,
            resolve_at: now,
            probe_at: now,
            obstacle: CallError::Timeout,
            is_awake: true,
            has_warned: false,
        })
    }

    /// Takes a call, or refuses it.
    pub(super) fn push(&mut self, now: Instant, id: u64, call: Call, counters: &LinkCounters) {
        if self.calls.len() >= CALLS_PER_PEER_MAX {
            count(&counters.refused);
            // Whoever asked may have given up by itself.
            match call.reply.send(Err(CallError::Busy)) {
                Ok(()) | Err(_) => return,
            }
        }
        self.used_at = now;
        self.is_awake = true;
        if !self.calls.has_unsent() {
            self.probe_at = self.probe_at.max(now + PROBE_AFTER);
        }
        self.calls.push(id, call);
    }

    /// Sends what can be sent, hands out the answers that came.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        counters: &LinkCounters,
    ) -> Result<(), SocketError> {
        self.is_awake = false;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        while let Some((id, request)) = self.calls.next_unsent(now) {
            match connection.send(id, request)? {
                FrameFlow::Done => {
                    self.calls.sent();
                    self.obstacle = CallError::Timeout;
                }
                FrameFlow::WouldWait => break,
            }
            count(&counters.sent);
        }
        for _ in 0..ANSWERS_BATCH_MAX {
            match connection.receive()? {
                None => break,
                Some(None) => count(&counters.malformed),
                Some(Some((id, answer))) => {
                    let is_awaited = self.calls.answer(id, answer.as_ref());
                    count(if is_awaited { &counters.answered } else { &counters.late_answers });
                }
            }
        }
        // Sending and receiving take news off the descriptor: ask before it is waited for.
        let readiness = connection.socket.readiness()?;
        self.is_awake = readiness.can_receive || (readiness.can_send && self.calls.has_unsent());
        Ok(())
    }

    /// Forgets the calls whose time is up.
    pub(super) fn expire(&mut self, now: Instant, counters: &LinkCounters) {
        let expired = self.calls.expire(now, self.obstacle);
        if expired > 0 {
            counters.timed_out.fetch_add(expired, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// The name to look up now, if it is time: requests wait, and nobody takes them.
    pub(super) fn begin_resolving(&mut self, now: Instant) -> Option<(String, u16)> {
        if !self.calls.has_unsent() || now < self.resolve_at {
            return None;
        }
        let name = self.endpoint.host_name()?.to_owned();
        self.resolve_at = now + RESOLVE_TIME_MAX;
        Some((name, self.endpoint.port()))
    }

    /// The address to try now, if it is time: requests wait, and the connection is not made.
    pub(super) fn begin_probing(&mut self, now: Instant) -> Option<SocketAddr> {
        if !self.calls.has_unsent() || now < self.probe_at {
            return None;
        }
        let address = self.connection.as_ref()?.address;
        self.probe_at = now + RESOLVE_AGAIN_AFTER;
        Some(address)
    }

    /// What a connection to the address came to.
    pub(super) const fn on_probed(&mut self, obstacle: CallError) {
        self.obstacle = obstacle;
    }

    /// Connects to what the name stands for now, unless that is what it stood for before.
    pub(super) fn on_resolved(
        &mut self,
        now: Instant,
        addresses: &[SocketAddr],
        context: &Arc<Context>,
    ) -> Result<(), SocketError> {
        self.resolve_at = now + RESOLVE_AGAIN_AFTER;
        let current = self.connection.as_ref().map(|connection| connection.address);
        let Some(address) = next_address(addresses, current) else {
            if !std::mem::replace(&mut self.has_warned, true) {
                let endpoint = &self.endpoint;
                tracing::warn!(%endpoint, "the name of a node has no address; it is tried again");
            }
            self.obstacle = CallError::NoAddress;
            return Ok(());
        };
        self.has_warned = false;
        // While requests wait: a node that can be reached keeps its connection.
        if self.calls.has_unsent() && Some(address) != current {
            tracing::debug!(endpoint = %self.endpoint, %address, "connecting");
            self.connection = Some(Connection::open(context, address)?);
            self.is_awake = true;
        }
        Ok(())
    }

    /// Whether it has a socket.
    pub(super) const fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Its socket may have something to do.
    pub(super) const fn wake(&mut self) {
        self.is_awake = true;
    }

    pub(super) const fn is_awake(&self) -> bool {
        self.is_awake
    }

    /// Whether nobody has called it for long.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.calls.len() == 0 && now.saturating_duration_since(self.used_at) > PEER_IDLE_MAX
    }

    /// When there is something to do even if nothing happens.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let has_unsent = self.calls.has_unsent();
        let resolve = has_unsent && self.endpoint.host_name().is_some();
        let probe = has_unsent && self.connection.is_some();
        let due = [resolve.then_some(self.resolve_at), probe.then_some(self.probe_at)];
        due.into_iter().flatten().chain(self.calls.next_deadline()).min()
    }

    /// Becomes readable when its socket may have something to do.
    pub(super) fn descriptor(&self) -> Result<Option<BorrowedFd<'_>>, SocketError> {
        self.connection.as_ref().map(|connection| connection.socket.descriptor()).transpose()
    }
}

impl Connection {
    fn open(context: &Arc<Context>, address: SocketAddr) -> Result<Self, SocketError> {
        let socket = Socket::dealer(context)?;
        configure(&socket)?;
        for (option, value) in [
            (SocketOption::Ipv6, i32::from(address.is_ipv6())),
            // Nothing is kept for a node that is not connected: it would come too late.
            (SocketOption::Immediate, 1),
            (SocketOption::ConnectTimeout, CONNECT_MILLISECONDS_MAX),
            (SocketOption::ReconnectInterval, RECONNECT_MILLISECONDS_MIN),
            (SocketOption::ReconnectIntervalMax, RECONNECT_MILLISECONDS_MAX),
            (SocketOption::HeartbeatInterval, HEARTBEAT_MILLISECONDS),
            (SocketOption::HeartbeatTimeout, HEARTBEAT_TIMEOUT_MILLISECONDS),
            (SocketOption::HeartbeatTtl, HEARTBEAT_TIMEOUT_MILLISECONDS),
        ] {
            socket.set(option, value)?;
        }
        socket.connect(&Endpoint::from(address).to_string())?;
        Ok(Self { address, socket })
    }

    /// Sends one request, or nothing of it.
    fn send(&mut self, id: u64, request: &[u8]) -> Result<FrameFlow, SocketError> {
        if self.socket.send_bytes(&id.to_le_bytes(), Position::More)? == FrameFlow::WouldWait {
            return Ok(FrameFlow::WouldWait);
        }
        // If the connection ends between the two, libzmq takes the first frame back.
        self.socket.send_bytes(request, Position::Last)
    }

    /// Receives one answer with its correlation id, or something that is none.
    fn receive(&mut self) -> Result<Option<Option<(u64, Frame)>>, SocketError> {
        let mut correlation = Frame::new();
        if self.socket.receive(&mut correlation)? == FrameFlow::WouldWait {
            return Ok(None);
        }
        let mut answer = None;
        let mut has_more = correlation.has_more();
        while has_more {
            let mut frame = Frame::new();
            if self.socket.receive(&mut frame)? == FrameFlow::WouldWait {
                break;
            }
            has_more = frame.has_more();
            answer = Some(frame);
        }
        Ok(Some(correlation_of(&correlation).zip(answer)))
    }
}
