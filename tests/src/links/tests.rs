//! All ends of these connections belong to this very process, which is node 0 of two.

use super::*;

/// Long enough for what passes, short enough to wait for what does not.
const MOMENT: Duration = Duration::from_millis(100);

struct Pair {
    links: Links,
    server: TcpListener,
}

impl Pair {
    fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let links = Links::new(&[port, port]);
        links.own(0, std::process::id());
        Self { links, server }
    }

    /// A connection from node 0 to node 1, and its other end.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let caller = TcpStream::connect(self.links.door(1)).unwrap();
        let (called, _) = self.server.accept().unwrap();
        for stream in [&caller, &called] {
            stream.set_read_timeout(Some(MOMENT)).unwrap();
        }
        (caller, called)
    }
}

fn passes(mut from: &TcpStream, mut to: &TcpStream) -> bool {
    from.write_all(b"x").unwrap();
    to.read(&mut [0]).is_ok_and(|count| count == 1)
}

#[test]
fn open_taps_let_everything_pass() {
    let pair = Pair::new();
    let (caller, called) = pair.connect();

    assert!(passes(&caller, &called));
    assert!(passes(&called, &caller));
    drop(caller);
    assert_eq!((&called).read(&mut [0]).unwrap(), 0);
}

#[test]
fn held_direction_waits_and_the_other_flows() {
    let pair = Pair::new();
    let (caller, called) = pair.connect();

    pair.links.turn(0, 1, Tap::Held);

    assert!(!passes(&caller, &called));
    assert!(passes(&called, &caller));
    pair.links.heal();
    assert_eq!((&called).read(&mut [0]).unwrap(), 1);
}

#[test]
fn held_connection_is_not_made() {
    let pair = Pair::new();
    pair.server.set_nonblocking(true).unwrap();
    for (from, to) in [(0, 1), (1, 0)] {
        pair.links.turn(from, to, Tap::Held);
        let _caller = TcpStream::connect(pair.links.door(1)).unwrap();

        assert!(look_for(MOMENT, || pair.server.accept().ok()).is_none());

        pair.links.heal();
        assert!(look_for(TURN * 4, || pair.server.accept().ok()).is_some());
    }
}

#[test]
fn refused_connections_are_closed() {
    let pair = Pair::new();
    let (caller, called) = pair.connect();

    pair.links.turn(0, 1, Tap::Refused);

    for stream in [caller, called] {
        stream.set_read_timeout(Some(TURN * 4)).unwrap();
        assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn strangers_are_not_let_in() {
    let pair = Pair::new();
    pair.links.own(0, 1);
    let caller = TcpStream::connect(pair.links.door(1)).unwrap();

    caller.set_read_timeout(Some(OWNER_PATIENCE * 2)).unwrap();

    assert_eq!((&caller).read(&mut [0]).unwrap(), 0);
}

#[test]
fn cut_off_node_reaches_nobody() {
    let links = Links::new(&[(); 3].map(|()| crate::free_port()));

    links.cut_off(1);

    let tap = |from, to| *links.table.gate(from, to).tap.lock().unwrap();
    for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
        assert_eq!(tap(from, to), Tap::Held);
    }
    assert_eq!([tap(0, 2), tap(2, 0)], [Tap::Open, Tap::Open]);
}
