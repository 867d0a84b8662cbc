use super::*;
use crate::any_instant;

fn node(number: u8) -> NodeName {
    format!("node-{number}").parse().unwrap()
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32])
}

/// The keys of these nodes, at the first of them.
fn keys(security: LinkSecurity, nodes: &[u8]) -> Arc<NodeKeys> {
    let keys = nodes.iter().map(|number| (node(*number), secret(*number).public()));
    Arc::new(NodeKeys::new(security, secret(1), keys.collect()).unwrap())
}

fn port() -> Transport<()> {
    let mut port = Transport::new(any_instant(), mdp_transport::TransportLimits::default());
    port.seed(b"of tests", &[7; 32]);
    port
}

fn link_keys(keys: Arc<NodeKeys>) -> (LinkKeys, Transport<()>) {
    let (mut links, mut port) = (LinkKeys::default(), port());
    links.set(keys, &mut port, &BTreeMap::new());
    (links, port)
}

/// The mechanism that a connection asks for, as its greeting says (23/ZMTP).
fn mechanism_of(port: &Transport<()>, dialled: Dialled) -> Option<String> {
    let Dialled::Connection(id) = dialled else { return None };
    let greeting: Vec<u8> = port.output(id).iter().flat_map(|piece| piece.to_vec()).collect();
    let name: Vec<u8> = greeting[12..32].iter().copied().take_while(|byte| *byte != 0).collect();
    Some(String::from_utf8(name).unwrap())
}

const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5_556);

fn refuses_curve() -> Loss {
    Loss::Ended(Ending::Mechanism(Some(Mechanism::Null)))
}

#[test]
fn node_is_called_as_its_key_and_the_setting_say() {
    let now = any_instant();
    let (links, mut port) = link_keys(Arc::default());
    let dialled = links.dial(now, &mut port, Some(&node(2)), (ADDRESS, false));
    assert_eq!(mechanism_of(&port, dialled).as_deref(), Some("NULL"));

    for (security, without_key) in
        [(LinkSecurity::Prefer, Some("NULL")), (LinkSecurity::Require, None)]
    {
        let (links, mut port) = link_keys(keys(security, &[1, 2]));
        let dialled = links.dial(now, &mut port, Some(&node(2)), (ADDRESS, false));
        assert_eq!(mechanism_of(&port, dialled).as_deref(), Some("CURVE"));
        for unknown in [Some(node(3)), None] {
            let dialled = links.dial(now, &mut port, unknown.as_ref(), (ADDRESS, false));
            assert_eq!(mechanism_of(&port, dialled).as_deref(), without_key, "{security:?}");
        }
    }
}

#[test]
fn null_is_for_nodes_alone_that_say_it_and_were_never_seen_with_curve() {
    let (mut links, mut port) = link_keys(keys(LinkSecurity::Prefer, &[1, 2]));
    assert!(links.allows_plain(Some(&node(2)), &refuses_curve()));
    assert!(links.allows_plain(Some(&node(2)), &Loss::Closed));
    assert!(!links.allows_plain(Some(&node(2)), &Loss::Ended(Ending::HandshakeTimeout)));
    // That was called without a key anyway.
    assert!(!links.allows_plain(Some(&node(3)), &refuses_curve()));
    assert!(!links.allows_plain(None, &refuses_curve()));

    let id = port.accepted(any_instant(), PeerAddress::from(ADDRESS)).unwrap();
    links.authenticate(any_instant(), &mut port, (id, secret(2).public()), false);
    assert!(!links.allows_plain(Some(&node(2)), &refuses_curve()));
    // A person has taken its key back.
    links.set(keys(LinkSecurity::Prefer, &[1]), &mut port, &BTreeMap::new());
    links.set(keys(LinkSecurity::Prefer, &[1, 2]), &mut port, &BTreeMap::new());
    assert!(links.allows_plain(Some(&node(2)), &refuses_curve()));

    let (links, _) = link_keys(keys(LinkSecurity::Require, &[1, 2]));
    assert!(!links.allows_plain(Some(&node(2)), &refuses_curve()));
}

#[test]
fn two_nodes_with_one_key_are_refused() {
    let shared = BTreeMap::from([(node(1), secret(1).public()), (node(2), secret(1).public())]);
    let refused = NodeKeys::new(LinkSecurity::Require, secret(1), shared).unwrap_err();
    assert_eq!(refused, SharedKey { first: node(1), second: node(2) });
}
