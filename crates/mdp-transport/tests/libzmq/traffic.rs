//! Messages of every shape, both ways.

use mdp_transport::{Mechanism, SharedFrame, SocketType};

use crate::peer::{Peer, body, listen, socket};

/// Around each size at which something changes: the length of the header, the copy, the buffer.
const SIZES: [usize; 18] = [
    0, 1, 254, 255, 256, 257, 1_023, 1_024, 4_095, 4_096, 4_097, 16_383, 16_384, 16_385, 65_535,
    65_536, 65_537, 3_000_000,
];

fn shapes() -> Vec<Vec<usize>> {
    let mut shapes: Vec<Vec<usize>> = SIZES.iter().map(|size| vec![*size]).collect();
    shapes.extend(SIZES.iter().map(|size| vec![0, *size, 0]));
    shapes.push(SIZES.to_vec());
    shapes.push(vec![0; 1_000]);
    shapes.push(vec![0, 6, 4, 64]);
    shapes
}

/// Sends every shape by a socket of libzmq, echoes it, and compares what comes back.
fn echo(kind: zmq::SocketType, expected: SocketType) {
    [0, 1].into_iter().for_each(|minor| echo_in_version(kind, expected, minor));
}

fn echo_in_version(kind: zmq::SocketType, expected: SocketType, minor: u8) {
    let context = zmq::Context::new();
    let client = socket(&context, kind);
    client.set_identity(b"a name").unwrap();
    let (listener, address) = listen();
    client.connect(&format!("tcp://{address}")).unwrap();
    let mut peer = Peer::accept(&listener);
    peer.minor = minor;
    // A ROUTER names the peer to which it sends, and can only when it knows it.
    let mut address_of_peer = Vec::new();
    peer.until(|peer| peer.introduction.is_some());
    if kind == zmq::ROUTER {
        peer.send(&[SharedFrame::from(b"hello".to_vec())]);
        peer.until(|_| true);
        peer.turn();
        address_of_peer = client.recv_multipart(0).unwrap().swap_remove(0);
    }
    for shape in shapes() {
        let frames: Vec<Vec<u8>> = shape.iter().map(|size| body(*size)).collect();
        let mut sent = frames.clone();
        if kind == zmq::ROUTER {
            sent.insert(0, address_of_peer.clone());
        }
        client.send_multipart(sent, 0).unwrap();
        peer.until(|peer| !peer.messages.is_empty());
        let message = peer.messages.remove(0);
        let came: Vec<&[u8]> = message.frames.iter().map(AsRef::as_ref).collect();
        // A REQ puts an empty frame in front, and takes it off.
        let skip = usize::from(kind == zmq::REQ);
        assert_eq!(came[skip..], frames, "{shape:?}");
        peer.send(&message.frames);
        peer.until(|_| client.poll(zmq::POLLIN, 0).unwrap() > 0);
        let back = client.recv_multipart(0).unwrap();
        let skip = usize::from(kind == zmq::ROUTER);
        assert_eq!(back[skip..], frames, "{shape:?}");
    }
    let introduction = peer.introduction.unwrap();
    assert_eq!(introduction.socket_type, expected);
    assert_eq!(&*introduction.routing_id, b"a name");
    assert_eq!((introduction.minor, introduction.mechanism), (minor, Mechanism::Null));
}

#[test]
fn messages_of_a_dealer_of_libzmq_come_back_as_they_were() {
    echo(zmq::DEALER, SocketType::Dealer);
}

#[test]
fn messages_of_a_req_of_libzmq_come_back_as_they_were() {
    echo(zmq::REQ, SocketType::Req);
}

#[test]
fn messages_of_a_router_of_libzmq_come_back_as_they_were() {
    echo(zmq::ROUTER, SocketType::Router);
}

#[test]
fn connection_that_dials_a_router_of_libzmq_is_served() {
    let context = zmq::Context::new();
    let server = socket(&context, zmq::ROUTER);
    server.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = server.get_last_endpoint().unwrap().unwrap();
    let mut peer = Peer::dial(endpoint.trim_start_matches("tcp://").parse().unwrap());
    peer.until(|peer| peer.introduction.is_some());
    assert_eq!(peer.introduction.as_ref().unwrap().socket_type, SocketType::Router);
    peer.send(&[SharedFrame::default(), SharedFrame::from(body(300))]);
    peer.turn();
    let frames = server.recv_multipart(0).unwrap();
    assert_eq!(frames[1..], [vec![], body(300)]);
    server.send_multipart(frames, 0).unwrap();
    peer.until(|peer| !peer.messages.is_empty());
    assert_eq!(peer.messages[0].frames[1].as_ref(), body(300));
}

#[test]
fn dealer_of_libzmq_that_pings_stays_connected() {
    let context = zmq::Context::new();
    let client = socket(&context, zmq::DEALER);
    client.set_heartbeat_ivl(20).unwrap();
    client.set_heartbeat_timeout(200).unwrap();
    client.set_heartbeat_ttl(1_000).unwrap();
    let (listener, address) = listen();
    client.connect(&format!("tcp://{address}")).unwrap();
    let mut peer = Peer::accept(&listener);
    // A second is five time-outs.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(1);
    peer.until(|_| std::time::Instant::now() >= until);
    client.send("still here", 0).unwrap();
    peer.until(|peer| !peer.messages.is_empty());
    assert_eq!(peer.messages[0].frames[0].as_ref(), b"still here");
}
