//! Calls and their outcomes.

use super::*;

#[test]
fn calls_are_answered_on_both_lanes_however_the_bytes_are_cut() {
    for seed in 0..20 {
        let mut net = Net::new(seed, 2);
        let mut callers = Vec::new();
        for number in 0..20_usize {
            for lane in [Lane::Control, Lane::Bulk] {
                let size = [0, 1, 300, 5_000, 70_000][number % 5];
                let request = vec![u8::try_from(number).unwrap(); size];
                let caller = net.call_on((0, lane), &endpoint(1), request.clone(), 10 * SECOND);
                callers.push((caller, request));
            }
        }
        net.pass(SECOND);

        for (caller, request) in callers {
            let expected = [b"re:".as_slice(), &request].concat();
            assert_eq!(net.outcome(0, &caller), Some(Ok(expected)), "seed {seed}");
        }
        let totals = net.totals(0);
        assert_eq!((totals.sent, totals.answered, totals.timed_out), (40, 40, 0), "seed {seed}");
        assert_eq!((net.totals(1).received, net.totals(1).dropped), (40, 0));
        assert_eq!((net.connections(0), net.connections(1)), (2, 2));
    }
}

#[test]
fn large_message_passes_and_a_longer_one_is_refused_at_once() {
    let mut net = Net::new(1, 2);
    let large = net.call(0, &endpoint(1), &vec![7; 8 << 20], 60 * SECOND);
    let too_long = net.call(0, &endpoint(1), &vec![7; CALL_BYTES_MAX + 1], 60 * SECOND);
    net.pass(SECOND);

    assert_eq!(net.outcome(0, &too_long), Some(Err(CallError::Unreachable)));
    let answer = net.outcome(0, &large).unwrap().unwrap();
    assert_eq!(answer.len(), (8 << 20) + 3);
}

#[test]
fn late_answer_meets_no_call() {
    let mut net = Net::new(2, 2);
    net.nodes[1].service = Service::Hold;
    let caller = net.call(0, &endpoint(1), b"slow", SECOND);
    net.pass(2 * SECOND);
    assert_eq!(net.outcome(0, &caller), Some(Err(CallError::Timeout)));

    let call = net.nodes[1].held.pop().unwrap();
    net.nodes[1].answer(net.now, call);
    net.pass(SECOND);

    let totals = net.totals(0);
    assert_eq!((totals.sent, totals.timed_out, totals.late_answers), (1, 1, 1));
    assert_eq!(net.nodes[0].outcomes.len(), 1);
}

#[test]
fn call_that_was_not_written_tells_why_at_its_deadline() {
    let mut net = Net::new(3, 1);
    net.place(8, Place::Hole);
    net.names.insert("tcp://moved:1".to_owned(), Vec::new());
    let refused = net.call(0, &endpoint(9), b"x", 2 * SECOND);
    net.names.insert(endpoint(9), vec![address(9)]);
    let unanswered = net.call(0, &endpoint(8), b"x", 2 * SECOND);
    let nameless = net.call(0, "tcp://moved:1", b"x", 2 * SECOND);
    net.pass(2 * SECOND - MILLISECOND);
    assert!(net.nodes[0].outcomes.is_empty());
    net.pass(MILLISECOND);

    assert_eq!(net.outcome(0, &refused), Some(Err(CallError::Refused)));
    assert_eq!(net.outcome(0, &unanswered), Some(Err(CallError::Timeout)));
    assert_eq!(net.outcome(0, &nameless), Some(Err(CallError::NoAddress)));
    let totals = net.totals(0);
    assert_eq!((totals.sent, totals.timed_out), (0, 3));
}

#[test]
fn call_of_a_caller_that_gave_up_is_not_sent() {
    let mut net = Net::new(4, 2);
    net.places.clear();
    let void = net.call(0, &endpoint(1), b"void", 10 * SECOND);
    net.pass(SECOND);
    void.has_given_up.store(true, Ordering::Relaxed);
    net.place(1, Place::Node(1));
    let wanted = net.call(0, &endpoint(1), b"wanted", 10 * SECOND);
    net.pass(SECOND);

    assert_eq!(net.outcome(0, &wanted), Some(Ok(b"re:wanted".to_vec())));
    assert_eq!(net.totals(1).received, 1);
}

