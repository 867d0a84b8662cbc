//! How connections come, go and come again.

use super::*;

#[test]
fn node_that_comes_later_is_reached() {
    let mut net = Net::new(1, 2);
    net.places.clear();
    let caller = net.call(0, &endpoint(1), b"hello", 30 * SECOND);
    net.pass(5 * SECOND);
    net.place(1, Place::Node(1));
    net.pass(SECOND);
    assert_eq!(net.outcome(0, &caller), Some(Ok(b"re:hello".to_vec())));
}

#[test]
fn attempts_are_made_at_a_measured_pace() {
    let mut net = Net::new(2, 1);
    net.call(0, &endpoint(9), b"hello", 30 * SECOND);
    net.names.insert(endpoint(9), vec![address(9)]);
    net.pass(10 * SECOND);
    let totals = net.nodes[0].links.transport.totals();
    let attempts: u64 = totals.refused_by_reason().map(|(_, count)| count).sum();
    assert!((20..=100).contains(&attempts), "{attempts}");
    let lookups = net.nodes[0].lookups;
    assert!((5..=11).contains(&lookups), "{lookups}");
}

#[test]
fn no_attempt_is_made_while_there_is_nothing_to_send() {
    let mut net = Net::new(3, 1);
    net.names.insert(endpoint(9), vec![address(9)]);
    net.call(0, &endpoint(9), b"hello", SECOND);
    net.pass(SECOND);
    let before = net.nodes[0].links.transport.totals();
    net.pass(10 * SECOND);
    assert_eq!(net.nodes[0].links.transport.totals(), before);
}

#[test]
fn addresses_of_a_name_are_tried_in_turn() {
    let mut net = Net::new(4, 2);
    let name = "tcp://node:5556";
    net.place(7, Place::Hole);
    net.names.insert(name.to_owned(), vec![address(9), address(7), address(1)]);
    let caller = net.call(0, name, b"hello", 10 * SECOND);
    net.pass(5 * SECOND);
    assert_eq!(net.outcome(0, &caller), Some(Ok(b"re:hello".to_vec())));
}

#[test]
fn node_that_moved_is_found() {
    let mut net = Net::new(5, 3);
    let name = "tcp://node:5556";
    net.names.insert(name.to_owned(), vec![address(1)]);
    let first = net.call(0, name, b"first", SECOND);
    net.pass(SECOND);
    assert!(net.outcome(0, &first).unwrap().is_ok());

    net.places.remove(&address(1));
    net.cut(1);
    net.names.insert(name.to_owned(), vec![address(2)]);
    net.pass(SECOND);
    let second = net.call(0, name, b"second", 5 * SECOND);
    net.pass(5 * SECOND);
    assert!(net.outcome(0, &second).unwrap().is_ok());
    assert_eq!(net.totals(2).received, 1);
}

#[test]
fn dead_name_server_keeps_no_node_away_that_is_where_it_was() {
    let mut net = Net::new(11, 2);
    let name = "tcp://node:5556";
    net.names.insert(name.to_owned(), vec![address(1)]);
    let first = net.call(0, name, b"first", SECOND);
    net.pass(5 * SECOND);
    assert!(net.outcome(0, &first).unwrap().is_ok());

    net.is_name_server_dead = true;
    net.cut(1);
    let second = net.call(0, name, b"second", SECOND);
    net.pass(200 * MILLISECOND);
    assert_eq!(net.outcome(0, &second), Some(Ok(b"re:second".to_vec())));
    // While it can not be reached, it is asked for once, and tried on.
    net.places.clear();
    net.cut(1);
    let third = net.call(0, name, b"third", 10 * SECOND);
    net.pass(5 * SECOND);
    net.place(1, Place::Node(1));
    net.pass(SECOND);
    assert_eq!(net.outcome(0, &third), Some(Ok(b"re:third".to_vec())));
    assert_eq!(net.nodes[0].lookups, 2);
}

#[test]
fn name_that_stands_for_nothing_any_more_is_where_it_was() {
    let mut net = Net::new(12, 2);
    let name = "tcp://node:5556";
    net.names.insert(name.to_owned(), vec![address(1)]);
    net.call(0, name, b"first", SECOND);
    net.pass(2 * SECOND);
    net.names.clear();
    let place = net.places.remove(&address(1)).unwrap();
    net.cut(1);
    let lost = net.call(0, name, b"lost", 5 * SECOND);
    net.pass(5 * SECOND);
    assert_eq!(net.outcome(0, &lost), Some(Err(CallError::Refused)));
    net.places.insert(address(1), place);
    let caller = net.call(0, name, b"again", SECOND);
    net.pass(SECOND);
    assert_eq!(net.outcome(0, &caller), Some(Ok(b"re:again".to_vec())));
}

