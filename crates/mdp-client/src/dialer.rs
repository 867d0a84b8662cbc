//! How connections are made. Names are resolved on threads of their own, never on libzmq's: a name
//! server that does not answer would hold up all connections of a context, and its end. A connection
//! that could not be made is examined, also on a thread, for libzmq does not say why.

mod examination;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use mdp_transport::ADMISSION_HELD_FOR;
use zmq::PollItem;

use self::examination::{Held, Target, examine, path_of};
use crate::{
    ConnectFailure,
    bell::{self, Bell, BellListener},
    socket::{Link, LinkSettings},
};

/// Threads at a time that resolve or examine. What a thread waits for cannot be interrupted, so
/// there may be some that wait for a name server that is gone.
const JOBS_MAX: usize = 16;

/// Names whose next address is remembered.
const NAMES_MAX: usize = 64;

/// What a thread is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    Resolve { endpoint: String },
    Examine { endpoint: String, target: Target, held: Held },
}

/// What became of an attempt to connect.
#[derive(Debug)]
pub(crate) enum Dialed {
    Link(Link),
    /// The name is being resolved; a [`DialEvent::Resolved`] follows.
    Resolving,
    Failed(ConnectFailure),
}

/// What a thread found out.
#[derive(Debug)]
pub(crate) enum DialEvent {
    /// Connections that wait for this name can be made, or not.
    Resolved { endpoint: String, result: Result<Vec<SocketAddr>, ConnectFailure> },
    /// Why a connection could not be made.
    Examined { endpoint: String, failure: ConnectFailure },
}

#[derive(Debug)]
pub(crate) struct Dialer {
    links: LinkSettings,
    jobs: BTreeSet<Job>,
    sender: mpsc::Sender<(Job, DialEvent)>,
    events: mpsc::Receiver<(Job, DialEvent)>,
    waker: Arc<Bell>,
    wakes: BellListener,
    /// Which of its addresses a name is connected to next.
    turn_by_endpoint: BTreeMap<String, usize>,
    resolver: Resolver,
}

/// Finds the addresses of an endpoint with a name. It may take as long as it likes.
type Resolver = fn(&str) -> Result<Vec<SocketAddr>, ConnectFailure>;

impl Dialer {
    pub(crate) fn new(links: LinkSettings) -> io::Result<Self> {
        let (waker, wakes) = bell::bell()?;
        // At most one event for each job.
        let (sender, events) = mpsc::channel();
        let (jobs, turn_by_endpoint) = Default::default();
        let (waker, resolver) = (Arc::new(waker), resolve as Resolver);
        Ok(Self { links, jobs, sender, events, waker, wakes, turn_by_endpoint, resolver })
    }

    #[cfg(test)]
    pub(crate) fn resolve_by(&mut self, resolver: Resolver) {
        self.resolver = resolver;
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.links.connect_timeout
    }

    /// Connects at once if the address needs no name server.
    pub(crate) fn dial(&mut self, endpoint: &str) -> Dialed {
        let Some(host_and_port) = endpoint.strip_prefix("tcp://") else {
            return self.open(endpoint, None);
        };
        if let Ok(address) = host_and_port.parse::<SocketAddr>() {
            return self.open(endpoint, Some(address));
        }
        // libzmq's way to name the local address, too, which it has to take apart itself.
        if host_and_port.contains(';') {
            return self.open(endpoint, None);
        }
        match self.start(Job::Resolve { endpoint: endpoint.to_owned() }) {
            Ok(()) => Dialed::Resolving,
            Err(error) => Dialed::Failed(ConnectFailure::Unreachable { reason: error.to_string() }),
        }
    }

    /// Connects to one of the addresses of a name: to the next one after a failure.
    pub(crate) fn dial_resolved(&self, endpoint: &str, addresses: &[SocketAddr]) -> Dialed {
        let turn = self.turn_by_endpoint.get(endpoint).copied().unwrap_or_default();
        let turn = turn.checked_rem(addresses.len()).unwrap_or_default();
        match addresses.get(turn) {
            Some(address) => self.open(&format!("tcp://{address}"), Some(*address)),
            None => Dialed::Failed(ConnectFailure::NameUnknown { reason: "no address".into() }),
        }
    }