#[test]
fn calls_of_one_peer_are_bounded_in_number_and_bytes() {
    let mut net = Net::new(5, 1);
    net.place(8, Place::Hole);
    for _ in 0..CALLS_PER_PEER_MAX {
        net.call(0, &endpoint(8), b"x", SECOND);
    }
    let one_more = net.call(0, &endpoint(8), b"x", SECOND);
    for _ in 0..2 {
        net.call_on((0, Lane::Bulk), &endpoint(8), vec![0; CALL_BYTES_MAX], SECOND);
    }
    let too_much = net.call_on((0, Lane::Bulk), &endpoint(8), vec![0], SECOND);
    net.pass(10 * MILLISECOND);

    assert_eq!(net.outcome(0, &one_more), Some(Err(CallError::Busy)));
    assert_eq!(net.outcome(0, &too_much), Some(Err(CallError::Busy)));
    assert_eq!(net.totals(0).refused, 2);
    net.pass(SECOND);
    assert_eq!(net.totals(0).timed_out, CALLS_PER_PEER_MAX as u64 + 2);
}

#[test]
fn no_more_nodes_are_called_than_there_can_be() {
    let mut net = Net::new(6, 1);
    for number in 0..DIALLED_MAX {
        net.call(0, &format!("tcp://node-{number}:1"), b"x", SECOND);
    }
    let one_more = net.call(0, "tcp://node:1", b"x", SECOND);
    net.pass(10 * MILLISECOND);
    assert_eq!(net.outcome(0, &one_more), Some(Err(CallError::Unreachable)));
}

#[test]
fn calls_of_others_are_bounded_in_number() {
    let mut net = Net::new(7, 4);
    for from in 1..4 {
        net.call(from, &endpoint(0), b"known", SECOND);
        net.call_on((from, Lane::Bulk), &endpoint(0), b"known".to_vec(), SECOND);
    }
    net.pass(SECOND);
    net.nodes[0].service = Service::Hold;
    for from in 1..4 {
        for _ in 0..CALLS_PER_PEER_MAX {
            net.call(from, &endpoint(0), b"x", 10 * SECOND);
        }
    }
    net.pass(SECOND);
    assert_eq!(net.nodes[0].held.len(), INCOMING_CALLS_MAX);
    let all = 3 * CALLS_PER_PEER_MAX;
    let totals = net.totals(0);
    assert_eq!(totals.received, all as u64 + 6);
    assert_eq!(totals.dropped, (all - INCOMING_CALLS_MAX) as u64);

    // Whether a call was answered or given up, its place is free.
    let call = net.nodes[0].held.pop().unwrap();
    net.nodes[0].answer(net.now, call);
    net.nodes[0].held.pop();
    for _ in 0..3 {
        net.call_on((1, Lane::Bulk), &endpoint(0), vec![1], 10 * SECOND);
    }
    net.pass(SECOND);
    assert_eq!(net.nodes[0].held.len(), INCOMING_CALLS_MAX);
}

#[test]
fn calls_of_others_are_bounded_in_bytes() {
    const BYTES: usize = 20 << 20;
    let mut net = Net::new(8, 2);
    for lane in [Lane::Control, Lane::Bulk] {
        net.call_on((0, lane), &endpoint(1), b"known".to_vec(), SECOND);
    }
    net.pass(SECOND);
    net.nodes[1].service = Service::Hold;
    for number in 0..8 {
        let lane = if number % 2 == 0 { Lane::Control } else { Lane::Bulk };
        net.call_on((0, lane), &endpoint(1), vec![7; BYTES], 60 * SECOND);
        net.pass(10 * MILLISECOND);
    }
    net.pass(SECOND);
    let room = INCOMING_CALLS_BYTES_MAX / BYTES;
    assert_eq!(net.nodes[1].held.len(), room);
    assert_eq!(net.totals(1).dropped, 8 - room as u64);

    net.nodes[1].held.clear();
    net.call(0, &endpoint(1), &vec![7; BYTES], 60 * SECOND);
    net.pass(SECOND);
    assert_eq!(net.nodes[1].held.len(), 1);
}

