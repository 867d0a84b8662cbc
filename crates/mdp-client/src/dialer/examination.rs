//! Why a connection could not be made: connects once more, without libzmq, and looks at what comes.

mod welcome;

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::{ConnectFailure, keys::LinkKeys};

/// How long an examination waits for a connection.
const EXAMINED_FOR: Duration = Duration::from_secs(1);

/// How long it waits for a program that listens to say something.
const GREETED_WITHIN: Duration = Duration::from_millis(300);

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// How long a broker took to end a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    /// As long as one that does not know a key waits for it to be made known.
    Long,
    Short,
}

/// Why no connection to this target was made; with keys, whether the broker's is the right one.
pub(super) fn examine(target: &Target, asked: Option<(&LinkKeys, Held)>) -> ConnectFailure {
    let greeted = match target {
        Target::Tcp(address) => TcpStream::connect_timeout(address, EXAMINED_FOR)
            .map(|stream| greet_by_tcp(&stream, asked)),
        Target::Unix(path) => connect_locally(path).map(|stream| greet_locally(&stream, asked)),
    };
    match greeted {
        Ok(greeted) => greeted.unwrap_or(ConnectFailure::NotZmtp),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => ConnectFailure::Refused,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => ConnectFailure::TimedOut,
        Err(error) => ConnectFailure::Unreachable { reason: error.to_string() },
    }
}

/// The path that libzmq means: `@` stands for the zero before an abstract name.
pub(super) fn path_of(text: &str) -> PathBuf {
    text.strip_prefix('@').map_or_else(|| text.into(), |name| format!("\0{name}").into())
}

/// Whose queue of connections is full is not waited for: it may stay full, and with it the thread.
fn connect_locally(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?).map_err(|error| {
        let is_full = error.kind() == io::ErrorKind::WouldBlock;
        if is_full { io::ErrorKind::TimedOut.into() } else { error }
    })?;
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

fn greet_by_tcp(
    stream: &TcpStream,
    asked: Option<(&LinkKeys, Held)>,
) -> io::Result<ConnectFailure> {
    stream.set_read_timeout(Some(GREETED_WITHIN))?;
    stream.set_write_timeout(Some(GREETED_WITHIN))?;
    match asked {
        None => greet(stream),
        Some((keys, held)) => welcome::ask(stream, keys, held),
    }
}

fn greet_locally(
    stream: &UnixStream,
    asked: Option<(&LinkKeys, Held)>,
) -> io::Result<ConnectFailure> {
    stream.set_read_timeout(Some(GREETED_WITHIN))?;
    stream.set_write_timeout(Some(GREETED_WITHIN))?;
    match asked {
        None => greet(stream),
        Some((keys, held)) => welcome::ask(stream, keys, held),
    }
}

/// What a program that takes connections says. A ZMTP peer greets without being asked, with `ff`; an
/// HTTP server waits for a request.
fn greet(mut stream: impl io::Read + io::Write) -> io::Result<ConnectFailure> {
    let mut greeting = [0; 5];
    let is_silent = match stream.read(&mut greeting) {
        Ok(count) => count == 0,
        Err(_) => true,
    };
    if is_silent {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        stream.read_exact(&mut greeting)?;
    }
    Ok(match greeting {
        [0xff, ..] => ConnectFailure::Handshake,
        _ if greeting == *b"HTTP/" => ConnectFailure::Http,
        _ => ConnectFailure::NotZmtp,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        os::unix::net::UnixListener,
        thread,
    };

    use super::*;

    /// What is found out about a program that answers like this once.
    fn examined(answer: impl FnOnce(TcpStream) + Send + 'static) -> ConnectFailure {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || answer(listener.accept().unwrap().0));
        let failure = examine(&Target::Tcp(address), None);
        server.join().unwrap();
        failure
    }

    #[test]
    fn programs_that_are_no_brokers_are_told_apart() {
        let http = examined(|mut stream| {
            let mut request = [0; 18];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n").unwrap();
        });
        let zmtp = examined(|mut stream| stream.write_all(b"\xff\0\0\0\0\0\0\0\x01\x7f").unwrap());
        let ssh = examined(|mut stream| stream.write_all(b"SSH-2.0-x\r\n").unwrap());
        let closed = examined(drop);

        let expected = [ConnectFailure::Http, ConnectFailure::Handshake, ConnectFailure::NotZmtp];
        assert_eq!([http, zmtp, ssh], expected);
        assert_eq!(closed, ConnectFailure::NotZmtp);
    }

    #[test]
    fn port_without_a_listener_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);

        assert_eq!(examine(&Target::Tcp(address), None), ConnectFailure::Refused);
    }

    #[test]
    fn path_without_a_listener_is_told_from_one_without_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients");
        let missing = examine(&Target::Unix(path.clone()), None);
        assert!(matches!(missing, ConnectFailure::Unreachable { .. }), "{missing:?}");
        assert!(missing.to_string().contains("No such file"), "{missing}");

        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(examine(&Target::Unix(path), None), ConnectFailure::Refused);
        let abstract_name = examine(&Target::Unix(path_of("@no-such-name")), None);
        assert_eq!(abstract_name, ConnectFailure::Refused);
    }

    #[test]
    fn path_whose_listener_takes_no_connections_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let _waits = connect_locally(&path).unwrap();

        assert_eq!(examine(&Target::Unix(path), None), ConnectFailure::TimedOut);
    }
}