    /// Finds out why this connection could not be made: at once, or by a [`DialEvent::Examined`].
    pub(crate) fn examine(&mut self, endpoint: &str, link: &Link) -> Option<ConnectFailure> {
        if !self.turn_by_endpoint.contains_key(endpoint) && self.turn_by_endpoint.len() >= NAMES_MAX
        {
            self.turn_by_endpoint.clear();
        }
        let turn = self.turn_by_endpoint.entry(endpoint.to_owned()).or_default();
        *turn = turn.wrapping_add(1);
        let target = match (link.address(), endpoint.strip_prefix("ipc://")) {
            (Some(address), _) => Target::Tcp(address),
            (None, Some(path)) => Target::Unix(path_of(path)),
            (None, None) => return None,
        };
        if let Some(refusal) = link.refusal() {
            return Some(refusal);
        }
        if link.has_timed_out(self.links.connect_timeout) {
            return Some(ConnectFailure::TimedOut);
        }
        let held = if link.age() >= ADMISSION_HELD_FOR { Held::Long } else { Held::Short };
        let job = Job::Examine { endpoint: endpoint.to_owned(), target, held };
        self.start(job).is_err().then_some(ConnectFailure::Unknown)
    }

    /// What to poll for events.
    pub(crate) fn poll_wake(&self) -> PollItem<'_> {
        self.wakes.poll_ring()
    }

    /// The next event, if there is one.
    pub(crate) fn poll_event(&mut self) -> Option<DialEvent> {
        self.wakes.silence();
        let (job, event) = self.events.try_recv().ok()?;
        self.jobs.remove(&job);
        Some(event)
    }

    fn open(&self, address: &str, examined: Option<SocketAddr>) -> Dialed {
        match Link::open(&self.links, address, examined) {
            Ok(link) => Dialed::Link(link),
            Err(error) => Dialed::Failed(ConnectFailure::Address { reason: error.to_string() }),
        }
    }

    /// Starts a thread, unless there is one for the same already.
    fn start(&mut self, job: Job) -> io::Result<()> {
        if self.jobs.contains(&job) {
            return Ok(());
        }
        if self.jobs.len() >= JOBS_MAX {
            return Err(io::Error::other("too many names wait for the name server"));
        }
        let (sender, waker) = (self.sender.clone(), Arc::clone(&self.waker));
        let (work, resolver, keys) = (job.clone(), self.resolver, self.links.keys.clone());
        let run = move || {
            let event = match &work {
                Job::Resolve { endpoint } => {
                    DialEvent::Resolved { endpoint: endpoint.clone(), result: resolver(endpoint) }
                }
                Job::Examine { endpoint, target, held } => {
                    let failure = examine(target, keys.as_ref().map(|keys| (keys, *held)));
                    DialEvent::Examined { endpoint: endpoint.clone(), failure }
                }
            };
            if sender.send((work, event)).is_ok() {
                waker.ring();
            }
        };
        // It ends by itself; the process need not wait for it.
        drop(thread::Builder::new().name("mdp-dial".to_owned()).spawn(run)?);
        self.jobs.insert(job);
        Ok(())
    }
}

/// The addresses of a name, IPv4 first: a broker of 0.1 that listens at `*` listens there alone.
fn resolve(endpoint: &str) -> Result<Vec<SocketAddr>, ConnectFailure> {
    let unknown = |reason: String| ConnectFailure::NameUnknown { reason };
    let host_and_port = endpoint.strip_prefix("tcp://").unwrap_or(endpoint);
    let parts = host_and_port.rsplit_once(':');
    let parts = parts.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = parts else { return Err(unknown("no port".to_owned())) };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let resolved = (host, port).to_socket_addrs().map_err(|error| unknown(reason(&error)))?;
    let mut addresses: Vec<SocketAddr> = resolved.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    Ok(addresses)
}

/// Without the part that the standard library puts in front of what the resolver says.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_and_unknown_ones_are_said_so() {
        let local = resolve("tcp://localhost:5555").unwrap();
        assert!(local.iter().all(|address| address.ip().is_loopback() && address.port() == 5555));
        assert!(!local.is_empty());

        // Reserved by RFC 2606, so no name server has it.
        let unknown = resolve("tcp://broker.invalid:5555");
        assert!(matches!(unknown, Err(ConnectFailure::NameUnknown { .. })), "{unknown:?}");
    }
}
