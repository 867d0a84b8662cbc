//! Links that work.

use mdp_wire::{ClientNetworks, NetworkAddress};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn requests_and_replies_pass_in_order_both_ways() {
    const REQUESTS: u64 = 2_000;
    let (mut network, one, other) = pair();
    let all: Vec<u64> = (0..REQUESTS).collect();
    for at in [one, other] {
        let node = network.node_mut(at);
        let link = node.to_owner().unwrap();
        all.iter().for_each(|id| node.send(link, forward(*id, 40)));
    }
    network.until("all requests come", |network| {
        [one, other].iter().all(|at| network.node(*at).requests().len() == all.len())
    });

    let now = network.now;
    for at in [one, other] {
        let node = network.node_mut(at);
        let requests = node.requests();
        assert_eq!(requests.iter().map(|(_, id)| *id).collect::<Vec<_>>(), all);
        for (link, id) in requests {
            node.links.send_to_origin(now, link, reply(id, 40));
        }
    }
    network.until("all replies come", |network| {
        [one, other].iter().all(|at| network.node(*at).answers().len() == all.len())
    });
    for at in [one, other] {
        let node = network.node(at);
        assert!(node.answers() == all && node.downs().is_empty());
    }
}

#[test]
fn request_arrives_as_it_was_sent() {
    let (mut network, one, other) = pair();
    let before = network.node(other).told.len();
    let node = network.node_mut(one);
    let link = node.to_owner().unwrap();
    node.send(link, forward(9, 1 << 20));
    node.send(link, ToOwner::Cancel(ForwardId(9)));
    network.until("both come", |network| network.node(other).told.len() >= before + 2);

    let node = network.node(other);
    let link = node.to_origin().unwrap();
    let Input::FromOrigin { link: of, message: ToOwner::Forward(forward) } = &node.told[before]
    else {
        panic!("{:?}", node.told)
    };
    assert_eq!((*of, forward.id, forward.client), (link, ForwardId(9), 1));
    assert_eq!(forward.ttl, SECOND);
    assert_eq!(forward.service.as_name().to_string(), "echo");
    assert_eq!((forward.body.len(), forward.body[0].len()), (1, 1 << 20));
    let cancel = Input::FromOrigin { link, message: ToOwner::Cancel(ForwardId(9)) };
    assert_eq!(node.told[before + 1], cancel);
}

#[test]
fn three_nodes_have_six_links_and_other_threads_can_be_told() {
    let mut network = Network::new();
    let nodes = ["node-1", "node-2", "node-3"].map(|name| network.start(name, 1));
    network.join_all();
    network.until("all links", |network| {
        let roles = [LinkRole::Origin, LinkRole::Owner];
        nodes.iter().all(|at| roles.iter().all(|role| network.node(*at).links(*role) == 2))
    });

    let networks = Some(Arc::default());
    let state =
        |node| LinkState { node: name(node), to: true, from: true, networks: networks.clone() };
    let expected = [state("node-2"), state("node-3")];
    let links = &mut network.node_mut(nodes[0]).links;
    assert_eq!(links.states(), expected);
    assert_eq!(links.take_changed_states().unwrap(), expected);
    assert_eq!(links.take_changed_states(), None);
    assert!(links.has_all_links());
    assert!(!links.is_cut_off(&name("node-1")));
    assert!(links.is_cut_off(&name("node-9")));
}

#[test]
fn idle_links_stay() {
    let (mut network, one, other) = pair();
    network.pass(SECOND * 20);
    assert_eq!((network.node(one).downs(), network.node(other).downs()), (Vec::new(), Vec::new()));
}

#[test]
fn addresses_of_a_name_take_turns() {
    let mut network = Network::new();
    let (one, other) = (network.start("node-1", 1), network.start("node-2", 1));
    network.join(other, &[]);
    let right = network.socket_address(other);
    let wrong = SocketAddr::from(([10, 0, 0, 1], 99));
    let addresses = vec![wrong, right];
    network.node_mut(one).names.insert("somewhere:5".to_owned(), addresses);
    network.join(one, &[(name("node-2"), "tcp://somewhere:5".to_owned())]);

    network.until("a link", |network| network.node(one).to_owner().is_some());

    assert_eq!(network.node(one).dialled, [wrong, right]);
}

#[test]
fn dead_name_server_keeps_no_node_away_that_is_where_it_was() {
    for is_empty in [false, true] {
        let (mut network, one, other) = pair();
        let link = network.node(one).to_owner();
        let lookups = network.node(one).lookups;
        let node = network.node_mut(one);
        node.is_name_server_dead = !is_empty;
        // Or what it says is that the name stands for nothing.
        let host = network.address(other).1.trim_start_matches("tcp://").to_owned();
        network.node_mut(one).names.insert(host, Vec::new());
        network.cut(one, other);
        network.until("it is given up", |network| network.node(one).to_owner() != link);
        let begun = network.now;

        network.until("another link", |network| network.node(one).to_owner().is_some());

        let took = network.now - begun;
        assert!(took < SECOND, "{took:?}");
        assert_eq!(network.node(one).lookups, lookups + 1);
    }
}

