//! Who gets a link, and who does not.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
};

use mdp_wire::relay::{AtOrigin, Hello, RefusalReason};

use super::*;
use crate::version::VERSION;

/// A DEALER that plays a node.
fn stranger(end: &End) -> zmq::Socket {
    let dealer = zmq::Context::new().socket(zmq::DEALER).unwrap();
    dealer.set_linger(0).unwrap();
    dealer.connect(&end.links.endpoint().to_string()).unwrap();
    dealer
}

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

fn say(dealer: &zmq::Socket, hello: &Hello) {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    hello.encode::<Vec<u8>, _>(&mut frames).unwrap();
    dealer.send_multipart(frames, 0).unwrap();
}

/// The next message that is no sign of life.
fn heard(end: &mut End, dealer: &zmq::Socket) -> AtOrigin<Vec<u8>> {
    let begun = Instant::now();
    dealer.set_rcvtimeo(1).unwrap();
    loop {
        end.links.wake_all();
        end.turn();
        if let Ok(mut frames) = dealer.recv_multipart(0) {
            let said = AtOrigin::decode(WIRE, &mut frames).unwrap();
            if said != AtOrigin::Ping {
                return said;
            }
        }
        assert!(begun.elapsed() < DEADLINE, "nothing is said");
    }
}

fn refusal(end: &mut End, dealer: &zmq::Socket) -> RefusalReason {
    let AtOrigin::Refusal(refusal) = heard(end, dealer) else { panic!("no refusal") };
    assert_eq!((refusal.node.as_str(), refusal.version.as_str()), ("node-1", VERSION));
    refusal.reason
}

#[test]
fn other_wire_version_is_refused_by_both_sides() {
    let newer = WireRange { min: 2, max: 3 };
    let mut one = End::new("node-1", 1);
    let mut other = End::at("node-2", 1, "127.0.0.1:0", newer);
    let nodes = [one.address(), other.address()];
    one.join(&nodes);
    other.join(&nodes);

    until("both are refused", &mut [&mut one, &mut other], |ends| {
        ends.iter().all(|end| {
            let totals = end.links.totals();
            let count = |by: &BTreeMap<&str, u64>| by.get("wrong_version").copied().unwrap_or(0);
            count(&totals.refused) >= 2 && count(&totals.refused_here) >= 2
        })
    });

    assert!(one.told.is_empty() && other.told.is_empty());
    // The names are in the log, once for each.
    let complaints = |end: &End| end.links.ledger.complaints();
    assert_eq!(complaints(&one), [("node-2".to_owned(), "wrong_version")]);
    assert_eq!(complaints(&other), [("node-1".to_owned(), "wrong_version")]);
}

#[test]
fn version_that_is_known_to_both_is_chosen() {
    let mut end = End::at("node-1", 7, "127.0.0.1:0", WireRange { min: 1, max: 4 });
    end.join(&[]);
    let dealer = stranger(&end);
    say(&dealer, &Hello { wire: WireRange { min: 2, max: 3 }, ..hello("node-2", 1, 1) });

    let AtOrigin::Welcome(welcome) = heard(&mut end, &dealer) else { panic!("no welcome") };

    assert_eq!((welcome.wire, welcome.node.as_str(), welcome.epoch), (3, "node-1", 7));
    assert_eq!(end.told, [Input::LinkUp { link: LinkId(1), role: LinkRole::Owner }]);
}

#[test]
fn foreign_clusters_wrong_nodes_and_bad_names_are_refused() {
    let mut end = End::new("node-1", 1);
    let early = stranger(&end);
    say(&early, &hello("node-2", 1, 1));
    assert_eq!(refusal(&mut end, &early), RefusalReason::NotReady);
    end.join(&[]);
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
        let dealer = stranger(&end);
        say(&dealer, &wrong);
        assert_eq!(refusal(&mut end, &dealer), reason);
    }
    assert!(end.told.is_empty());
}

