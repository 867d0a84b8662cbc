//! Why a connection could not be made: connects once more, without libzmq, and looks at what comes.

mod mechanism;
mod welcome;

use std::{
    io,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use mdp_transport::Mechanism;
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
    let Some((keys, held)) = asked else {
        return compare(target, look(target, greet), Mechanism::Null);
    };
    let mut found = look(target, |stream| welcome::ask(stream, keys, held));
    if found == ConnectFailure::NotZmtp {
        // A libzmq with another mechanism may close before it has said anything.
        found = look(target, greet);
    }
    compare(target, found, Mechanism::Curve)
}

/// A ZMTP peer whose handshake failed may have another mechanism.
fn compare(target: &Target, found: ConnectFailure, offered: Mechanism) -> ConnectFailure {
    if found != ConnectFailure::Handshake {
        return found;
    }
    let compared = connect(target).and_then(|stream| mechanism::compare(stream, offered));
    compared.ok().flatten().unwrap_or(found)
}

/// What such a look at a new connection finds.
fn look(target: &Target, at: impl FnOnce(Socket) -> io::Result<ConnectFailure>) -> ConnectFailure {
    match connect(target).map(at) {
        Ok(found) => found.unwrap_or(ConnectFailure::NotZmtp),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => ConnectFailure::Refused,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => ConnectFailure::TimedOut,
        Err(error) => ConnectFailure::Unreachable { reason: error.to_string() },
    }
}

fn connect(target: &Target) -> io::Result<Socket> {
    let socket = match target {
        Target::Tcp(address) => TcpStream::connect_timeout(address, EXAMINED_FOR)?.into(),
        Target::Unix(path) => connect_locally(path)?,
    };
    socket.set_read_timeout(Some(GREETED_WITHIN))?;
    socket.set_write_timeout(Some(GREETED_WITHIN))?;
    Ok(socket)
}

/// The path that libzmq means: `@` stands for the zero before an abstract name.
pub(super) fn path_of(text: &str) -> PathBuf {
    text.strip_prefix('@').map_or_else(|| text.into(), |name| format!("\0{name}").into())
}

/// Whose queue of connections is full is not waited for: it may stay full, and with it the thread.
fn connect_locally(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?).map_err(|error| {
        let is_full = error.kind() == io::ErrorKind::WouldBlock;
        if is_full { io::ErrorKind::TimedOut.into() } else { error }
    })?;
    socket.set_nonblocking(false)?;
    Ok(socket)
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

    use mdp_transport::SecretKey;

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

    /// A socket of libzmq, with these options, and where it listens.
    fn router(set: impl FnOnce(&zmq::Socket)) -> (zmq::Socket, Target) {
        let router = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        set(&router);
        router.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = router.get_last_endpoint().unwrap().unwrap();
        let address = endpoint.trim_start_matches("tcp://").parse().unwrap();
        (router, Target::Tcp(address))
    }

    #[test]
    fn mechanism_of_a_libzmq_that_closes_first_is_seen() {
        let secret = |number| SecretKey::from_bytes(&[number; 32]);
        let keys = LinkKeys::of(Some(secret(3)), Some(secret(1).public())).unwrap().unwrap();
        let (_null, plain) = router(|_| {});
        let (_curve, secured) = router(|router| {
            router.set_curve_server(true).unwrap();
            router.set_curve_secretkey(secret(1).to_z85().as_bytes()).unwrap();
        });
        let asked = Some((&keys, Held::Short));

        let wrong = |offered| ConnectFailure::WrongMechanism { offered };
        assert_eq!(examine(&plain, asked), wrong(Mechanism::Curve));
        assert_eq!(examine(&secured, None), wrong(Mechanism::Null));
        // What failed before is not known, and would succeed now.
        assert_eq!(examine(&plain, None), ConnectFailure::Handshake);
        assert_eq!(examine(&secured, asked), ConnectFailure::Handshake);
        let other = LinkKeys::of(Some(secret(3)), Some(secret(9).public())).unwrap().unwrap();
        let found = examine(&secured, Some((&other, Held::Short)));
        assert_eq!(found, ConnectFailure::WrongServerKey);
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
