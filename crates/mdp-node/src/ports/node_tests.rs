//! With sockets of this machine, and with the libzmq that plays nodes of 0.1.0.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_broker::{Input, LinkId, LinkRole};
use mdp_catalog::Epoch;
use mdp_core::{LinkLoss, RelayAction, RelayLinks, RelaySettings};
use mdp_replica::Peers;
use mdp_transport::SharedFrame;
use mdp_wire::{
    ServiceName,
    relay::{AtOrigin, AtOwner, Forward, ForwardId, Hello, Load, ToOrigin, ToOwner, WIRE, Welcome},
};
use tokio::runtime::{self, Runtime};

use super::*;
use crate::bell::{Bell, bell};

/// How long anything may take that must happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// What one node needs besides its links.
struct End {
    name: NodeName,
    ports: Ports,
    links: RelayLinks,
    bell: Bell,
    _runtime: Runtime,
    /// What the engine was told, in order.
    told: Vec<Input<SharedFrame>>,
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn forward(id: u64, bytes: usize) -> ToOwner<ServiceName, SharedFrame> {
    ToOwner::Forward(Forward {
        id: ForwardId(id),
        client: 1,
        ttl: Duration::from_secs(1),
        service: ServiceName::try_from("echo").unwrap(),
        body: [SharedFrame::from(vec![7; bytes])].into_iter().collect(),
    })
}

fn reply(id: u64, bytes: usize) -> ToOrigin<SharedFrame> {
    let body = [SharedFrame::from(vec![7; bytes])].into_iter().collect();
    ToOrigin::Reply { id: ForwardId(id), is_last: true, body }
}

impl End {
    fn new(node: &str) -> Self {
        Self::at(node, "127.0.0.1:0")
    }

    fn at(node: &str, bind: &str) -> Self {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let (ringer, bell) = bell().unwrap();
        let poller = Poller::new(bell.descriptor()).unwrap();
        let settings = RelaySettings {
            node: name(node),
            version: "0.0.1",
            wire: WIRE,
            networks: Arc::default(),
            message_bytes_max: 64 << 20,
            visitors_max: 8,
            random: 7,
        };
        let resolver = Resolver::new(runtime.handle().clone(), ringer);
        let port = NodePort::bind(&bind.parse().unwrap(), resolver, &poller).unwrap();
        let mut ports = Ports::bind(&["127.0.0.1:0".parse().unwrap()], poller).unwrap();
        ports.add_nodes(port);
        let links = RelayLinks::new(Instant::now(), settings);
        Self { name: name(node), ports, links, bell, _runtime: runtime, told: Vec::new() }
    }

    fn address(&self) -> (NodeName, String) {
        (self.name.clone(), self.endpoint().to_string())
    }

    /// It takes part in the cluster, together with these.
    fn join(&mut self, nodes: &[(NodeName, String)]) {
        let (cluster, epoch, nodes) = ("c".to_owned(), Epoch(1), nodes.to_vec());
        self.links.set_peers(Instant::now(), Peers { cluster, epoch, nodes });
    }

    fn endpoint(&self) -> &Endpoint {
        self.ports.nodes.as_ref().unwrap().endpoint()
    }

    /// A turn of a node, without the engine.
    fn turn(&mut self) {
        let now = Instant::now();
        self.ports.resume_writing(now, PortName::Nodes, self.links.transport());
        let told = &mut self.told;
        let mut reading = self.links.reading(|_, input| told.push(input));
        let state = self.ports.read(now, PortName::Nodes, &mut reading);
        self.take_inputs(now);
        self.tend(now);
        self.take_inputs(now);
        self.ports.flush(now, PortName::Nodes, self.links.transport());
        let is_busy = state == ReadState::MoreWaits || self.links.is_awake();
        let until = (!is_busy).then(|| now + Duration::from_millis(1));
        if self.ports.wait(until).unwrap() {
            self.bell.silence();
        }
    }

    fn tend(&mut self, now: Instant) {
        let Self { ports, links, .. } = self;
        while let Some(located) = ports.take_located() {
            links.handle_located(now, &located);
        }
        links.tend(now, |id| ports.has_unread(PortName::Nodes, id));
        while let Some(action) = links.poll_action() {
            match action {
                RelayAction::Dial { connection, address } => {
                    ports.dial(connection, address, &mut links.reading(|_, _| {}));
                }
                RelayAction::Locate { node, endpoint } => {
                    let located = ports.locate(node, endpoint);
                    located.iter().for_each(|located| links.handle_located(now, located));
                }
            }
        }
    }

    fn take_inputs(&mut self, now: Instant) {
        while let Some(input) = self.links.poll_input(now) {
            self.told.push(input);
        }
    }

    fn link(&self, wanted: LinkRole) -> Option<LinkId> {
        self.told.iter().rev().find_map(|input| {
            let Input::LinkUp { link, role } = *input else { return None };
            (role == wanted).then_some(link)
        })
    }