#[test]
fn node_that_is_another_one_than_it_should_be_gets_no_requests() {
    let (mut one, mut other) = (End::new("node-1", 1), End::new("node-2", 1));
    other.join(&[]);
    one.join(&[(name("node-3"), other.address().1)]);

    until("a refusal", &mut [&mut one, &mut other], |ends| {
        ends[0].links.totals().refused_here.get("wrong_node") >= Some(&2)
    });

    assert!(one.told.is_empty() && other.told.is_empty());
}

#[test]
fn newer_link_of_a_node_takes_the_place_of_its_older_one() {
    let mut end = End::new("node-1", 1);
    end.join(&[]);
    let [first, second, late] = [(); 3].map(|()| stranger(&end));
    say(&first, &hello("node-2", 5, 2));
    assert!(matches!(heard(&mut end, &first), AtOrigin::Welcome(_)));

    say(&second, &hello("node-2", 5, 3));
    assert!(matches!(heard(&mut end, &second), AtOrigin::Welcome(_)));
    say(&late, &hello("node-2", 5, 1));
    assert_eq!(refusal(&mut end, &late), RefusalReason::Superseded);

    let role = LinkRole::Owner;
    assert_eq!(
        end.told,
        [
            Input::LinkUp { link: LinkId(1), role },
            Input::LinkDown { link: LinkId(1), unsent: Vec::new() },
            Input::LinkUp { link: LinkId(2), role },
        ]
    );
    assert_eq!(end.lost(LinkLoss::Replaced), 1);
}

#[test]
fn messages_without_a_greeting_and_garbage_are_refused_and_counted() {
    let mut end = End::new("node-1", 1);
    end.join(&[]);
    let late = stranger(&end);
    late.send(&b"\x0c\x01\0\x05\0\0\0\0\0\0\0"[..], 0).unwrap();
    assert_eq!(refusal(&mut end, &late), RefusalReason::NotLinked);
    for garbage in [&b""[..], b"MDPC01", b"\xff\xff\xff\xff"] {
        let dealer = stranger(&end);
        dealer.send_multipart([garbage, b"x"], 0).unwrap();
        assert_eq!(refusal(&mut end, &dealer), RefusalReason::Malformed);
    }
    let named = zmq::Context::new().socket(zmq::DEALER).unwrap();
    named.set_identity(b"chosen").unwrap();
    named.connect(&end.links.endpoint().to_string()).unwrap();
    say(&named, &hello("node-2", 1, 1));
    until("it is counted", &mut [&mut end], |ends| ends[0].links.totals().malformed == 4);

    let linked = stranger(&end);
    say(&linked, &hello("node-2", 1, 1));
    assert!(matches!(heard(&mut end, &linked), AtOrigin::Welcome(_)));
    linked.send("garbage", 0).unwrap();
    assert_eq!(refusal(&mut end, &linked), RefusalReason::Malformed);
    assert_eq!((end.links_up(LinkRole::Owner), end.lost(LinkLoss::Malformed)), (Vec::new(), 1));
}

#[test]
fn bytes_that_are_no_zeromq_disturb_nobody() {
    let (mut one, mut other) = pair();
    let mut raw = TcpStream::connect(("127.0.0.1", other.links.endpoint().port())).unwrap();
    raw.write_all(&[0xff; 4_096]).unwrap();
    let link = one.to_owner().unwrap();

    one.send(link, forward(1, 10));
    until("a request", &mut [&mut one, &mut other], |ends| ends[1].requests().len() == 1);

    assert!(other.downs().is_empty());
}

#[test]
fn peer_that_never_answers_is_given_up_and_tried_again() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    deaf.set_nonblocking(true).unwrap();
    let mut end = End::new("node-1", 1);
    let address = format!("tcp://{}", deaf.local_addr().unwrap());
    end.join(&[(name("node-2"), address)]);

    let mut accepted = Vec::new();
    let begun = Instant::now();
    while accepted.len() < 3 {
        assert!(begun.elapsed() < DEADLINE, "{} attempts", accepted.len());
        end.turn();
        accepted.extend(deaf.accept());
        sleep(&mut [&mut end]);
    }

    assert!(begun.elapsed() >= HANDSHAKE_TIME_MAX * 2, "{:?}", begun.elapsed());
    assert!(end.told.is_empty());
}
