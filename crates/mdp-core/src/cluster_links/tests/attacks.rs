//! What programs can do that are no nodes.

use super::*;

/// What a libzmq DEALER says first, with a routing id.
fn introduction(routing_id: &[u8]) -> Vec<u8> {
    introduction_as(b"DEALER", routing_id)
}

/// The same of a DEALER or ROUTER.
fn introduction_as(socket_type: &[u8; 6], routing_id: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1];
    bytes.extend(b"NULL");
    bytes.resize(64, 0);
    let mut ready = b"\x05READY\x0bSocket-Type\0\0\0\x06".to_vec();
    ready.extend(socket_type);
    ready.extend(b"\x08Identity\0\0\0");
    ready.push(u8::try_from(routing_id.len()).unwrap());
    ready.extend(routing_id);
    bytes.extend([4, u8::try_from(ready.len()).unwrap()]);
    bytes.extend(ready);
    bytes
}

fn request(correlation: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, u8::try_from(correlation.len()).unwrap()];
    bytes.extend(correlation);
    bytes.extend([0, u8::try_from(body.len()).unwrap()]);
    bytes.extend(body);
    bytes
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A stranger that has introduced itself.
fn dealer(net: &mut Net, routing_id: &[u8]) -> usize {
    let stream = net.connect_raw(0).unwrap();
    net.write_raw(stream, &introduction(routing_id));
    net.pass(Duration::ZERO);
    stream
}

#[test]
fn two_peers_that_claim_one_routing_id_get_their_own_answers() {
    let mut net = Net::new(1, 1);
    let (one, other) = (dealer(&mut net, b"node"), dealer(&mut net, b"node"));
    net.write_raw(one, &request(b"12345678", b"one"));
    net.write_raw(other, &request(b"12345678", b"other"));
    net.pass(10 * MILLISECOND);
    let (one, other) = (net.read_raw(one), net.read_raw(other));
    assert!(contains(&one, b"re:one") && !contains(&one, b"re:other"));
    assert!(contains(&other, b"re:other") && !contains(&other, b"re:one"));
}

#[test]
fn what_is_no_request_is_counted_and_gets_no_answer() {
    let mut net = Net::new(2, 1);
    let stream = dealer(&mut net, b"");
    for bytes in [
        b"\x00\x01x".to_vec(),
        b"\x00\x0812345678".to_vec(),
        request(b"short", b"x"),
        b"\x01\x0812345678\x01\x01x\x00\x01y".to_vec(),
    ] {
        net.write_raw(stream, &bytes);
    }
    net.write_raw(stream, &request(b"12345678", b"hello"));
    net.pass(10 * MILLISECOND);
    assert_eq!((net.totals(0).malformed, net.totals(0).received), (4, 1));
    assert!(contains(&net.read_raw(stream), b"re:hello"));
}

#[test]
fn garbage_ends_its_connection_and_is_counted() {
    let mut net = Net::new(3, 1);
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0x16, 3, 1, 2, 0, 1], &[7; 100]] {
        let stream = net.connect_raw(0).unwrap();
        net.write_raw(stream, bytes);
        net.pass(10 * MILLISECOND);
        assert!(net.is_closed(stream), "{bytes:?}");
    }
    let stream = dealer(&mut net, b"");
    net.write_raw(stream, &[0xf0; 10]);
    net.pass(10 * MILLISECOND);
    assert!(net.is_closed(stream));
    assert_eq!((net.totals(0).malformed, net.connections(0)), (4, 0));
}

#[test]
fn endless_message_ends_its_connection() {
    let mut net = Net::new(4, 1);
    let stream = dealer(&mut net, b"");
    // Longer than allowed, by what it announces.
    let mut header = vec![3];
    header.extend((CALL_BYTES_MAX as u64 + 9).to_be_bytes());
    net.write_raw(stream, &header);
    net.pass(10 * MILLISECOND);
    assert!(net.is_closed(stream));

    // Ever more frames.
    let stream = dealer(&mut net, b"");
    net.write_raw(stream, &[1, 0].repeat(4));
    net.pass(10 * MILLISECOND);
    assert!(net.is_closed(stream));
    assert_eq!(net.totals(0).received, 0);
}

