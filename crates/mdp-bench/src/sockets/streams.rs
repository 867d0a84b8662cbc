//! Non-blocking streams of bytes on one thread, at a cost that depends on those with news only.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _},
    os::{
        self,
        fd::{AsRawFd as _, RawFd},
        linux::net::SocketAddrExt as _,
        unix::net::UnixStream,
    },
    time::Duration,
};

use mio::{Events, Interest, Token, event::Source, unix::SourceFd};
use slab::Slab;

use crate::BenchError;

/// How many streams one wait can report.
const EVENTS_MAX: usize = 1_024;
/// How much is read from one stream before the others get their turn.
const READ_BYTES: usize = 64 * 1024;
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input<'a> {
    Bytes(&'a [u8]),
    Nothing,
    Closed,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Written(usize),
    /// The kernel takes no more; the stream is among the writable ones when it does.
    Blocked,
    Closed,
}

/// Where streams connect to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Tcp(Vec<SocketAddr>),
    Unix(String),
}

impl Target {
    /// Resolves an endpoint.
    pub(crate) fn of(endpoint: &str) -> Result<Self, BenchError> {
        let failed = |reason: String| unreachable(endpoint, reason);
        if let Some(path) = endpoint.strip_prefix("ipc://") {
            return Ok(Self::Unix(path.to_owned()));
        }
        let Some(address) = endpoint.strip_prefix("tcp://") else {
            return Err(failed(String::from("only tcp:// and ipc:// are supported")));
        };
        let addresses = resolve(address).map_err(|error| failed(error.to_string()))?;
        Ok(Self::Tcp(addresses))
    }

    /// The endpoint of the first address that takes a connection: libzmq tries one address of a name, and
    /// with IPv6 it is the one of version 6.
    pub(crate) fn endpoint_of_one(&self, endpoint: &str) -> Result<String, BenchError> {
        let Self::Tcp(addresses) = self else { return Ok(endpoint.to_owned()) };
        let peer = connect_tcp(addresses).and_then(|stream| stream.peer_addr());
        let address = peer.map_err(|error| unreachable(endpoint, words(&error)))?;
        Ok(format!("tcp://{address}"))
    }
}

/// The addresses of `HOST:PORT`. The zone of a link-local one may be a name, as in `[fe80::1%eth0]`, which
/// the system reads without the brackets only.
fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    let bracketed = address.strip_prefix('[').and_then(|rest| rest.rsplit_once("]:"));
    let Some((host, port)) = bracketed.filter(|(host, _)| host.contains('%')) else {
        return Ok(address.to_socket_addrs()?.collect());
    };
    let port: u16 = port.parse().map_err(io::Error::other)?;
    Ok((host, port).to_socket_addrs()?.collect())
}

/// Streams, each known by its index.
pub(crate) struct Streams {
    poll: mio::Poll,
    events: Events,
    streams: Slab<Entry>,
    /// Streams that must be read whatever the poller says.
    again: Vec<usize>,
    writable: Vec<usize>,
    scratch: Box<[u8]>,
}

struct Entry {
    stream: Stream,
    is_blocked: bool,
    /// The poller has told of the end, and does so once: it is read up to there.
    is_closing: bool,
}

enum Stream {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl Streams {
    pub(crate) fn new() -> Result<Self, BenchError> {
        Ok(Self {
            poll: mio::Poll::new().map_err(BenchError::Poll)?,
            events: Events::with_capacity(EVENTS_MAX),
            streams: Slab::new(),
            again: Vec::new(),
            writable: Vec::new(),
            scratch: vec![0; READ_BYTES].into(),
        })
    }

    /// Connects one more and returns its index.
    pub(crate) fn connect(&mut self, endpoint: &str, target: &Target) -> Result<usize, BenchError> {
        let failed = |error: io::Error| unreachable(endpoint, words(&error));
        let stream = match target {
            Target::Tcp(addresses) => Stream::tcp(connect_tcp(addresses).map_err(failed)?),
            Target::Unix(path) => connect_unix(path).and_then(|stream| {
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(mio::net::UnixStream::from_std(stream)))
            }),
        };
        self.add(stream.map_err(failed)?)
    }

