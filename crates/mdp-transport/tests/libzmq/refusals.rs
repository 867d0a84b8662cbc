//! How a refusal ends decides whether libzmq comes back.

use std::{
    io::ErrorKind,
    net::TcpListener,
    time::{Duration, Instant},
};

use mdp_transport::{Ending, Mechanism};

use crate::peer::{Peer, Turn, listen, socket};

/// How long to count connections: libzmq tries again after 100 ms.
const WINDOW: Duration = Duration::from_millis(1_000);

/// How often a socket of libzmq connects within the window; each connection is treated alike.
fn connections(
    configure: impl Fn(&zmq::Context) -> zmq::Socket,
    treat: impl Fn(&mut Peer),
) -> usize {
    let context = zmq::Context::new();
    let client = configure(&context);
    let (listener, address) = listen();
    client.connect(&format!("tcp://{address}")).unwrap();
    let until = Instant::now() + WINDOW;
    treat(&mut Peer::accept(&listener));
    listener.set_nonblocking(true).unwrap();
    let mut count = 1;
    while Instant::now() < until {
        if is_waiting(&listener) {
            count += 1;
        }
    }
    count
}

/// Whether another connection came; it is closed at once.
fn is_waiting(listener: &TcpListener) -> bool {
    match listener.accept() {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            std::thread::yield_now();
            false
        }
        Err(error) => panic!("{error}"),
    }
}

fn plain(context: &zmq::Context) -> zmq::Socket {
    let client = socket(context, zmq::DEALER);
    client.set_plain_username(Some("name")).unwrap();
    client.set_plain_password(Some("secret")).unwrap();
    client
}

#[test]
fn libzmq_with_another_mechanism_does_not_come_back() {
    let count = connections(plain, |peer| {
        let ending = Ending::Mechanism(Some(Mechanism::Plain));
        assert_eq!(peer.ending(), Turn::Ended(ending));
    });
    assert_eq!(count, 1);
}

#[test]
fn libzmq_with_a_wrong_kind_of_socket_does_not_come_back() {
    let publisher = |context: &zmq::Context| socket(context, zmq::PUSH);
    let count = connections(publisher, |peer| {
        // libzmq itself sees that a PUSH does not fit to a ROUTER, and may close first.
        assert!([Turn::Ended(Ending::SocketType), Turn::Closed].contains(&peer.ending()));
    });
    assert_eq!(count, 1);
}

#[test]
fn libzmq_that_is_closed_without_a_word_comes_back() {
    let dealer = |context: &zmq::Context| socket(context, zmq::DEALER);
    let count = connections(dealer, |peer| peer.until(|peer| peer.introduction.is_some()));
    assert!(count >= 3, "{count}");
}
