//! Which nodes get a link, and which do not.

use std::collections::BTreeMap;

use mdp_wire::relay::{AtOrigin, Hello, RefusalReason, WireRange};

use super::{
    network::{StrangerAt, VISITORS_MAX},
    *,
};

fn hello(node: &str, epoch: u64, session: u64) -> Hello {
    Hello {
        wire: WIRE,
        version: "0.0.9".to_owned(),
        cluster: "c".to_owned(),
        node: node.to_owned(),
        epoch,
        wanted: "node-1".to_owned(),
        session,
    }
}

/// A network with one node.
fn alone(wire: WireRange) -> (Network, NodeAt) {
    let mut network = Network::new();
    let at = network.start_at("node-1", 7, 100, wire);
    (network, at)
}

fn say(network: &mut Network, at: StrangerAt, hello: &Hello) {
    network.say(at, |writer| hello.encode(writer));
}

fn say_frames(network: &mut Network, at: StrangerAt, frames: &[&[u8]]) {
    use mdp_wire::{FrameSink as _, Part, Position};
    network.say(at, |writer| {
        for (index, frame) in frames.iter().enumerate() {
            let is_last = index + 1 == frames.len();
            let position = if is_last { Position::Last } else { Position::More };
            writer.put(Part::<SharedFrame>::Bytes(frame), position)?;
        }
        Ok(())
    });
}

/// The next message that is no sign of life.
fn heard(network: &mut Network, at: StrangerAt) -> AtOrigin<Vec<u8>> {
    loop {
        let said = AtOrigin::decode(WIRE, &mut network.heard(at)).unwrap();
        if said != AtOrigin::Ping {
            return said;
        }
    }
}

fn refusal(network: &mut Network, at: StrangerAt) -> RefusalReason {
    let AtOrigin::Refusal(refusal) = heard(network, at) else { panic!("no refusal") };
    assert_eq!((refusal.node.as_str(), refusal.version.as_str()), ("node-1", "0.0.1"));
    refusal.reason
}

#[test]
fn other_wire_version_is_refused_by_both_sides() {
    let mut network = Network::new();
    let one = network.start("node-1", 1);
    let other = network.start_at("node-2", 1, 9, WireRange { min: 2, max: 3 });
    network.join_all();

    network.until("both are refused", |network| {
        [one, other].iter().all(|at| {
            let totals = network.node(*at).links.totals();
            let count = |by: &BTreeMap<&str, u64>| by.get("wrong_version").copied().unwrap_or(0);
            count(&totals.refused) >= 2 && count(&totals.refused_here) >= 2
        })
    });

    let [one, other] = [one, other].map(|at| network.node(at));
    assert!(one.told.is_empty() && other.told.is_empty());
    // The names are in the log, once for each.
    assert_eq!(one.links.ledger.complaints(), [("node-2".to_owned(), "wrong_version")]);
    assert_eq!(other.links.ledger.complaints(), [("node-1".to_owned(), "wrong_version")]);
}

#[test]
fn version_that_is_known_to_both_is_chosen() {
    let (mut network, at) = alone(WireRange { min: 1, max: 4 });
    network.join(at, &[]);
    let dealer = network.stranger(at);
    let range = WireRange { min: 2, max: 3 };
    say(&mut network, dealer, &Hello { wire: range, ..hello("node-2", 1, 1) });

    let AtOrigin::Welcome(welcome) = heard(&mut network, dealer) else { panic!("no welcome") };

    assert_eq!((welcome.wire, welcome.node.as_str(), welcome.epoch), (3, "node-1", 7));
    let up = Input::LinkUp { link: LinkId(1), role: LinkRole::Owner };
    assert_eq!(network.node(at).told, [up]);
}