    fn requests(&self) -> Vec<u64> {
        let request = |input: &Input<SharedFrame>| {
            let Input::FromOrigin { message: ToOwner::Forward(forward), .. } = input else {
                return None;
            };
            Some(forward.id.0)
        };
        self.told.iter().filter_map(request).collect()
    }

    fn answers(&self) -> Vec<u64> {
        let answer = |input: &Input<SharedFrame>| {
            let Input::FromOwner { message: ToOrigin::Reply { id, .. }, .. } = input else {
                return None;
            };
            Some(id.0)
        };
        self.told.iter().filter_map(answer).collect()
    }

    fn downs(&self) -> usize {
        self.told.iter().filter(|input| matches!(input, Input::LinkDown { .. })).count()
    }
}

/// Lets all nodes work until something is so.
fn until(what: &str, ends: &mut [&mut End], mut is_so: impl FnMut(&[&mut End]) -> bool) {
    let begun = Instant::now();
    loop {
        ends.iter_mut().for_each(|end| end.turn());
        if is_so(ends) {
            return;
        }
        let told: Vec<_> = ends.iter().map(|end| &end.told).collect();
        assert!(begun.elapsed() < DEADLINE, "{what}: {told:?}");
    }
}

/// Two nodes with links in both directions.
fn pair() -> (End, End) {
    let (mut one, mut other) = (End::new("node-1"), End::new("node-2"));
    let nodes = [one.address(), other.address()];
    one.join(&nodes);
    other.join(&nodes);
    until("links in both directions", &mut [&mut one, &mut other], |ends| {
        let roles = [LinkRole::Origin, LinkRole::Owner];
        ends.iter().all(|end| roles.iter().all(|role| end.link(*role).is_some()))
    });
    (one, other)
}

#[test]
fn requests_and_replies_pass_in_order_both_ways_whatever_their_size() {
    let (mut one, mut other) = pair();
    // More than the kernel holds by far, and one that is longer than most messages may be.
    let sizes = [0, 100, 1 << 20, 3, 70_000];
    let all: Vec<u64> = (0..100).collect();
    let size_of = |id: u64| sizes[usize::try_from(id).unwrap() % sizes.len()];
    for end in [&mut one, &mut other] {
        let link = end.link(LinkRole::Origin).unwrap();
        for id in &all {
            end.links.send_to_owner(link, forward(*id, size_of(*id)));
        }
    }
    until("all requests come", &mut [&mut one, &mut other], |ends| {
        ends.iter().all(|end| end.requests() == all)
    });
    for end in [&mut one, &mut other] {
        let link = end.link(LinkRole::Owner).unwrap();
        let now = Instant::now();
        for id in &all {
            end.links.send_to_origin(now, link, reply(*id, size_of(*id)));
        }
    }
    until("all replies come", &mut [&mut one, &mut other], |ends| {
        ends.iter().all(|end| end.answers() == all)
    });
    let link = one.link(LinkRole::Owner).unwrap();
    let now = Instant::now();
    one.links.send_to_origin(now, link, reply(1_000, 64 << 20));
    one.turn();
    one.links.send_to_origin(now, link, ToOrigin::Load(Load::default()));
    until("the longest comes", &mut [&mut one, &mut other], |ends| {
        ends[1].answers().last() == Some(&1_000)
    });
    assert_eq!((one.downs(), other.downs()), (0, 0));
}

#[test]
fn node_that_ends_is_known_at_once_and_found_again_at_the_same_port() {
    let (mut one, other) = pair();
    let (bind, nodes) = (other.address().1, [other.address()]);
    drop(other);
    let begun = Instant::now();
    until("both links end", &mut [&mut one], |ends| ends[0].downs() == 2);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let totals = one.links.totals();
    assert_eq!(totals.lost.get(&LinkLoss::Disconnected), Some(&2), "{totals:?}");

    let before = one.link(LinkRole::Origin);
    let mut other = End::at("node-2", &bind);
    other.join(&nodes);
    until("another link", &mut [&mut one, &mut other], |ends| {
        ends[0].link(LinkRole::Origin) > before
    });
}

#[test]
fn name_of_a_host_is_looked_up() {
    let (mut one, mut other) = (End::new("node-1"), End::at("node-2", "*:0"));
    let port = other.endpoint().port();
    other.join(&[]);
    let host = rustix::system::uname();
    let host = host.nodename().to_str().unwrap().to_owned();
    one.join(&[(name("node-2"), format!("tcp://{host}:{port}"))]);

    until("a link", &mut [&mut one, &mut other], |ends| ends[0].link(LinkRole::Origin).is_some());
}

#[test]
fn port_that_refuses_and_one_that_never_answers_are_tried_again_with_pauses() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    deaf.set_nonblocking(true).unwrap();
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [&deaf, &refusing].map(|it| format!("tcp://{}", it.local_addr().unwrap()));
    drop(refusing);
    let mut end = End::new("node-1");
    end.join(&[(name("node-2"), addresses[0].clone()), (name("node-3"), addresses[1].clone())]);