    /// Takes the connections that wait, and returns their indices.
    pub(crate) fn accept(&mut self, listener: &TcpListener) -> Result<Vec<usize>, BenchError> {
        let mut accepted = Vec::new();
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let stream = Stream::tcp(stream).map_err(BenchError::Poll)?;
                    accepted.push(self.add(stream)?);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(accepted),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BenchError::Poll(error)),
            }
        }
    }

    fn add(&mut self, mut stream: Stream) -> Result<usize, BenchError> {
        let place = self.streams.vacant_entry();
        let index = place.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let source: &mut dyn SourceOfEvents = match &mut stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
        };
        source.register_at(self.poll.registry(), index, interest).map_err(BenchError::Poll)?;
        place.insert(Entry { stream, is_blocked: false, is_closing: false });
        Ok(index)
    }

    /// Anything else that becomes readable.
    pub(crate) fn watch(&self, index: usize, descriptor: RawFd) -> Result<(), BenchError> {
        let registry = self.poll.registry();
        let registered =
            registry.register(&mut SourceFd(&descriptor), Token(index), Interest::READABLE);
        registered.map_err(BenchError::Poll)
    }

    /// A listener whose connections are to be [accepted](Self::accept).
    pub(crate) fn watch_listener(
        &self,
        index: usize,
        listener: &TcpListener,
    ) -> Result<(), BenchError> {
        listener.set_nonblocking(true).map_err(BenchError::Poll)?;
        self.watch(index, listener.as_raw_fd())
    }

    /// Fills `ready` with the streams to read, after at most `timeout`; without one, when there
    /// are any.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        ready: &mut Vec<usize>,
    ) -> Result<(), BenchError> {
        ready.clear();
        ready.append(&mut self.again);
        let timeout = if ready.is_empty() { timeout } else { Some(Duration::ZERO) };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(BenchError::Poll(error)),
        }
        for event in &self.events {
            let index = event.token().0;
            let is_closing = event.is_read_closed() || event.is_error();
            if event.is_readable() || is_closing {
                ready.push(index);
            }
            // None: it is a listener or the like.
            let Some(entry) = self.streams.get_mut(index) else { continue };
            entry.is_closing |= is_closing;
            if event.is_writable() && std::mem::take(&mut entry.is_blocked) {
                self.writable.push(index);
            }
        }
        Ok(())
    }

    /// The next stream that takes bytes again after it did not.
    pub(crate) fn poll_writable(&mut self) -> Option<usize> {
        self.writable.pop()
    }

    /// Reads what has come; if that was more than is read at once, or the end is still to be read, the
    /// stream is ready again.
    pub(crate) fn read(&mut self, index: usize) -> Input<'_> {
        let Some(entry) = self.streams.get_mut(index) else { return Input::Nothing };
        let count = loop {
            match entry.stream.read(&mut self.scratch) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Input::Nothing,
                Err(_) => break 0,
            }
        };
        if count == 0 {
            self.close(index);
            return Input::Closed;
        }
        // A short read emptied the stream, and the poller tells of what comes next.
        if count == self.scratch.len() || entry.is_closing {
            self.again.push(index);
        }
        Input::Bytes(self.scratch.get(..count).unwrap_or_default())
    }

    /// Writes as much as the kernel takes at once.
    pub(crate) fn write(&mut self, index: usize, slices: &[IoSlice<'_>]) -> Output {
        let Some(entry) = self.streams.get_mut(index) else { return Output::Closed };
        loop {
            match entry.stream.write(slices) {
                Ok(count) if count > 0 => return Output::Written(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    entry.is_blocked = true;
                    return Output::Blocked;
                }
                // The read that follows finds it closed.
                Ok(_) | Err(_) => return Output::Closed,
            }
        }
    }

    /// Closes a stream; its index is used again.
    pub(crate) fn close(&mut self, index: usize) {
        drop(self.streams.try_remove(index));
    }
}

impl Stream {
    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self::Tcp(mio::net::TcpStream::from_std(stream)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(slices),
            Self::Unix(stream) => stream.write_vectored(slices),
        }
    }
}

/// [`Source`] can not be made into an object that a registry takes.
trait SourceOfEvents {
    fn register_at(
        &mut self,
        registry: &mio::Registry,
        index: usize,
        interest: Interest,
    ) -> io::Result<()>;
}

impl<S: Source> SourceOfEvents for S {
    fn register_at(
        &mut self,
        registry: &mio::Registry,
        index: usize,
        interest: Interest,
    ) -> io::Result<()> {
        registry.register(self, Token(index), interest)
    }
}

/// As libzmq does, which takes `@` before a name for an abstract one.
fn connect_unix(path: &str) -> io::Result<UnixStream> {
    match path.strip_prefix('@') {
        Some(name) => {
            UnixStream::connect_addr(&os::unix::net::SocketAddr::from_abstract_name(name)?)
        }
        None => UnixStream::connect(path),
    }
}

fn connect_tcp(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = Err(io::ErrorKind::NotFound.into());
    for address in addresses {
        last = TcpStream::connect_timeout(address, CONNECT_TIMEOUT);
        if last.is_ok() {
            break;
        }
    }
    last
}

pub(crate) fn unreachable(endpoint: &str, reason: String) -> BenchError {
    BenchError::Unreachable { endpoint: endpoint.to_owned(), reason }
}