#[test]
fn foreign_clusters_wrong_nodes_and_bad_names_are_refused() {
    let (mut network, at) = alone(WIRE);
    let early = network.stranger(at);
    say(&mut network, early, &hello("node-2", 1, 1));
    assert_eq!(refusal(&mut network, early), RefusalReason::NotReady);
    network.join(at, &[]);
    for (wrong, reason) in [
        (Hello { cluster: "d".to_owned(), ..hello("node-2", 1, 1) }, RefusalReason::WrongCluster),
        (Hello { wanted: "node-3".to_owned(), ..hello("node-2", 1, 1) }, RefusalReason::WrongNode),
        (hello("node-1", 1, 1), RefusalReason::WrongNode),
        (hello("no node", 1, 1), RefusalReason::Malformed),
        (
            Hello { wire: WireRange { min: 2, max: 9 }, ..hello("node-2", 1, 1) },
            RefusalReason::WrongVersion { min: 1, max: 1 },
        ),
    ] {
        let dealer = network.stranger(at);
        say(&mut network, dealer, &wrong);
        assert_eq!(refusal(&mut network, dealer), reason);
    }
    assert!(network.node(at).told.is_empty());
}

#[test]
fn node_that_is_another_one_than_it_should_be_gets_no_requests() {
    let mut network = Network::new();
    let (one, other) = (network.start("node-1", 1), network.start("node-2", 1));
    network.join(other, &[]);
    let nodes = [(name("node-3"), network.address(other).1)];
    network.join(one, &nodes);

    network.until("a refusal", |network| {
        network.node(one).links.totals().refused_here.get("wrong_node") >= Some(&2)
    });

    assert!([one, other].iter().all(|at| network.node(*at).told.is_empty()));
}

#[test]
fn newer_link_of_a_node_takes_the_place_of_its_older_one() {
    let (mut network, at) = alone(WIRE);
    network.join(at, &[]);
    let [first, second, late] = [(); 3].map(|()| network.stranger(at));
    say(&mut network, first, &hello("node-2", 5, 2));
    assert!(matches!(heard(&mut network, first), AtOrigin::Welcome(_)));

    say(&mut network, second, &hello("node-2", 5, 3));
    assert!(matches!(heard(&mut network, second), AtOrigin::Welcome(_)));
    say(&mut network, late, &hello("node-2", 5, 1));
    assert_eq!(refusal(&mut network, late), RefusalReason::Superseded);

    let role = LinkRole::Owner;
    let node = network.node(at);
    assert_eq!(
        node.told,
        [
            Input::LinkUp { link: LinkId(1), role },
            Input::LinkDown { link: LinkId(1), unsent: Vec::new() },
            Input::LinkUp { link: LinkId(2), role },
        ]
    );
    assert_eq!(node.lost(LinkLoss::Replaced), 1);
    assert!(network.is_closed(first) && !network.is_closed(second));
}

#[test]
fn messages_without_a_greeting_and_garbage_are_refused_and_counted() {
    let (mut network, at) = alone(WIRE);
    network.join(at, &[]);
    let late = network.stranger(at);
    say_frames(&mut network, late, &[b"\x0c\x01\0\x05\0\0\0\0\0\0\0"]);
    assert_eq!(refusal(&mut network, late), RefusalReason::NotLinked);
    for garbage in [&b""[..], b"MDPC01", b"\xff\xff\xff\xff"] {
        let dealer = network.stranger(at);
        say_frames(&mut network, dealer, &[garbage, b"x"]);
        assert_eq!(refusal(&mut network, dealer), RefusalReason::Malformed);
    }
    network.pass(Duration::from_millis(100));
    assert_eq!(network.node(at).links.totals().malformed, 3);
    assert!(network.node(at).told.is_empty());

    let linked = network.stranger(at);
    say(&mut network, linked, &hello("node-2", 1, 1));
    assert!(matches!(heard(&mut network, linked), AtOrigin::Welcome(_)));
    say_frames(&mut network, linked, &[b"garbage"]);
    assert_eq!(refusal(&mut network, linked), RefusalReason::Malformed);
    let node = network.node(at);
    assert_eq!((node.links(LinkRole::Owner), node.lost(LinkLoss::Malformed)), (0, 1));
    network.pass(VISIT_TIME_MAX * 2);
    assert!(network.is_closed(linked) && network.is_closed(late));
}

