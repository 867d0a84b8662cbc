//! The only place of the crate that makes ZeroMQ sockets: [`Link`], one connection to a broker.

use std::{
    cell::Cell,
    fmt,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use mdp_transport::{ADMISSION_HELD_FOR, Mechanism, OWNER_ANSWERS_WITHIN};
use zmq::{PollEvents, PollItem, SocketEvent, SocketType};

use crate::{ConnectFailure, keys::LinkKeys};

/// Far beyond the life of any link: a link is one connection, and a new one gets a new socket.
/// Zero would do as well, but then libzmq reports no failure to resolve a name.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(3_600);

/// Messages that wait to be read from a connection. Then libzmq reads no more, and TCP pushes back.
const RECEIVED_MESSAGES_MAX: i32 = 1_000;

/// Keep-alive probes without an answer that end a connection.
const KEEPALIVE_PROBES: i32 = 2;

/// How long a handshake with keys may take beyond the time of a connection: a broker holds a key that it does not
/// know for a while, in case that it is made known late, before it says so.
const HELD_MAX: Duration = ADMISSION_HELD_FOR.saturating_add(OWNER_ANSWERS_WITHIN);

/// What libzmq says of an authentication that failed, and of a peer with another mechanism (`zmq.h`).
const STATUS_NOT_ADMITTED: u32 = 400;
const PROTOCOL_ERROR_MECHANISM_MISMATCH: u32 = 0x1100_0002;

/// What every link of one client or worker has in common.
#[derive(Clone)]
pub(crate) struct LinkSettings {
    pub(crate) context: zmq::Context,
    pub(crate) connect_timeout: Duration,
    /// How often the system asks an idle connection whether its peer's host is there; `None`: the
    /// protocol's own heartbeats do that.
    pub(crate) tcp_keepalive: Option<Duration>,
    /// Messages that wait for the network; 0 = no limit, where the caller bounds them.
    pub(crate) outgoing_messages_max: i32,
    pub(crate) frame_bytes_max: usize,
    /// `None`: NULL, neither encryption nor authentication.
    pub(crate) keys: Option<LinkKeys>,
}

impl LinkSettings {
    /// How long a handshake may take.
    pub(crate) fn handshake_timeout(&self) -> Duration {
        handshake_timeout(self.connect_timeout, self.keys.as_ref())
    }
}

/// How long a handshake may take, with these keys or none.
pub(crate) fn handshake_timeout(connect_timeout: Duration, keys: Option<&LinkKeys>) -> Duration {
    connect_timeout.saturating_add(if keys.is_some() { HELD_MAX } else { Duration::ZERO })
}

impl fmt::Debug for LinkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSettings")
            .field("connect_timeout", &self.connect_timeout)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// What happened to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    /// The handshake is done.
    Up,
    /// It could not be made, or was lost.
    Down,
}

/// Whether a message was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    /// Too many messages wait for the network; here it is again.
    Full(Vec<Vec<u8>>),
}

/// One DEALER, connected once, and the monitor that says whether it still is.
pub(crate) struct Link {
    dealer: zmq::Socket,
    monitor: zmq::Socket,
    /// Where the connection goes, if that is known.
    address: Option<SocketAddr>,
    opened_at: Instant,
    /// A TCP connection was established, whether or not its handshake succeeds.
    is_connected: Cell<bool>,
    /// What the broker said of this side's keys or mechanism, if it refused them.
    refusal: Cell<Option<Refusal>>,
    mechanism: Mechanism,
}

/// A handshake that ended by a word of the broker.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Key,
    Mechanism,
}

impl Refusal {
    /// By the code of an ERROR.
    fn by_status(status: u32) -> Option<Self> {
        (status == STATUS_NOT_ADMITTED).then_some(Self::Key)
    }

    /// By what libzmq finds wrong.
    fn by_defect(defect: u32) -> Option<Self> {
        (defect == PROTOCOL_ERROR_MECHANISM_MISMATCH).then_some(Self::Mechanism)
    }
}

