//! Whether a broker can still be reached.

use std::{
    io,
    net::TcpStream,
    time::{Duration, Instant},
};

use mio::net::UnixStream;

use crate::{
    BenchError,
    sockets::streams::{Target, unreachable, words},
};

/// How long the first connection may take, for a broker far away.
const FIRST_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a connection may take while measuring: it must not hold up replies that come after all.
const AGAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// After this time without a reply the broker may be gone.
const SILENCE: Duration = Duration::from_millis(250);

/// Asks the broker's address when replies stop coming.
#[derive(Debug)]
pub(crate) struct Reach {
    target: Target,
    replies: u64,
    last_reply_at: Instant,
    asked_at: Instant,
}

impl Reach {
    /// Connects once.
    ///
    /// # Errors
    /// There is no such host, or no program listens there.
    pub(crate) fn start(endpoint: &str) -> Result<Self, BenchError> {
        let target = Target::of(endpoint)?;
        let now = Instant::now();
        let reach = Self { target, replies: 0, last_reply_at: now, asked_at: now };
        match reach.connect(FIRST_TIMEOUT) {
            Ok(()) => Ok(reach),
            Err(error) => Err(unreachable(endpoint, words(&error))),
        }
    }

    /// Takes note of how many replies there are. When there are no more for a while: why the broker is
    /// gone, if it is, or if it has closed the connection of a client.
    pub(crate) fn look(&mut self, now: Instant, replies: u64, is_cut: bool) -> Option<String> {
        if replies != self.replies {
            (self.replies, self.last_reply_at) = (replies, now);
            return None;
        }
        let quiet_since = self.last_reply_at.max(self.asked_at);
        if now.saturating_duration_since(quiet_since) < SILENCE {
            return None;
        }
        self.asked_at = now;
        if let Err(error) = self.connect(AGAIN_TIMEOUT)
            && is_gone(&error)
        {
            return Some(words(&error));
        }
        // All else may be a broker that is busy, or a network that is.
        is_cut.then(|| String::from("it closed a connection"))
    }

    /// When the last reply came.
    pub(crate) const fn last_reply_at(&self) -> Instant {
        self.last_reply_at
    }

    fn connect(&self, timeout: Duration) -> io::Result<()> {
        let addresses = match &self.target {
            Target::Tcp(addresses) => addresses,
            Target::Unix(path) => return connect_unix(path),
        };
        let mut last = Ok(());
        for address in addresses {
            last = TcpStream::connect_timeout(address, timeout).map(drop);
            if last.is_ok() {
                break;
            }
        }
        last
    }
}

/// It does not wait: a queue of connections that is full has a broker behind it.
fn connect_unix(path: &str) -> io::Result<()> {
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        connected => connected.map(drop),
    }
}

/// Whether no program listens there any more. A broker that ends in order removes its Unix socket.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixListener};

    use super::*;

    #[test]
    fn port_without_a_listener_is_refused_with_the_endpoint_and_the_reason() {
        let refused = Reach::start("tcp://127.0.0.1:1").unwrap_err();
        assert!(matches!(refused, BenchError::Unreachable { .. }), "{refused}");
        assert!(refused.to_string().contains("tcp://127.0.0.1:1: connection refused"), "{refused}");

        for endpoint in ["tcp://no-such-host.invalid:1", "ipc:///no/such/socket", "inproc://x"] {
            let unknown = Reach::start(endpoint).unwrap_err();
            assert!(matches!(unknown, BenchError::Unreachable { .. }), "{unknown}");
        }
    }

    #[test]
    fn broker_is_gone_when_replies_stop_and_its_port_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        let mut reach = Reach::start(&endpoint).unwrap();
        let start = Instant::now();
        let at = |silences: u32| start + SILENCE * silences;

        assert_eq!(reach.look(at(1), 7, false), None);
        assert_eq!(reach.look(at(3), 7, false), None);
        drop(listener);
        assert_eq!(reach.look(at(4), 8, false), None);
        assert_eq!(reach.look(at(4) + SILENCE / 2, 8, false), None);

        assert_eq!(reach.look(at(6), 8, false), Some("connection refused".to_owned()));
        assert_eq!(reach.last_reply_at(), at(4));
    }

    #[test]
    fn broker_at_a_unix_socket_is_gone_with_its_listener_or_with_its_file() {
        for removes_its_file in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("clients");
            let listener = UnixListener::bind(&path).unwrap();
            let mut reach = Reach::start(&format!("ipc://{}", path.display())).unwrap();
            let start = Instant::now();

            assert_eq!(reach.look(start + SILENCE * 2, 0, false), None);
            drop(listener);
            if removes_its_file {
                std::fs::remove_file(&path).unwrap();
            }

            let wanted =
                if removes_its_file { "there is no such socket" } else { "connection refused" };
            assert_eq!(reach.look(start + SILENCE * 4, 0, false), Some(wanted.to_owned()));
        }
    }

    #[test]
    fn broker_that_closed_a_connection_and_is_still_there_is_lost_when_replies_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reach = Reach::start(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
        let start = Instant::now();

        assert_eq!(reach.look(start, 1, true), None);
        let lost = reach.look(start + SILENCE * 2, 1, true);
        assert_eq!(lost, Some("it closed a connection".to_owned()));
    }
}