#[test]
fn unfinished_messages_of_all_are_bounded_together() {
    let mut net = Net::new(5, 1);
    let mut header = vec![1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 2];
    header.extend((CALL_BYTES_MAX as u64).to_be_bytes());
    let streams: Vec<usize> = (0..6).map(|_| dealer(&mut net, b"")).collect();
    for stream in &streams {
        net.write_raw(*stream, &header);
        net.write_raw(*stream, &vec![7; CALL_BYTES_MAX - 1]);
        while !net.streams[*stream].under_way[1].is_empty() && !net.is_closed(*stream) {
            net.turn();
        }
        let bytes = net.nodes[0].links.transport.totals().incoming_bytes;
        assert!(bytes <= INCOMING_BYTES_MAX, "{bytes}");
    }
    assert!(streams.iter().filter(|stream| net.is_closed(**stream)).count() >= 2);
}

#[test]
fn crowd_of_connections_does_not_end_those_of_nodes() {
    let mut net = Net::new(6, 2);
    net.call(1, &endpoint(0), b"first", SECOND);
    net.pass(10 * MILLISECOND);
    for number in 0_u32..2_000 {
        let stream = net.connect_raw(0);
        if number % 2 == 0
            && let Some(stream) = stream
        {
            net.write_raw(stream, &introduction(b""));
        }
        net.turn();
        assert!(net.connections(0) <= VISITORS_MAX + 1);
        net.streams.retain(|stream| !stream.is_closed.contains(&true));
    }
    let caller = net.call(1, &endpoint(0), b"second", SECOND);
    net.pass(10 * MILLISECOND);
    assert!(net.outcome(1, &caller).unwrap().is_ok());
    assert_eq!(net.totals(1).sent, 2);
    // And this node can still connect.
    let caller = net.call(0, &endpoint(1), b"third", SECOND);
    net.pass(10 * MILLISECOND);
    assert!(net.outcome(0, &caller).unwrap().is_ok());
}

#[test]
fn peers_that_were_answered_have_a_limit_too() {
    let mut net = Net::new(7, 2);
    for _ in 0..CALLERS_MAX + 2 * VISITORS_MAX {
        let stream = dealer(&mut net, b"");
        net.write_raw(stream, &request(b"12345678", b"x"));
        net.pass(Duration::ZERO);
    }
    assert_eq!(net.connections(0), CALLERS_MAX);
    // A node gets in among them and stays, because it is not the idlest one.
    let mut called_at = None;
    for _ in 0..2 * CALLERS_MAX {
        let node = net.call(1, &endpoint(0), b"node", SECOND);
        let stream = dealer(&mut net, b"");
        net.write_raw(stream, &request(b"12345678", b"x"));
        net.pass(10 * MILLISECOND);
        assert!(net.outcome(1, &node).unwrap().is_ok());
        let connection = net.nodes[1].links.transport.connections().next().map(|it| it.id);
        assert_eq!(*called_at.get_or_insert(connection), connection);
    }
    assert_eq!(net.connections(0), CALLERS_MAX);
    // There is room for connections that this node makes, and a newcomer is served.
    assert!(!net.nodes[0].links.transport.is_full());
    let stream = dealer(&mut net, b"");
    net.write_raw(stream, &request(b"12345678", b"newcomer"));
    net.pass(Duration::ZERO);
    assert!(contains(&net.read_raw(stream), b"re:newcomer"));
}

#[test]
fn caller_with_a_call_in_progress_outlives_the_idle_ones() {
    let mut net = Net::new(11, 1);
    let busy = dealer(&mut net, b"");
    net.write_raw(busy, &request(b"12345678", b"x"));
    net.pass(10 * MILLISECOND);
    net.nodes[0].service = Service::Hold;
    net.write_raw(busy, &request(b"12345678", b"long"));
    net.pass(10 * MILLISECOND);
    net.nodes[0].service = Service::Echo;
    for _ in 0..2 * CALLERS_MAX {
        let stream = dealer(&mut net, b"");
        net.write_raw(stream, &request(b"12345678", b"x"));
        net.pass(10 * MILLISECOND);
    }
    assert_eq!(net.connections(0), CALLERS_MAX);
    assert!(!net.is_closed(busy));
}

#[test]
fn crowd_that_says_nothing_ends_no_visitor_that_introduced_itself() {
    let mut net = Net::new(12, 1);
    let known: Vec<usize> = (0..10).map(|_| dealer(&mut net, b"")).collect();
    for _ in 0..3 * VISITORS_MAX {
        net.connect_raw(0).unwrap();
        net.turn();
    }
    assert_eq!(net.connections(0), VISITORS_MAX);
    assert!(known.iter().all(|stream| !net.is_closed(*stream)));
    // And a crowd that introduced itself does not keep newcomers from doing so.
    for _ in 0..3 * VISITORS_MAX {
        dealer(&mut net, b"");
    }
    let newcomer = net.connect_raw(0).unwrap();
    for _ in 0..10 {
        net.connect_raw(0).unwrap();
        net.turn();
    }
    assert!(!net.is_closed(newcomer));
}