#[test]
fn name_that_stands_for_nothing_holds_up_no_other_node() {
    let mut network = Network::new();
    let (one, other) = (network.start("node-1", 1), network.start("node-2", 1));
    network.join(other, &[]);
    let nowhere = (name("node-3"), "tcp://nowhere.invalid:1".to_owned());
    let nodes = [nowhere, network.address(other)];
    network.join(one, &nodes);

    network.until("a link", |network| network.node(one).to_owner().is_some());

    assert!(!network.node(one).links.has_all_links());
}

#[test]
fn node_that_leaves_the_catalog_is_let_go_and_one_that_comes_back_is_found() {
    let (mut network, one, other) = pair();
    let (link, nodes) = (network.node(one).to_owner().unwrap(), [network.address(other)]);

    network.join(one, &[]);
    network.until("the link ends", |network| !network.node(one).downs().is_empty());
    let node = network.node(one);
    assert_eq!((node.downs(), node.lost(LinkLoss::Left)), (vec![(link, Vec::new())], 1));

    network.join(one, &nodes);
    network.until("another link", |network| network.node(one).to_owner().is_some());
    assert!(network.node(one).to_owner().unwrap() > link);
}

#[test]
fn node_that_is_given_up_for_a_moment_keeps_its_link() {
    let (mut network, one, other) = pair();
    let (link, nodes) = (network.node(one).to_owner(), [network.address(other)]);

    network.join(one, &[]);
    network.pass(Duration::from_millis(100));
    network.join(one, &nodes);
    network.pass(RETIRED_LINK_MAX * 2);

    assert_eq!((network.node(one).to_owner(), network.node(one).downs()), (link, Vec::new()));
}

#[test]
fn node_that_leaves_the_catalog_before_it_has_a_link_keeps_no_connection() {
    let mut network = Network::new();
    let (one, other) = (network.start("node-1", 1), network.start("node-2", 1));
    network.node_mut(other).is_paused = true;
    let nodes = [network.address(other)];
    network.join(one, &nodes);
    network.until("an attempt", |network| network.node(one).dialled.len() == 1);
    assert!(!network.node_mut(one).links.transport().is_empty());

    network.join(one, &[]);

    assert!(network.node_mut(one).links.transport().is_empty());
    network.pass(HANDSHAKE_TIME_MAX * 4);
    assert_eq!(network.node(one).dialled.len(), 1);
}

#[test]
fn last_words_arrive_before_the_link_ends() {
    let (mut network, one, other) = pair();
    let owner = network.node(one).to_owner().unwrap();
    let now = network.now;
    let node = network.node_mut(other);
    let origin = node.to_origin().unwrap();
    for id in 0..3_000 {
        node.links.send_to_origin(now, origin, reply(id, 1_000));
    }

    let mut steps = 0..100;
    while !network.say_bye(other) {
        assert!(steps.next().is_some(), "the other node does not go");
        network.pass(Duration::from_millis(10));
    }

    assert_eq!(network.node(one).answers(), (0..3_000).collect::<Vec<_>>());
    assert_eq!(network.node(one).downs(), [(owner, Vec::new())]);
    let left = [one, other].map(|at| network.node(at).lost(LinkLoss::Left));
    assert_eq!(left, [1, 1]);
}

/// The addresses that a node is known to tell the clients of 10.0.0.0/8.
fn address_of(network: &Network, at: NodeAt, node: &str) -> Option<String> {
    let states = network.node(at).links.states();
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
    let mut network = Network::new();
    let (one, mut other) = (network.start("node-1", 1), network.start_at("node-2", 1, 9, WIRE));
    let nodes = [network.address(other)];
    let told = [Some("first"), Some("second"), None];
    for (epoch, told) in (2..).zip(told) {
        if let Some(told) = told {
            network.node_mut(other).links.me.networks = networks(told);
        }
        network.join(other, &[]);
        network.join(one, &nodes);
        network.until("a link", |network| network.node(one).to_owner().is_some());
        // One that says nothing of networks is one of an older version.
        let told = told.unwrap_or("none");
        assert_eq!(address_of(&network, one, "node-2").as_deref(), Some(told));

        // The node is gone, and comes back under the same address with another list.
        network.kill(other);
        network.join(one, &[]);
        network.until("no link", |network| network.node(one).to_owner().is_none());
        network.join(one, &nodes);
        assert_eq!(address_of(&network, one, "node-2").as_deref(), Some(told));
        other = network.start_at("node-2", epoch, 9, WIRE);
    }
}
