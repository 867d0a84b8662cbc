//! Links that end.

use super::{network::WINDOW_BYTES, *};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn owner_that_ends_is_noticed_and_found_again_at_another_port() {
    let (mut network, one, other) = pair();
    let link = network.node(one).to_owner().unwrap();
    network.kill(other);

    let begun = network.now;
    network.until("the loss", |network| network.node(one).to_owner().is_none());
    assert!(network.now - begun < Duration::from_millis(10), "{:?}", network.now - begun);

    let other = network.start("node-2", 13);
    network.join_all();
    network.until("another link", |network| {
        let [one, other] = [one, other].map(|at| network.node(at));
        one.to_owner().is_some() && other.to_owner().is_some() && other.to_origin().is_some()
    });
    assert!(network.node(one).to_owner().unwrap() > link);
}

#[test]
fn owner_that_starts_again_at_the_same_port_is_found_again() {
    let mut network = Network::new();
    let (one, other) = (network.start("node-1", 11), network.start_at("node-2", 12, 9, WIRE));
    network.join_all();
    network.until("a link", |network| network.node(one).to_owner().is_some());
    network.kill(other);
    network.until("the loss", |network| network.node(one).to_owner().is_none());
    network.pass(SECOND * 10);

    let other = network.start_at("node-2", 13, 9, WIRE);
    network.join(other, &[]);
    let begun = network.now;
    network.until("another link", |network| network.node(one).to_owner().is_some());
    assert!(network.now - begun < SECOND, "{:?}", network.now - begun);
}

#[test]
fn origin_that_ends_is_noticed_at_once() {
    let (mut network, one, other) = pair();
    let link = network.node(other).to_origin().unwrap();
    network.kill(one);

    let begun = network.now;
    network.until("the loss", |network| network.node(other).to_origin().is_none());

    assert!(network.now - begun < Duration::from_millis(10), "{:?}", network.now - begun);
    assert!(network.node(other).downs().contains(&(link, Vec::new())));
}

#[test]
fn requests_of_which_nothing_was_written_are_certainly_not_sent() {
    let (mut network, one, other) = pair();
    network.node_mut(other).is_paused = true;
    let node = network.node_mut(one);
    let link = node.to_owner().unwrap();
    for id in 0..100 {
        node.send(link, forward(id, 10_000));
    }
    network.settle();
    network.kill(other);
    network.settle();

    let downs = network.node(one).downs();
    let (_, unsent) = downs.iter().find(|(down, _)| *down == link).unwrap();
    // The first ones fill the network; each of the others is named, and one was written in part.
    let written = u64::try_from(WINDOW_BYTES / 10_000).unwrap() + 1;
    assert_eq!(*unsent, (written..100).collect::<Vec<_>>());
}

#[test]
fn requests_for_a_link_that_is_gone_are_certainly_not_sent() {
    let (mut network, one, other) = pair();
    network.kill(other);
    let now = network.now;
    let node = network.node_mut(one);
    let link = node.to_owner().unwrap();
    // The engine does not know yet, and goes on.
    let connection = node.links.send_to_owner(link, forward(1, 10)).unwrap();
    node.links.transport().closed(connection);
    node.send(link, forward(2, 10));
    node.send(link, ToOwner::Cancel(ForwardId(1)));
    node.links.take_events(now);
    node.send(link, forward(3, 10));

    node.take_inputs(now);

    assert_eq!(node.downs(), [(link, vec![1, 2, 3])]);
}

#[test]
fn nothing_stale_reaches_a_later_link() {
    let (mut network, one, other) = pair();
    let origin = network.node(other).to_origin().unwrap();
    let now = network.now;
    let owner = network.node(one).to_owner().unwrap();
    for id in 0..500 {
        network.node_mut(one).send(owner, forward(id, 1_000));
        network.node_mut(other).links.send_to_origin(now, origin, reply(id, 1_000));
    }
    // Both sides have much on its way when the link ends.
    network.join(one, &[]);
    network.node_mut(one).is_paused = true;
    network.pass(SECOND * 3);
    network.node_mut(one).is_paused = false;
    network.until("no link", |network| network.node(one).to_owner().is_none());
    let nodes = [network.address(other)];
    network.join(one, &nodes);
    network.until("another link", |network| {
        let is_newer = network.node(other).to_origin().is_some_and(|link| link > origin);
        network.node(one).to_owner().is_some() && is_newer
    });
    let before = network.node(one).answers().len();

    let newer = network.node(one).to_owner().unwrap();
    network.node_mut(one).send(newer, forward(1_000, 10));
    let newer = network.node(other).to_origin().unwrap();
    network.until("a request", |network| network.node(other).requests().contains(&(newer, 1_000)));
    let now = network.now;
    network.node_mut(other).links.send_to_origin(now, newer, returned(1_000));
    network.until("an answer", |network| network.node(one).answers().len() > before);

    assert_eq!(network.node(one).answers()[before..], [1_000]);
    let requests = network.node(other).requests();
    let of_newer = requests.into_iter().filter(|(link, _)| *link == newer);
    assert_eq!(of_newer.map(|(_, id)| id).collect::<Vec<_>>(), [1_000]);
}