#[test]
fn bytes_that_are_no_zmtp_end_their_connection_and_no_link() {
    let (mut network, one, other) = pair();
    let garbage = network.raw_stranger(other, &[0xff; 4_096]);
    let http = network.raw_stranger(other, b"GET / HTTP/1.1\r\n\r\n");
    let node = network.node_mut(one);
    let link = node.to_owner().unwrap();
    node.send(link, forward(1, 10));
    network.until("a request, and both are closed", |network| {
        let has_come = network.node(other).requests().len() == 1;
        has_come && network.is_closed(garbage) && network.is_closed(http)
    });

    assert!(network.node(other).downs().is_empty());
    let complaints = network.node(other).links.ledger.complaints();
    assert_eq!(complaints.len(), 1, "of one address one line: {complaints:?}");
    assert_eq!(network.node(other).links.totals().malformed, 2);
}

#[test]
fn endless_message_of_a_stranger_is_cut_short() {
    let (mut network, at) = alone(WIRE);
    network.join(at, &[]);
    let dealer = network.stranger(at);
    let piece = vec![7; VISITOR_MESSAGE_BYTES_MAX / 4];
    say_frames(&mut network, dealer, &[piece.as_slice(); 8]);

    network.until("it is closed", |network| network.is_closed(dealer));

    assert_eq!(network.node(at).links.totals().malformed, 1);
    assert!(network.node(at).told.is_empty());
}

#[test]
fn silent_connections_are_closed_and_do_not_keep_nodes_out() {
    let (mut network, at) = alone(WIRE);
    network.join(at, &[]);
    let silent: Vec<_> = (0..3 * VISITORS_MAX).map(|_| network.raw_stranger(at, &[])).collect();
    network.pass(Duration::from_millis(10));
    let open = silent.iter().filter(|it| !network.is_closed(**it)).count();
    assert!(open <= VISITORS_MAX, "{open}");
    let node = network.stranger(at);
    say(&mut network, node, &hello("node-2", 1, 1));
    assert!(matches!(heard(&mut network, node), AtOrigin::Welcome(_)));
    network.pass(VISIT_TIME_MAX);
    assert!(silent.iter().all(|it| network.is_closed(*it)));
}

#[test]
fn connection_that_says_nothing_is_closed_without_a_complaint() {
    let (mut network, at) = alone(WIRE);
    let silent = network.raw_stranger(at, &[]);

    network.until("it is closed", |network| network.is_closed(silent));

    let node = network.node(at);
    assert_eq!((node.links.totals().malformed, node.links.ledger.complaints()), (0, Vec::new()));
}

#[test]
fn node_that_never_answers_is_given_up_and_tried_again() {
    let (mut network, at) = alone(WIRE);
    let deaf = network.start("node-2", 1);
    network.node_mut(deaf).is_paused = true;
    let nodes = [network.address(deaf)];
    network.join(at, &nodes);
    let begun = network.now;

    network.until("three attempts", |network| network.node(at).dialled.len() == 3);

    let took = network.now - begun;
    assert!(took >= HANDSHAKE_TIME_MAX * 2 && took < Duration::from_secs(3), "{took:?}");
    assert!(network.node(at).told.is_empty());
}

#[test]
fn node_that_leaves_the_catalog_while_it_is_greeted_leaves_nothing_behind() {
    for is_dialled_only in [true, false] {
        let (mut network, at) = alone(WIRE);
        let other = network.start("node-2", 1);
        // It accepts and says nothing, or introduces itself and does not answer the greeting.
        network.node_mut(other).is_paused = is_dialled_only;
        network.node_mut(other).is_dazed = !is_dialled_only;
        let nodes = [network.address(other)];
        network.join(at, &nodes);
        network.settle();
        assert!(!network.node_mut(at).links.transport().is_empty());

        network.join(at, &[]);
        network.settle();
        assert!(network.node_mut(at).links.transport().is_empty());
        network.pass(Duration::from_secs(5));
        assert_eq!(network.node(at).links.totals().malformed, 0);
    }
}

#[test]
fn refusals_of_a_connection_have_a_limit() {
    let (mut network, at) = alone(WIRE);
    network.join(at, &[]);
    let dealer = network.stranger(at);
    for _ in 0..20 {
        say_frames(&mut network, dealer, &[b"\x0c\x01\0\x05\0\0\0\0\0\0\0"]);
    }
    for _ in 0..8 {
        assert_eq!(refusal(&mut network, dealer), RefusalReason::NotLinked);
    }
    network.pass(Duration::from_secs(1));
    assert_eq!(network.unheard(dealer), 0);
}