#[test]
fn connection_that_says_nothing_is_no_complaint() {
    let mut net = Net::new(13, 1);
    let stream = net.connect_raw(0).unwrap();
    net.pass(2 * SECOND);
    assert!(net.is_closed(stream));
    assert_eq!(net.totals(0).malformed, 0);
}

#[test]
fn what_is_no_router_is_no_node() {
    let mut net = Net::new(14, 1);
    net.place(5, Place::Raw);
    let caller = net.call(0, &endpoint(5), b"x", 40 * MILLISECOND);
    net.turn();
    // As if a port were connected with itself.
    net.write_raw(0, &introduction(b""));
    net.pass(10 * MILLISECOND);
    assert!(net.is_closed(0));
    net.pass(30 * MILLISECOND);
    assert_eq!(net.outcome(0, &caller), Some(Err(CallError::Unreachable)));
    assert_eq!((net.totals(0).sent, net.totals(0).malformed), (0, 1));
}

#[test]
fn connection_whose_bytes_were_written_is_made_whatever_waits_since() {
    let mut net = Net::new(15, 1);
    net.place(5, Place::Raw);
    net.call(0, &endpoint(5), b"x", 5 * SECOND);
    net.turn();
    // The whole greeting, so that a READY waits that is not written: nothing is read there.
    net.write_raw(0, &introduction(b"")[..64]);
    net.streams[0].is_closed[1] = true;
    net.turn();
    let id = net.nodes[0].links.transport.connections().next().unwrap().id;
    assert!(net.nodes[0].links.transport.output_bytes(id) > 0);
    net.streams[0].is_closed[1] = false;
    net.streams[0].is_stuck[0] = true;
    net.pass(700 * MILLISECOND);
    assert_eq!(net.dialled.len(), 1);
    net.pass(SECOND);
    assert!(net.dialled.len() > 1, "its introduction has a deadline");
}

#[test]
fn peer_that_reads_no_answers_is_given_up() {
    let mut net = Net::new(8, 1);
    net.nodes[0].service = Service::Hold;
    let stream = dealer(&mut net, b"");
    for _ in 0..4 {
        net.write_raw(stream, &request(b"12345678", b"x"));
    }
    net.pass(10 * MILLISECOND);
    for call in std::mem::take(&mut net.nodes[0].held) {
        net.nodes[0].links.answer(net.now, call.caller, vec![7; 30 << 20]);
        net.turn();
    }
    assert!(net.is_closed(stream), "more waits for it than may");
    assert!(net.totals(0).lost_answers >= 2);
    assert!(net.nodes[0].links.transport.totals().outgoing_bytes == 0);
}

#[test]
fn answer_that_was_not_asked_for_meets_no_call() {
    let mut net = Net::new(9, 1);
    net.place(5, Place::Raw);
    let caller = net.call(0, &endpoint(5), b"x", SECOND);
    net.turn();
    net.write_raw(0, &introduction_as(b"ROUTER", b""));
    net.write_raw(0, &request(&[9; 8], b"wrong"));
    net.write_raw(0, &request(&1_u64.to_le_bytes(), b"right"));
    net.write_raw(0, &request(&1_u64.to_le_bytes(), b"again"));
    net.pass(10 * MILLISECOND);
    assert_eq!(net.outcome(0, &caller), Some(Ok(b"right".to_vec())));
    let totals = net.totals(0);
    assert_eq!((totals.answered, totals.late_answers, totals.received), (1, 2, 0));
}

#[test]
fn program_that_is_no_node_is_unreachable_and_tried_again() {
    let mut net = Net::new(10, 1);
    net.place(5, Place::Raw);
    let caller = net.call(0, &endpoint(5), b"x", 3 * SECOND);
    net.pass(10 * MILLISECOND);
    net.write_raw(0, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    net.pass(SECOND);
    assert!(net.streams.len() > 1);
    let last = net.streams.len() - 1;
    net.write_raw(last, &[7; 64]);
    net.pass(40 * MILLISECOND);
    assert!(net.totals(0).malformed >= 2);
    net.pass(2 * SECOND);
    let outcome = net.outcome(0, &caller);
    assert!(
        matches!(outcome, Some(Err(CallError::Unreachable | CallError::Timeout))),
        "{outcome:?}"
    );
}