#[test]
fn origin_for_which_too_much_waits_is_given_up() {
    let (mut network, one, other) = pair();
    network.node_mut(one).is_paused = true;
    let origin = network.node(other).to_origin().unwrap();
    let bytes = 8 << 20;
    let mut id = 0;
    while network.node(other).links.totals().lost.is_empty() {
        let now = network.now;
        let node = network.node_mut(other);
        assert!(id < 100, "{:?}", node.links.totals());
        id += 1;
        node.links.send_to_origin(now, origin, reply(id, bytes));
        network.settle();
        assert!(network.node(other).links.totals().waiting_bytes <= LINK_BYTES_MAX + 2 * bytes);
    }

    let node = network.node(other);
    assert_eq!(node.lost(LinkLoss::Overflowed), 1);
    assert!(node.downs().contains(&(origin, Vec::new())));
    let totals = node.links.totals();
    assert_eq!((totals.waiting_messages, totals.waiting_bytes), (0, 0));
    assert!(totals.undelivered > 30, "{}", totals.undelivered);
}

#[test]
fn what_waits_for_an_origin_arrives_in_order_when_it_reads_again() {
    let (mut network, one, other) = pair();
    network.node_mut(one).is_paused = true;
    let now = network.now;
    let node = network.node_mut(other);
    let origin = node.to_origin().unwrap();
    for id in 1..=100 {
        node.links.send_to_origin(now, origin, reply(id, 10_000));
    }
    network.settle();
    assert!(network.node(other).links.totals().waiting_messages > 5);
    network.pass(LINK_STALLED_AFTER / 2);
    network.node_mut(one).is_paused = false;

    network.until("all comes", |network| network.node(one).answers().len() == 100);

    assert_eq!(network.node(one).answers(), (1..=100).collect::<Vec<_>>());
    assert!(network.node(other).downs().is_empty());
    assert_eq!(network.node(other).links.totals().waiting_bytes, 0);
}

#[test]
fn pause_of_the_whole_machine_ends_no_link() {
    let (mut network, one, other) = pair();
    for pause in [600, 900, 1_100, 1_900, 2_500, 20_000] {
        network.pass(SECOND);
        network.stand_still(Duration::from_millis(pause));
        network.pass(SECOND);

        for at in [one, other] {
            let node = network.node(at);
            assert_eq!(node.downs(), [], "{pause} ms: {:?}", node.links.totals().lost);
        }
    }
}

#[test]
fn node_that_stands_still_is_given_up_by_both_kinds_of_ends() {
    let (mut network, one, other) = pair();
    network.node_mut(other).is_paused = true;

    let begun = network.now;
    network.until("it is given up", |network| {
        let node = network.node(one);
        node.to_owner().is_none() && node.to_origin().is_none()
    });

    let took = network.now - begun;
    let expected = CONNECTION_PING_INTERVAL + CONNECTION_SILENT_MAX;
    assert!(took >= CONNECTION_SILENT_MAX && took <= expected + SECOND / 10, "{took:?}");
    assert_eq!(network.node(one).lost(LinkLoss::Silent), 2);
}

#[test]
fn network_that_is_cut_is_noticed_by_both_sides_and_found_again() {
    let (mut network, one, other) = pair();
    network.cut(one, other);
    let begun = network.now;
    network.until("both notice", |network| {
        let gone =
            |at| network.node(at).to_owner().is_none() && network.node(at).to_origin().is_none();
        gone(one) && gone(other)
    });
    assert!(network.now - begun < SECOND * 2, "{:?}", network.now - begun);

    network.until("other links", |network| {
        let there =
            |at| network.node(at).to_owner().is_some() && network.node(at).to_origin().is_some();
        there(one) && there(other)
    });
}

#[test]
fn owner_that_answers_pings_and_says_nothing_else_is_given_up() {
    let (mut network, one, other) = pair();
    let link = network.node(one).to_owner().unwrap();
    network.node_mut(other).is_dazed = true;

    let begun = network.now;
    network.until("it is given up", |network| network.node(one).to_owner() != Some(link));

    let took = network.now - begun;
    assert!(took >= OWNER_SILENT_MAX - PING_INTERVAL && took <= OWNER_SILENT_MAX * 2, "{took:?}");
    assert_eq!(network.node(one).lost(LinkLoss::Silent), 1);
}

#[test]
fn origin_that_takes_nothing_is_given_up() {
    let (mut network, one, other) = pair();
    network.cut(one, other);
    let now = network.now;
    let node = network.node_mut(other);
    let origin = node.to_origin().unwrap();
    for id in 0..10 {
        node.links.send_to_origin(now, origin, reply(id, 100_000));
    }
    network.until("it is given up", |network| network.node(other).to_origin().is_none());

    let took = network.now - now;
    assert!(took <= LINK_STALLED_AFTER + SECOND / 10, "{took:?}");
    assert_eq!(network.node(other).lost(LinkLoss::Stalled), 1);
}

#[test]
fn message_that_takes_long_ends_no_link() {
    let (mut network, one, other) = pair();
    let now = network.now;
    let node = network.node_mut(other);
    let origin = node.to_origin().unwrap();
    node.links.send_to_origin(now, origin, reply(1, 4 << 20));
    // A few KiB in a tenth of a second: a minute and more.
    network.bytes_per_step = Some(4 << 10);

    let mut steps = 0..2_000;
    while network.node(one).answers().is_empty() {
        assert!(
            steps.next().is_some(),
            "it never comes: {:?} {:?}",
            network.node(one).links.totals(),
            network.node(other).links.totals()
        );
        network.step(Duration::from_millis(100));
    }

    assert_eq!(network.node(one).answers(), [1]);
    assert_eq!((network.node(one).downs(), network.node(other).downs()), (Vec::new(), Vec::new()));
}