impl Link {
    /// Makes the socket and starts to connect; how that ends is a [`LinkEvent`]. `inproc://` has
    /// no events. `endpoint` has no name that libzmq would have to resolve.
    ///
    /// The socket has a receive limit and therefore no ZMTP pings: libzmq aborts the process when a
    /// ping is due on a connection that broke while the limit kept it from being read
    /// (docs/decisions/0017). The system's keep-alive probes find a host that is gone.
    pub(crate) fn open(
        settings: &LinkSettings,
        endpoint: &str,
        address: Option<SocketAddr>,
    ) -> Result<Self, zmq::Error> {
        let dealer = settings.context.socket(SocketType::DEALER)?;
        dealer.set_linger(0)?;
        dealer.set_reconnect_ivl(milliseconds(RECONNECT_INTERVAL))?;
        dealer.set_connect_timeout(milliseconds(settings.connect_timeout))?;
        dealer.set_handshake_ivl(milliseconds(settings.handshake_timeout()))?;
        dealer.set_ipv6(true)?;
        dealer.set_sndhwm(settings.outgoing_messages_max)?;
        dealer.set_maxmsgsize(i64::try_from(settings.frame_bytes_max).unwrap_or(i64::MAX))?;
        dealer.set_rcvhwm(RECEIVED_MESSAGES_MAX)?;
        if let Some(interval) = settings.tcp_keepalive.filter(|interval| !interval.is_zero()) {
            let seconds = i32::try_from(interval.as_secs().max(1)).unwrap_or(i32::MAX);
            dealer.set_tcp_keepalive(1)?;
            dealer.set_tcp_keepalive_idle(seconds)?;
            dealer.set_tcp_keepalive_intvl(seconds)?;
            dealer.set_tcp_keepalive_cnt(KEEPALIVE_PROBES)?;
        }
        let mechanism = settings.keys.as_ref().map_or(Mechanism::Null, |_| Mechanism::Curve);
        if let Some(keys) = &settings.keys {
            keys.set(&dealer)?;
        }
        let monitored_at = monitor_address();
        let wanted = [
            SocketEvent::CONNECTED,
            SocketEvent::HANDSHAKE_SUCCEEDED,
            SocketEvent::HANDSHAKE_FAILED_AUTH,
            SocketEvent::HANDSHAKE_FAILED_PROTOCOL,
            SocketEvent::CONNECT_RETRIED,
            SocketEvent::DISCONNECTED,
        ];
        let wanted = wanted.into_iter().fold(0, |mask, event| mask | i32::from(event.to_raw()));
        dealer.monitor(&monitored_at, wanted)?;
        let monitor = settings.context.socket(SocketType::PAIR)?;
        monitor.set_linger(0)?;
        let opened_at = Instant::now();
        let (is_connected, refusal) = (Cell::new(false), Cell::new(None));
        let link = Self { dealer, monitor, address, opened_at, is_connected, refusal, mechanism };
        link.monitor.connect(&monitored_at)?;
        link.dealer.connect(endpoint)?;
        Ok(link)
    }

    /// Sends a message, or gives it back. Never blocks.
    pub(crate) fn send(&self, frames: Vec<Vec<u8>>) -> Result<Sent, zmq::Error> {
        // Asked before, because a refused frame would be lost; the frames after the first one of
        // a message are always taken.
        if !self.dealer.get_events()?.contains(PollEvents::POLLOUT) {
            return Ok(Sent::Full(frames));
        }
        self.dealer.send_multipart(frames, zmq::DONTWAIT)?;
        Ok(Sent::Yes)
    }

    /// The next message, if one is there.
    pub(crate) fn recv(&self) -> Result<Option<Vec<Vec<u8>>>, zmq::Error> {
        none_yet(self.dealer.recv_multipart(zmq::DONTWAIT))
    }