/// The kind of an error, without the number that it has on this system.
pub(crate) fn words(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::ConnectionRefused {
        "connection refused".to_owned()
    } else if kind == io::ErrorKind::NotFound {
        "there is no such socket".to_owned()
    } else if kind == io::ErrorKind::TimedOut {
        "no answer in time".to_owned()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, time::Instant};

    use super::*;

    const WAIT: Option<Duration> = Some(Duration::from_secs(5));

    #[test]
    fn streams_of_both_kinds_carry_bytes_until_they_are_closed() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let unix = UnixListener::bind(&path).unwrap();
        let endpoints =
            [format!("tcp://{}", tcp.local_addr().unwrap()), format!("ipc://{}", path.display())];
        let mut streams = Streams::new().unwrap();
        for endpoint in &endpoints {
            streams.connect(endpoint, &Target::of(endpoint).unwrap()).unwrap();
        }
        let mut tcp = tcp.accept().unwrap().0;
        let mut unix = unix.accept().unwrap().0;
        for (index, peer) in [(0, &mut tcp as &mut dyn ReadWrite), (1, &mut unix)] {
            let written = streams.write(index, &[IoSlice::new(b"he"), IoSlice::new(b"llo")]);
            assert_eq!(written, Output::Written(5));
            let mut bytes = [0; 5];
            peer.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"hello");
            peer.write_all(b"world").unwrap();
            let mut ready = Vec::new();
            while !ready.contains(&index) {
                streams.wait(WAIT, &mut ready).unwrap();
            }
            assert_eq!(streams.read(index), Input::Bytes(b"world"));
            assert_eq!(streams.read(index), Input::Nothing);
        }
        drop((tcp, unix));
        for index in [0, 1] {
            let mut ready = Vec::new();
            while streams.read(index) == Input::Nothing && streams.streams.contains(index) {
                streams.wait(WAIT, &mut ready).unwrap();
            }
            assert!(!streams.streams.contains(index));
        }
    }

    #[test]
    fn end_that_comes_with_the_last_bytes_is_read_behind_them() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let unix = UnixListener::bind(&path).unwrap();
        let endpoints =
            [format!("tcp://{}", tcp.local_addr().unwrap()), format!("ipc://{}", path.display())];
        let mut streams = Streams::new().unwrap();
        let [of_tcp, of_unix] = endpoints.map(|endpoint| {
            let target = Target::of(&endpoint).unwrap();
            streams.connect(&endpoint, &target).unwrap()
        });
        // What each of them has said is closed before the first look.
        tcp.accept().unwrap().0.write_all(b"bye").unwrap();
        unix.accept().unwrap().0.write_all(b"bye").unwrap();

        let mut came = [of_tcp, of_unix].map(|index| (index, Vec::new(), false));
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut ready = Vec::new();
        while came.iter().any(|(_, _, is_closed)| !is_closed) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{came:?}");
            streams.wait(Some(left), &mut ready).unwrap();
            for (index, bytes, is_closed) in &mut came {
                if !ready.contains(index) {
                    continue;
                }
                match streams.read(*index) {
                    Input::Bytes(read) => bytes.extend_from_slice(read),
                    Input::Nothing => {}
                    Input::Closed => *is_closed = true,
                }
            }
        }

        assert!(came.iter().all(|(_, bytes, _)| bytes == b"bye"), "{came:?}");
    }

    #[test]
    fn zones_are_names_or_numbers() {
        let by_name = Target::of("tcp://[fe80::1%lo]:7").unwrap();
        let Target::Tcp(addresses) = by_name else { panic!("{by_name:?}") };
        let [SocketAddr::V6(address)] = addresses.as_slice() else { panic!("{addresses:?}") };
        assert!(address.scope_id() > 0 && address.port() == 7, "{address}");

        let by_number = format!("tcp://[fe80::1%{}]:7", address.scope_id());
        let Ok(Target::Tcp(same)) = Target::of(&by_number) else { panic!("{by_number}") };
        assert_eq!(same, addresses);

        for wrong in ["tcp://[fe80::1%no-such]:7", "tcp://[fe80::1%lo]:port"] {
            let error = Target::of(wrong).unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }

    trait ReadWrite: io::Read + io::Write {}
    impl<T: io::Read + io::Write> ReadWrite for T {}

    #[test]
    fn other_endpoints_are_refused_with_the_reason() {
        let error = Target::of("inproc://x").unwrap_err().to_string();
        assert!(error.contains("inproc://x") && error.contains("tcp:// and ipc://"), "{error}");
        let mut streams = Streams::new().unwrap();
        for endpoint in ["tcp://127.0.0.1:1", "ipc:///no/such/socket"] {
            let error = streams.connect(endpoint, &Target::of(endpoint).unwrap()).unwrap_err();
            assert!(matches!(error, BenchError::Unreachable { .. }), "{error}");
        }
    }
}
