//! Links that work.

use mdp_wire::{ClientNetworks, NetworkAddress};

use super::*;

#[test]
fn requests_and_replies_pass_in_order_both_ways() {
    const REQUESTS: u64 = 5_000;
    let (mut one, mut other) = pair();
    let (to_owner, back) = (one.to_owner().unwrap(), other.to_owner().unwrap());
    for id in 0..REQUESTS {
        one.send(to_owner, forward(id, 40));
        other.send(back, forward(id, 40));
    }
    let all: Vec<u64> = (0..REQUESTS).collect();
    until("all requests come", &mut [&mut one, &mut other], |ends| {
        ends.iter().all(|end| end.requests().len() == all.len())
    });

    for end in [&mut one, &mut other] {
        let ids: Vec<u64> = end.requests().iter().map(|(_, id)| *id).collect();
        assert_eq!(ids, all);
        for (link, id) in end.requests() {
            end.answer(link, reply(id, 40));
        }
    }
    until("all replies come", &mut [&mut one, &mut other], |ends| {
        ends.iter().all(|end| end.answers().len() == all.len())
    });
    assert!([&one, &other].iter().all(|end| end.answers() == all && end.downs().is_empty()));
}

#[test]
fn request_arrives_as_it_was_sent() {
    let (mut one, mut other) = pair();
    let link = one.to_owner().unwrap();
    one.send(link, forward(9, 1 << 20));
    one.send(link, ToOwner::Cancel(ForwardId(9)));
    until("both come", &mut [&mut one, &mut other], |ends| ends[1].told.len() >= 4);

    let link = other.to_origin().unwrap();
    let Input::FromOrigin { link: of, message: ToOwner::Forward(forward) } = &other.told[2] else {
        panic!("{:?}", other.told)
    };
    assert_eq!((*of, forward.id, forward.client), (link, ForwardId(9), 1));
    assert_eq!(forward.ttl, Duration::from_secs(1));
    assert_eq!(forward.service.as_name().to_string(), "echo");
    assert_eq!((forward.body.len(), forward.body[0].len()), (1, 1 << 20));
    let cancel = Input::FromOrigin { link, message: ToOwner::Cancel(ForwardId(9)) };
    assert_eq!(other.told[3], cancel);
}

#[test]
fn three_nodes_have_six_links_and_other_threads_see_them() {
    let mut ends = ["node-1", "node-2", "node-3"].map(|name| End::new(name, 1));
    let nodes = ends.each_ref().map(End::address);
    ends.iter_mut().for_each(|end| end.join(&nodes));
    let watch = ends[0].links.watch();
    until("all links", &mut ends.each_mut(), |ends| {
        let count = |end: &End, role| end.links_up(role).len();
        let roles = [LinkRole::Origin, LinkRole::Owner];
        ends.iter().all(|end| roles.iter().all(|role| count(end, *role) == 2))
    });

    let networks = Some(Arc::default());
    let state =
        |node| LinkState { node: name(node), to: true, from: true, networks: networks.clone() };
    let expected = [state("node-2"), state("node-3")];
    assert_eq!(ends[0].links.states(), expected);
    assert_eq!(*watch.borrow(), expected);
    assert!(ends.iter().all(|end| end.links.has_all_links()));
    assert!(!ends[0].links.is_cut_off(&name("node-1")));
    assert!(ends[0].links.is_cut_off(&name("node-9")));
}

#[test]
fn idle_links_stay() {
    let (mut one, mut other) = pair();

    go_on(&mut [&mut one, &mut other], OWNER_SILENT_MAX + Duration::from_millis(500));

    assert_eq!((one.downs(), other.downs()), (Vec::new(), Vec::new()));
}

#[test]
fn name_of_a_host_is_looked_up() {
    let (mut one, mut other) = (End::new("node-1", 1), End::new("node-2", 1));
    let port = other.links.endpoint().port();
    other.join(&[]);
    one.join(&[(name("node-2"), format!("tcp://localhost:{port}"))]);

    // The name may also stand for an address of version 6, where nobody listens.
    until("a link", &mut [&mut one, &mut other], |ends| ends[0].to_owner().is_some());
}

#[test]
fn name_that_stands_for_nothing_holds_up_nobody() {
    let (mut one, mut other) = (End::new("node-1", 1), End::new("node-2", 1));
    other.join(&[]);
    let nowhere = (name("node-3"), "tcp://nowhere.invalid:1".to_owned());
    one.join(&[nowhere, other.address()]);

    until("a link", &mut [&mut one, &mut other], |ends| ends[0].to_owner().is_some());

    assert!(!one.links.has_all_links());
}

