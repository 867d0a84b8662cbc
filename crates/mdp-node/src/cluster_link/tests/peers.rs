//! Other programs at the port: nodes of 0.1.0, whose sockets are libzmq's, and programs that are no nodes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use super::*;

/// A socket as a node of 0.1.0 has it.
fn libzmq(kind: zmq::SocketType) -> zmq::Socket {
    let socket = zmq::Context::new().socket(kind).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvtimeo(i32::try_from(DEADLINE.as_millis()).unwrap()).unwrap();
    socket.set_handshake_ivl(1_000).unwrap();
    socket
}

/// Where a node calls this one from.
fn dealer(to: &ClusterLink, routing_id: &[u8]) -> zmq::Socket {
    let dealer = libzmq(zmq::DEALER);
    dealer.set_heartbeat_ivl(300).unwrap();
    dealer.set_heartbeat_timeout(1_000).unwrap();
    dealer.set_heartbeat_ttl(1_000).unwrap();
    if !routing_id.is_empty() {
        dealer.set_identity(routing_id).unwrap();
    }
    dealer.connect(&address(to)).unwrap();
    dealer
}

fn ask(dealer: &zmq::Socket, id: u64, body: &[u8]) {
    dealer.send_multipart([id.to_le_bytes().as_slice(), body], 0).unwrap();
}

fn connect(to: &ClusterLink) -> TcpStream {
    let address: SocketAddr = to.endpoint().socket_address().unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Reads until the other side closes.
fn read_to_end(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// Resident bytes of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

#[test]
fn node_of_the_last_release_calls_this_one() {
    let runtime = runtime();
    let b = echoing(&runtime);
    let dealer = dealer(&b, b"");
    for round in 0..3_u64 {
        for size in [0, 1, 300, 1 << 20] {
            let body = vec![7; size];
            ask(&dealer, round, &body);
            let answer = dealer.recv_multipart(0).unwrap();
            assert_eq!(answer.first().unwrap(), &round.to_le_bytes());
            assert_eq!(answer.get(1).unwrap().strip_prefix(b"re:".as_slice()), Some(&*body));
        }
        // Longer than either side lets the other be silent.
        thread::sleep(Duration::from_millis(1_200));
    }
    assert_eq!(b.counters().totals().received, 12);
    assert_eq!(b.counters().totals().malformed, 0);
}

#[test]
fn this_node_calls_one_of_the_last_release() {
    let runtime = runtime();
    let a = link(&runtime);
    let router = libzmq(zmq::ROUTER);
    router.set_router_mandatory(true).unwrap();
    router.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = router.get_last_endpoint().unwrap().unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let node = thread::spawn(move || {
        router.set_rcvtimeo(50).unwrap();
        while !over.load(Ordering::Relaxed) {
            let Ok(frames) = router.recv_multipart(0) else { continue };
            let [peer, id, request] = frames.as_slice() else { panic!("{frames:?}") };
            let answer = [b"re:".as_slice(), request].concat();
            // A caller that is gone calls again.
            match router.send_multipart([peer.as_slice(), id, &answer], 0) {
                Ok(()) | Err(zmq::Error::EHOSTUNREACH) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    // A machine on which libzmq's thread does not run for a second ends the connection, and the call that is
    // on it. The caller is told at once, and calls again.
    let answered = |request: &[u8]| loop {
        match call(&runtime, &a, &endpoint, request, DEADLINE) {
            Ok(answer) => return answer,
            Err(error) => assert_eq!(error, CallError::Unreachable),
        }
    };
    for round in 0..3 {
        for size in [0, 1 << 20] {
            let request = vec![7; size];
            let answer = answered(&request);
            assert!(answer.strip_prefix(b"re:".as_slice()) == Some(&request), "{size}");
        }
        if round < 2 {
            thread::sleep(Duration::from_millis(1_200));
        }
    }
    is_over.store(true, Ordering::Relaxed);
    node.join().unwrap();
    until("all is counted", || a.counters().totals().sent >= 6);
}

#[test]
fn two_peers_that_claim_one_routing_id_get_their_own_answers() {
    let runtime = runtime();
    let b = echoing(&runtime);
    let (one, other) = (dealer(&b, b"node"), dealer(&b, b"node"));
    for round in 0..100 {
        ask(&one, round, b"one");
        ask(&other, round, b"other");
        assert_eq!(one.recv_multipart(0).unwrap()[1], b"re:one");
        assert_eq!(other.recv_multipart(0).unwrap()[1], b"re:other");
    }
}

#[test]
fn endless_message_ends_its_connection_and_takes_no_memory() {
    const CONNECTIONS: usize = 12;
    let runtime = runtime();
    let (a, b) = (link(&runtime), echoing(&runtime));
    let before = resident_bytes();
    let attackers: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = connect(&b);
            thread::spawn(move || {
                let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1];
                bytes.extend(b"NULL");
                bytes.resize(64, 0);
                bytes.extend(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER");
                // A correlation id, and frames of 1 MiB without end.
                bytes.extend(b"\x01\x0812345678");
                let mut written = stream.write_all(&bytes).map(|()| 0_u64);
                let frame = [b"\x03\0\0\0\0\0\x10\0\0".as_slice(), &[7; 1 << 20]].concat();
                while let Ok(count) = written {
                    assert!(count < 1_000, "the node reads on and on");
                    written = stream.write_all(&frame).map(|()| count + 1);
                }
            })
        })
        .collect();
    for attacker in attackers {
        attacker.join().unwrap();
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 512 << 20, "{grown}");
    assert!(call(&runtime, &a, &address(&b), b"hello", DEADLINE).is_ok());
    until("all are counted", || b.counters().totals().malformed >= 1);
    assert_eq!(b.counters().totals().received, 1);
}

#[test]
fn garbage_ends_its_connection_and_disturbs_no_call() {
    let runtime = runtime();
    let (a, b) = (link(&runtime), echoing(&runtime));
    assert!(call(&runtime, &a, &address(&b), b"hello", DEADLINE).is_ok());
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0x16, 3, 1, 2, 0, 1], &[7; 300]] {
        let mut stream = connect(&b);
        stream.write_all(bytes).unwrap();
        read_to_end(stream);
        assert!(call(&runtime, &a, &address(&b), b"hello", DEADLINE).is_ok());
    }
    until("all are counted", || b.counters().totals().malformed == 3);
    assert_eq!(a.counters().totals().sent, a.counters().totals().answered);
}

#[test]
fn silent_connections_keep_no_node_out() {
    let runtime = runtime();
    let (a, b) = (link(&runtime), echoing(&runtime));
    let silent: Vec<TcpStream> = (0..500).map(|_| connect(&b)).collect();
    for lane in [Lane::Control, Lane::Bulk] {
        let call = a.caller().call(&address(&b), lane, b"hello".to_vec(), DEADLINE);
        assert_eq!(runtime.block_on(call), Ok(b"re:hello".to_vec()));
    }
    silent.into_iter().for_each(read_to_end);
}

#[test]
fn port_that_accepts_and_says_nothing_does_not_answer() {
    let runtime = runtime();
    let a = link(&runtime);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("tcp://{}", listener.local_addr().unwrap());
    assert_eq!(call(&runtime, &a, &silent, b"hello", LONG), Err(CallError::Timeout));
}