#[test]
fn one_connection_leaves_half_of_the_room_to_others() {
    const BYTES: usize = 20 << 20;
    let mut net = Net::new(11, 3);
    for from in [1, 2] {
        net.call(from, &endpoint(0), b"known", SECOND);
    }
    net.pass(SECOND);
    net.nodes[0].service = Service::Hold;
    for _ in 0..CALLS_PER_PEER_MAX {
        net.call(1, &endpoint(0), b"x", SECOND);
    }
    // Their time is up for the one that calls, and not for the one that answers.
    net.pass(2 * SECOND);
    for _ in 0..CALLS_PER_PEER_MAX {
        net.call(1, &endpoint(0), b"x", SECOND);
    }
    net.pass(SECOND);
    assert_eq!(net.nodes[0].held.len(), INCOMING_CALLS_MAX / 2);
    assert_eq!(net.totals(0).dropped, CALLS_PER_PEER_MAX as u64);
    net.call(2, &endpoint(0), b"heartbeat", SECOND);
    net.pass(10 * MILLISECOND);
    assert_eq!(net.nodes[0].held.pop().unwrap().request, b"heartbeat");

    net.nodes[0].held.clear();
    for _ in 0..6 {
        net.call(1, &endpoint(0), &vec![7; BYTES], 60 * SECOND);
        net.pass(10 * MILLISECOND);
    }
    net.pass(SECOND);
    assert_eq!(net.nodes[0].held.len(), INCOMING_CALLS_BYTES_MAX / 2 / BYTES);
}

#[test]
fn connections_without_an_answer_leave_three_quarters_of_the_room_to_others() {
    let mut net = Net::new(12, 4);
    net.call(1, &endpoint(0), b"known", SECOND);
    net.pass(SECOND);
    net.nodes[0].service = Service::Hold;
    for from in [2, 3] {
        for _ in 0..CALLS_PER_PEER_MAX {
            net.call(from, &endpoint(0), b"x", SECOND);
        }
    }
    net.pass(SECOND);
    assert_eq!(net.nodes[0].held.len(), INCOMING_CALLS_MAX / 4);
    for _ in 0..CALLS_PER_PEER_MAX {
        net.call(1, &endpoint(0), b"x", SECOND);
    }
    net.pass(SECOND);
    assert_eq!(net.nodes[0].held.len(), INCOMING_CALLS_MAX / 4 + CALLS_PER_PEER_MAX);
}

#[test]
fn old_obstacle_is_not_told_to_a_later_call() {
    let mut net = Net::new(13, 1);
    net.names.insert(endpoint(9), vec![address(9)]);
    let first = net.call(0, &endpoint(9), b"x", SECOND);
    net.pass(5 * SECOND);
    net.place(9, Place::Hole);
    let second = net.call(0, &endpoint(9), b"x", 400 * MILLISECOND);
    net.pass(SECOND);
    assert_eq!(net.outcome(0, &first), Some(Err(CallError::Refused)));
    assert_eq!(net.outcome(0, &second), Some(Err(CallError::Timeout)));
}

#[test]
fn calls_are_dropped_before_they_are_served() {
    let mut net = Net::new(9, 2);
    net.nodes[1].links = ClusterLinks::new(net.now, LIMITS, 1);
    let early = net.call(0, &endpoint(1), b"early", SECOND);
    net.pass(2 * SECOND);
    assert_eq!(net.outcome(0, &early), Some(Err(CallError::Timeout)));
    assert_eq!((net.totals(1).received, net.totals(1).dropped), (1, 1));

    net.nodes[1].links.begin_serving();
    let later = net.call(0, &endpoint(1), b"later", SECOND);
    net.pass(SECOND);
    assert_eq!(net.outcome(0, &later), Some(Ok(b"re:later".to_vec())));
}

#[test]
fn answer_to_a_caller_that_is_gone_is_counted() {
    let mut net = Net::new(10, 2);
    net.nodes[1].service = Service::Hold;
    net.call(0, &endpoint(1), b"x", SECOND);
    net.pass(10 * MILLISECOND);
    net.cut(1);
    net.pass(10 * MILLISECOND);
    let call = net.nodes[1].held.pop().unwrap();
    net.nodes[1].answer(net.now, call);
    net.pass(10 * MILLISECOND);
    assert_eq!(net.totals(1).lost_answers, 1);
}