#[test]
fn node_that_leaves_the_catalog_is_let_go_and_one_that_comes_back_is_found() {
    let (mut one, mut other) = pair();
    let (link, nodes) = (one.to_owner().unwrap(), [other.address()]);

    one.join(&[]);
    until("the link ends", &mut [&mut one, &mut other], |ends| !ends[0].downs().is_empty());
    assert_eq!((one.downs(), one.lost(LinkLoss::Left)), (vec![(link, Vec::new())], 1));

    one.join(&nodes);
    until("another link", &mut [&mut one, &mut other], |ends| ends[0].to_owner().is_some());
    assert!(one.to_owner().unwrap() > link);
}

#[test]
fn node_that_is_given_up_for_a_moment_keeps_its_link() {
    let (mut one, mut other) = pair();
    let (link, nodes) = (one.to_owner(), [other.address()]);

    one.join(&[]);
    go_on(&mut [&mut one, &mut other], Duration::from_millis(100));
    one.join(&nodes);
    go_on(&mut [&mut one, &mut other], RETIRED_LINK_MAX + Duration::from_millis(200));

    assert_eq!((one.to_owner(), one.downs()), (link, Vec::new()));
}

#[test]
fn last_words_arrive_before_the_link_ends() {
    let (mut one, mut other) = pair();
    let (owner, origin) = (one.to_owner().unwrap(), other.to_origin().unwrap());
    for id in 0..3_000 {
        other.answer(origin, reply(id, 1_000));
    }

    let begun = Instant::now();
    while !other.links.say_bye(Instant::now()).unwrap() {
        assert!(begun.elapsed() < DEADLINE, "{:?}", one.told.last());
        for end in [&mut one, &mut other] {
            end.links.wake_all();
            end.turn();
        }
    }

    assert_eq!(one.answers(), (0..3_000).collect::<Vec<_>>());
    assert_eq!(one.downs(), [(owner, Vec::new())]);
    assert_eq!((one.lost(LinkLoss::Left), other.lost(LinkLoss::Left)), (1, 1));
}

/// The addresses that a node is known to tell the clients of 10.0.0.0/8.
fn address_of(end: &End, node: &str) -> Option<String> {
    let states = end.links.states();
    let state = states.iter().find(|state| state.node.as_str() == node)?;
    let address = state.networks.as_ref()?.address_for(Some([10, 0, 0, 1].into()));
    Some(address.unwrap_or("none").to_owned())
}

fn networks(address: &str) -> Arc<ClientNetworks> {
    let (from, address) = ("10.0.0.0/8".parse().unwrap(), address.to_owned());
    Arc::new(ClientNetworks::new(vec![NetworkAddress { from, address }]).unwrap())
}

#[test]
fn addresses_by_network_are_told_with_each_link_and_count_until_the_next_one() {
    let (mut one, mut other) = (End::new("node-1", 1), End::new("node-2", 1));
    other.links.me.networks = networks("first");
    let endpoint = other.address().1;
    let bind = endpoint.clone();
    other.join(&[]);
    one.join(&[(name("node-2"), endpoint.clone())]);
    assert_eq!(address_of(&one, "node-2"), None);
    until("a link", &mut [&mut one, &mut other], |ends| ends[0].to_owner().is_some());
    assert_eq!(address_of(&one, "node-2").as_deref(), Some("first"));

    // The node is gone, and comes back under the same address with another list.
    drop(other);
    one.join(&[]);
    until("no link", &mut [&mut one], |ends| ends[0].to_owner().is_none());
    one.join(&[(name("node-2"), endpoint)]);
    assert_eq!(address_of(&one, "node-2").as_deref(), Some("first"));
    let mut other = End::at("node-2", 2, &bind, WIRE);
    other.links.me.networks = networks("second");
    other.join(&[]);
    until("a new link", &mut [&mut one, &mut other], |ends| ends[0].to_owner().is_some());
    assert_eq!(address_of(&one, "node-2").as_deref(), Some("second"));

    // Rolled back to a version that says nothing of networks.
    drop(other);
    until("no link again", &mut [&mut one], |ends| ends[0].to_owner().is_none());
    let mut other = End::at("node-2", 3, &bind, WIRE);
    other.join(&[]);
    until("a third link", &mut [&mut one, &mut other], |ends| ends[0].to_owner().is_some());
    assert_eq!(address_of(&one, "node-2").as_deref(), Some("none"));
}