    /// The next event, if one is there.
    pub(crate) fn recv_event(&self) -> Result<Option<LinkEvent>, zmq::Error> {
        while let Some(frames) = none_yet(self.monitor.recv_multipart(zmq::DONTWAIT))? {
            let Some([low, high, value @ ..]) = frames.first().map(Vec::as_slice) else { continue };
            let value = value.first_chunk().map(|value| u32::from_ne_bytes(*value));
            let event = u16::from_ne_bytes([*low, *high]);
            let is = |wanted: SocketEvent| event == wanted.to_raw();
            if is(SocketEvent::CONNECTED) {
                self.is_connected.set(true);
            } else if is(SocketEvent::HANDSHAKE_SUCCEEDED) {
                return Ok(Some(LinkEvent::Up));
            } else if is(SocketEvent::HANDSHAKE_FAILED_AUTH) {
                // The end of the connection follows.
                self.refusal.set(value.and_then(Refusal::by_status).or_else(|| self.refusal.get()));
            } else if is(SocketEvent::HANDSHAKE_FAILED_PROTOCOL) {
                self.refusal.set(value.and_then(Refusal::by_defect).or_else(|| self.refusal.get()));
            } else {
                return Ok(Some(LinkEvent::Down));
            }
        }
        Ok(None)
    }

    /// Where the connection goes, if that is known.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The time since it was opened.
    pub(crate) fn age(&self) -> Duration {
        self.opened_at.elapsed()
    }

    /// What the broker said when it refused this side, if it said so.
    pub(crate) fn refusal(&self) -> Option<ConnectFailure> {
        Some(match self.refusal.get()? {
            Refusal::Key => ConnectFailure::NotAdmitted,
            Refusal::Mechanism => ConnectFailure::WrongMechanism { offered: self.mechanism },
        })
    }

    /// Whether it ended because the other side did not answer at all.
    pub(crate) fn has_timed_out(&self, connect_timeout: Duration) -> bool {
        !self.is_connected.get() && self.opened_at.elapsed() >= connect_timeout.mul_f64(0.9)
    }

    /// What to poll for messages, and for room to send if that is wanted.
    pub(crate) fn poll_message(&self, room: Room) -> PollItem<'_> {
        match room {
            Room::NotNeeded => self.dealer.as_poll_item(PollEvents::POLLIN),
            Room::Needed => self.dealer.as_poll_item(PollEvents::POLLIN | PollEvents::POLLOUT),
        }
    }

    /// What to poll for events.
    pub(crate) fn poll_event(&self) -> PollItem<'_> {
        self.monitor.as_poll_item(PollEvents::POLLIN)
    }

    /// Closes the socket, which goes on sending what it holds for at most `linger`.
    pub(crate) fn close(self, linger: Duration) {
        if let Err(error) = self.dealer.set_linger(milliseconds(linger)) {
            tracing::debug!(%error, "linger could not be set");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // libzmq's I/O thread sends an event to the monitor's peer and waits for ever if that is
        // gone. A new monitor that wants no event replaces the old one before its peer closes.
        if let Err(error) = self.dealer.monitor(&monitor_address(), 0) {
            tracing::debug!(%error, "monitor could not be stopped");
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// Whether a link waits for room in its outgoing queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    NotNeeded,
    Needed,
}

/// The context that the caller gave, or a new one.
pub(crate) fn context_or_new(given: Option<zmq::Context>) -> zmq::Context {
    given.unwrap_or_default()
}

/// Waits for the items until `until`, or without end. An interrupted wait is over early.
pub(crate) fn wait(items: &mut [PollItem<'_>], until: Option<Instant>) -> Result<(), zmq::Error> {
    let timeout_ms = match until {
        None => -1,
        Some(until) => milliseconds_rounded_up(until.saturating_duration_since(Instant::now())),
    };
    match zmq::poll(items, timeout_ms) {
        Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}

fn none_yet<T>(received: Result<T, zmq::Error>) -> Result<Option<T>, zmq::Error> {
    match received {
        Ok(received) => Ok(Some(received)),
        Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Unique in the process, for several clients may share a context.
fn monitor_address() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("inproc://mdp-client.monitor.{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// Rounded up, so that a deadline has passed when the wait for it is over.
fn milliseconds_rounded_up(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}