    let mut accepted = Vec::new();
    let begun = Instant::now();
    until("three attempts", &mut [&mut end], |_| {
        accepted.extend(deaf.accept());
        accepted.len() == 3
    });

    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(end.told.is_empty());
}

/// The options of the links of 0.1.0.
fn heartbeats(socket: &zmq::Socket) {
    socket.set_linger(0).unwrap();
    socket.set_heartbeat_ivl(300).unwrap();
    socket.set_heartbeat_timeout(1_000).unwrap();
    socket.set_heartbeat_ttl(1_000).unwrap();
    socket.set_rcvtimeo(1).unwrap();
}

fn frames(
    encode: impl FnOnce(&mut Vec<Vec<u8>>) -> Result<(), std::convert::Infallible>,
) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let Ok(()) = encode(&mut frames);
    frames
}

#[test]
fn origin_of_0_1_0_is_served_and_lives_on() {
    let mut end = End::new("node-1");
    end.join(&[]);
    let context = zmq::Context::new();
    let dealer = context.socket(zmq::DEALER).unwrap();
    heartbeats(&dealer);
    dealer.connect(&end.address().1).unwrap();
    let hello = Hello {
        wire: WIRE,
        version: "0.1.0".to_owned(),
        cluster: "c".to_owned(),
        node: "node-2".to_owned(),
        epoch: 1,
        wanted: "node-1".to_owned(),
        session: 1,
    };
    dealer.send_multipart(frames(|sink| hello.encode::<Vec<u8>, _>(sink)), 0).unwrap();
    until("a link", &mut [&mut end], |ends| ends[0].link(LinkRole::Owner).is_some());
    let request = ToOwner::Forward(Forward {
        id: ForwardId(1),
        client: 1,
        ttl: Duration::from_secs(1),
        service: ServiceName::try_from("echo").unwrap(),
        body: [vec![7; 16 << 20]].into_iter().collect(),
    });
    dealer.send_multipart(frames(|sink| request.encode(1, sink)), 0).unwrap();
    until("a request of 16 MiB", &mut [&mut end], |ends| ends[0].requests() == [1]);
    let link = end.link(LinkRole::Owner).unwrap();
    end.links.send_to_origin(Instant::now(), link, reply(1, 16 << 20));

    let (mut heard, begun) = (Vec::new(), Instant::now());
    until("three seconds pass", &mut [&mut end], |_| {
        while let Ok(mut frames) = dealer.recv_multipart(zmq::DONTWAIT) {
            heard.push(AtOrigin::decode(WIRE, &mut frames).unwrap());
        }
        begun.elapsed() > Duration::from_secs(3)
    });

    let pings = heard.iter().filter(|said| **said == AtOrigin::Ping).count();
    let replies = heard.iter().filter(|said| matches!(said, AtOrigin::Message(_))).count();
    assert!(pings >= 6 && replies == 1, "{pings} pings, {replies} replies");
    assert_eq!(end.downs(), 0);
    drop(dealer);
    until("its end is known", &mut [&mut end], |ends| ends[0].downs() == 1);
}