#[test]
fn look_up_that_is_answered_after_it_was_given_up_counts() {
    let mut net = Net::new(13, 2);
    let name = "tcp://node:5556";
    net.is_name_server_dead = true;
    let caller = net.call(0, name, b"x", 60 * SECOND);
    net.pass(15 * SECOND);
    let key = PeerKey { endpoint: name.to_owned(), lane: Lane::Control, node: None };
    net.nodes[0].links.handle_located(net.now, &key, &[address(1)]);
    net.pass(SECOND);
    assert_eq!(net.outcome(0, &caller), Some(Ok(b"re:x".to_vec())));
}

#[test]
fn lost_connection_is_made_again_to_the_address_that_worked() {
    let mut net = Net::new(14, 2);
    let name = "tcp://node:5556";
    net.place(7, Place::Hole);
    net.names.insert(name.to_owned(), vec![address(9), address(1), address(7)]);
    net.call(0, name, b"first", 10 * SECOND);
    net.pass(5 * SECOND);
    assert_eq!(net.dialled, [address(9), address(1)]);
    net.cut(1);
    let second = net.call(0, name, b"second", SECOND);
    net.pass(200 * MILLISECOND);
    assert_eq!(net.outcome(0, &second), Some(Ok(b"re:second".to_vec())));
    assert_eq!(net.dialled, [address(9), address(1), address(1)]);
    // If that is not there any more, the next one has its turn.
    net.places.remove(&address(1));
    net.cut(1);
    net.call(0, name, b"third", SECOND);
    net.pass(SECOND);
    assert_eq!(net.dialled[3..5], [address(1), address(7)]);
}

#[test]
fn request_of_which_nothing_was_written_goes_by_the_next_connection_and_the_others_are_not_repeated()
 {
    let mut net = Net::new(6, 2);
    net.nodes[1].service = Service::Hold;
    net.call(0, &endpoint(1), b"connected", 30 * SECOND);
    net.pass(10 * MILLISECOND);
    // The kernel takes a part of the second one, and no more.
    net.streams[0].is_stuck[1] = true;
    let second = net.call(0, &endpoint(1), &vec![2; WINDOW_BYTES + (100 << 10)], 30 * SECOND);
    let third = net.call(0, &endpoint(1), b"third", 30 * SECOND);
    net.pass(100 * MILLISECOND);
    net.cut(1);
    net.nodes[1].service = Service::Echo;
    net.pass(SECOND);

    // It may have been executed, and its caller need not wait for an answer that can not come.
    assert_eq!(net.outcome(0, &second), Some(Err(CallError::Unreachable)));
    assert_eq!((net.totals(0).lost, net.totals(0).timed_out), (2, 0));
    assert_eq!(net.outcome(0, &third), Some(Ok(b"re:third".to_vec())));
    assert_eq!((net.totals(0).sent, net.totals(1).received), (3, 2));
}

#[test]
fn unused_connection_is_kept_for_a_minute_and_then_closed() {
    let mut net = Net::new(7, 2);
    let caller = net.call(0, &endpoint(1), b"hello", SECOND);
    net.pass(59 * SECOND);
    assert!(net.outcome(0, &caller).is_some());
    assert_eq!((net.connections(0), net.connections(1)), (1, 1));
    net.pass(2 * SECOND);
    assert_eq!((net.connections(0), net.connections(1)), (0, 0));
    assert_eq!(net.nodes[0].links.poll_timeout(), None);
}

#[test]
fn silent_node_is_given_up_within_two_seconds() {
    let mut net = Net::new(8, 2);
    net.call(0, &endpoint(1), b"hello", SECOND);
    net.pass(SECOND);
    // It stands still: nothing is read, nothing is answered.
    net.streams[0].is_stuck = [true; 2];
    net.pass(2 * SECOND);
    assert_eq!((net.connections(0), net.connections(1)), (0, 0));
}

#[test]
fn node_that_is_busy_with_a_large_message_is_not_silent() {
    let mut net = Net::new(9, 2);
    let caller = net.call(0, &endpoint(1), &vec![7; 3 * WINDOW_BYTES], 60 * SECOND);
    net.pass(10 * MILLISECOND);
    // Slow enough to take longer than any deadline of a silent peer.
    for _ in 0..40 {
        net.streams[0].is_stuck[1] = true;
        net.pass(200 * MILLISECOND);
        net.streams[0].is_stuck[1] = false;
        net.turn();
    }
    net.pass(SECOND);
    assert!(net.outcome(0, &caller).unwrap().is_ok());
    assert_eq!(net.totals(0).sent, 1);
}

#[test]
fn pause_of_this_process_ends_no_connection() {
    let mut net = Net::new(10, 2);
    net.call(0, &endpoint(1), b"hello", SECOND);
    net.pass(SECOND);
    // Both stand still, as two programs of one machine that is suspended.
    net.now += 3 * SECOND / 2;
    net.pass(SECOND);
    assert_eq!((net.connections(0), net.connections(1)), (1, 1));
    let caller = net.call(0, &endpoint(1), b"again", SECOND);
    net.pass(10 * MILLISECOND);
    assert!(net.outcome(0, &caller).unwrap().is_ok());
    assert_eq!(net.totals(0).sent, 2);
}