#[test]
fn owner_of_0_1_0_is_used_and_lives_on_until_it_says_no_more() {
    let context = zmq::Context::new();
    let router = context.socket(zmq::ROUTER).unwrap();
    heartbeats(&router);
    router.bind("tcp://127.0.0.1:*").unwrap();
    let address = router.get_last_endpoint().unwrap().unwrap();
    let mut end = End::new("node-1");
    end.join(&[(name("node-2"), address)]);
    let mut heard = Vec::new();
    let mut hear = |_: &[&mut End]| {
        if let Ok(mut frames) = router.recv_multipart(zmq::DONTWAIT) {
            let route = frames.remove(0);
            heard.push((route, AtOwner::decode(WIRE, &mut frames).unwrap()));
        }
        heard.last().cloned()
    };
    let mut greeting = None;
    until("a greeting", &mut [&mut end], |ends| {
        greeting = hear(ends);
        greeting.is_some()
    });
    let Some((route, AtOwner::Hello(hello))) = greeting else { panic!("{greeting:?}") };
    assert_eq!((hello.node.as_str(), hello.wanted.as_str()), ("node-1", "node-2"));
    let send = |frames: Vec<Vec<u8>>| {
        let all = [vec![route.clone()], frames].concat();
        router.send_multipart(all, 0).unwrap();
    };
    let (node, networks) = ("node-2".to_owned(), Arc::unwrap_or_clone(Arc::default()));
    let welcome = Welcome { wire: 1, version: "0.1.0".to_owned(), node, epoch: 1, networks };
    send(frames(|sink| welcome.encode::<Vec<u8>, _>(sink)));
    until("a link", &mut [&mut end], |ends| ends[0].link(LinkRole::Origin).is_some());
    let link = end.link(LinkRole::Origin).unwrap();
    end.links.send_to_owner(link, forward(5, 100));
    let begun = Instant::now();
    let mut pinged = Instant::now();
    until("three seconds pass", &mut [&mut end], |ends| {
        hear(ends);
        if pinged.elapsed() > Duration::from_millis(300) {
            pinged = Instant::now();
            send(frames(|sink| mdp_wire::relay::encode_ping::<Vec<u8>, _>(1, sink)));
        }
        begun.elapsed() > Duration::from_secs(3)
    });
    assert_eq!(end.downs(), 0);
    let Some((_, AtOwner::Message(ToOwner::Forward(forward)))) = heard.last() else {
        panic!("{heard:?}")
    };
    assert_eq!((forward.id, forward.body[0].len()), (ForwardId(5), 100));

    // Its broker thread stands still, while its libzmq goes on answering PINGs.
    let silent_since = Instant::now();
    until("it is given up", &mut [&mut end], |ends| ends[0].downs() == 1);
    assert!(silent_since.elapsed() > Duration::from_millis(1_500), "{:?}", silent_since.elapsed());
    assert_eq!(end.links.totals().lost.get(&LinkLoss::Silent), Some(&1));
}

#[test]
fn claimed_routing_ids_take_nothing_from_a_node() {
    let mut end = End::new("node-1");
    end.join(&[]);
    let context = zmq::Context::new();
    let dealers = ["node-2", "node-3"].map(|node| {
        let dealer = context.socket(zmq::DEALER).unwrap();
        heartbeats(&dealer);
        dealer.set_identity(b"claimed").unwrap();
        dealer.connect(&end.address().1).unwrap();
        let hello = Hello {
            wire: WIRE,
            version: "0.1.0".to_owned(),
            cluster: "c".to_owned(),
            node: node.to_owned(),
            epoch: 1,
            wanted: "node-1".to_owned(),
            session: 1,
        };
        dealer.send_multipart(frames(|sink| hello.encode::<Vec<u8>, _>(sink)), 0).unwrap();
        dealer
    });
    until("two links", &mut [&mut end], |ends| ends[0].told.len() == 2);
    let link_of = |input: &Input<SharedFrame>| {
        let Input::LinkUp { link, .. } = input else { panic!("{input:?}") };
        *link
    };
    let links: Vec<_> = end.told.iter().map(link_of).collect();
    for (id, link) in (1..).zip(&links) {
        end.links.send_to_origin(Instant::now(), *link, reply(id, 10));
    }
    let mut replies: Vec<Vec<u64>> = vec![Vec::new(); 2];
    until("each has its own", &mut [&mut end], |_| {
        for (dealer, replies) in dealers.iter().zip(&mut replies) {
            while let Ok(mut frames) = dealer.recv_multipart(zmq::DONTWAIT) {
                let said = AtOrigin::decode(WIRE, &mut frames).unwrap();
                if let AtOrigin::Message(ToOrigin::Reply { id, .. }) = said {
                    replies.push(id.0);
                }
            }
        }
        replies.iter().all(|ids| !ids.is_empty())
    });
    let mut all = replies.concat();
    all.sort_unstable();
    assert_eq!(all, [1, 2], "{replies:?}");
    assert_eq!(end.downs(), 0);
}

#[test]
fn endless_message_ends_its_connection_and_fills_no_memory() {
    use std::io::{Read as _, Write as _};

    let (mut one, mut other) = pair();
    let before = (one.downs(), other.downs());
    let address = other.address().1;
    let mut raw = std::net::TcpStream::connect(address.trim_start_matches("tcp://")).unwrap();
    raw.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    raw.set_nonblocking(true).unwrap();
    let mut bytes = vec![0; 64];
    bytes[0] = 0xff;
    (bytes[9], bytes[10], bytes[11]) = (0x7f, 3, 1);
    bytes[12..16].copy_from_slice(b"NULL");
    bytes.extend_from_slice(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER");
    bytes.extend_from_slice(b"\x03\x00\x00\x00\x7f\xff\xff\xff\xff");
    raw.write_all(&bytes).unwrap();
    let filler = vec![7; 1 << 16];
    let mut written = 0;
    until("it is closed", &mut [&mut one, &mut other], |_| {
        match raw.write(&filler) {
            Ok(count) => written += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return true,
        }
        matches!(raw.read(&mut [0; 4_096]), Ok(0))
    });
    assert!(written < 16 << 20, "{written}");
    assert_eq!((one.downs(), other.downs()), before);
}
