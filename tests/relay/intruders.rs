//! Whoever connects to a relay port and is no node.

use std::time::Duration;

use cluster_tests::{RawSocket, RawTcp, RawWorker, TestCluster, frames, zmtp_frame};

use crate::{LATE_HARM, client, register};

/// How many random messages are sent.
const RANDOM_MESSAGES: u32 = 2_000;

/// A pause that lets the node read.
const MOMENT: Duration = Duration::from_millis(50);

/// A cluster in which a request is under way from node 0 to node 1.
struct Scene {
    cluster: TestCluster,
    worker: RawWorker,
    client: cluster_tests::RawClient,
    address: Vec<u8>,
    epochs: Vec<u64>,
}

impl Scene {
    fn new() -> Self {
        let cluster = TestCluster::start(&[]);
        let worker = register(&cluster, 1, "echo");
        let client = client(&cluster, 0);
        client.request("echo", "hello");
        let address = worker.expect_work("hello");
        let epochs = epochs(&cluster);
        Self { cluster, worker, client, address, epochs }
    }

    fn relay(&self) -> String {
        self.cluster.node(1).relay_endpoint()
    }

    /// The request that was under way is answered, and so are others, by the same lives of nodes.
    fn assert_unharmed(&mut self) {
        self.worker.answer(&self.address, "world");
        self.client.expect_reply("echo", "world");
        for round in 0..10_u32 {
            self.client.request("echo", round.to_be_bytes());
            self.worker.serve(round.to_be_bytes(), "again");
            self.client.expect_reply("echo", "again");
        }
        assert_eq!(epochs(&self.cluster), self.epochs);
        let mut nodes = self.cluster.nodes_mut().iter_mut();
        assert!(nodes.all(cluster_tests::ClusterNode::is_running));
    }
}

fn epochs(cluster: &TestCluster) -> Vec<u64> {
    let view = cluster.node(0).expect_view();
    cluster.nodes().iter().map(|node| view.expect(node.name()).epoch).collect()
}

#[test]
fn bytes_that_are_no_zmtp_do_no_harm() {
    let mut scene = Scene::new();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20 {
        let mut tcp = RawTcp::connect(scene.relay().as_str());
        let bytes: Vec<u8> = (0..random.usize(1..4_096)).map(|_| random.u8(..)).collect();
        // It may have closed the connection already.
        let _taken = tcp.send(&bytes);
    }
    let mut http = RawTcp::connect(scene.relay().as_str());
    let _taken = http.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");

    scene.assert_unharmed();
}

#[test]
fn messages_that_are_no_relay_frames_do_no_harm() {
    let mut scene = Scene::new();
    let stranger = RawSocket::dealer(scene.relay().as_str());
    let mut random = fastrand::Rng::with_seed(11);
    for message in [
        frames![b""],
        frames![b"", b""],
        frames![b"", b"MDPC01", b"echo", b"hello"],
        frames![b"", b"MDPW01", b"\x01", b"echo"],
        frames![b"MDPC02", b"\x01", b"echo", b"hello"],
        (0..2_000).map(|_| b"x".to_vec()).collect(),
        vec![vec![0xff; 1 << 20]; 4],
    ] {
        stranger.send(&message);
    }
    for _ in 0..RANDOM_MESSAGES {
        let frame = |random: &mut fastrand::Rng| {
            // Kinds and formats are small numbers.
            let head = [random.u8(..16), random.u8(..4), random.u8(..4)];
            let rest = (0..random.usize(..64)).map(|_| random.u8(..)).collect::<Vec<_>>();
            head.into_iter().chain(rest).collect::<Vec<u8>>()
        };
        stranger.send(&(0..random.usize(1..6)).map(|_| frame(&mut random)).collect::<Vec<_>>());
    }
    // It is refused, each time or once.
    while stranger.recv_within(MOMENT).is_some() {}

    scene.assert_unharmed();
    scene.client.socket.expect_silence(LATE_HARM);
}

/// The reasons of refusals, as they stand on the wire.
const WRONG_CLUSTER: u8 = 2;
const WRONG_NODE: u8 = 3;
const SUPERSEDED: u8 = 4;
const NOT_LINKED: u8 = 7;

/// A greeting as nodes of wire version 1 send it.
fn hello(cluster: &str, node: &str, epoch: u64, wanted: &str) -> Vec<u8> {
    // Kind and format, then the wire versions from 1 to 1.
    let mut bytes = vec![16, 1, 0, 1, 0, 1, 0];
    bytes.extend(epoch.to_le_bytes());
    // The session: older than any.
    bytes.extend(0_u64.to_le_bytes());
    for text in ["0.1.0", cluster, node, wanted] {
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The reason of the refusal that comes next.
fn refusal(stranger: &RawSocket) -> u8 {
    let message = stranger.recv();
    let [head] = message.as_slice() else { panic!("{message:?} is no refusal") };
    assert_eq!(head[..3], [18, 1, 0], "{head:?} is no refusal");
    head[3]
}

#[test]
fn greetings_of_other_clusters_to_other_nodes_and_of_past_lives_are_refused() {
    let mut scene = Scene::new();
    let cluster = scene.cluster.node(0).expect_view().cluster_id.unwrap();
    let [origin, owner, other] = [0, 1, 2].map(|node| scene.cluster.node(node).name().to_owned());
    let epoch = scene.epochs[0];
    assert!(epoch > 0);
    for (greeting, reason) in [
        (hello("another", &origin, epoch + 1, &owner), WRONG_CLUSTER),
        (hello(&cluster, &origin, epoch + 1, &other), WRONG_NODE),
        (hello(&cluster, &owner, epoch + 1, &owner), WRONG_NODE),
        (hello(&cluster, &origin, epoch - 1, &owner), SUPERSEDED),
        (hello(&cluster, &origin, epoch, &owner), SUPERSEDED),
    ] {
        let stranger = RawSocket::dealer(scene.relay().as_str());
        stranger.send(&[greeting]);
        assert_eq!(refusal(&stranger), reason);

        // A request behind it reaches no worker.
        let mut forward = vec![11, 1, 0];
        forward.extend([1_u64, 1].map(u64::to_le_bytes).concat());
        forward.extend(1_000_u32.to_le_bytes());
        stranger.send(&[forward, b"echo".to_vec(), b"forged".to_vec()]);
        assert_eq!(refusal(&stranger), NOT_LINKED);
    }

    scene.assert_unharmed();
}

/// What a node said, said again by somebody else.
#[test]
fn other_kinds_of_sockets_and_half_messages_do_no_harm() {
    let mut scene = Scene::new();
    let relay = scene.relay();
    let context = zmq::Context::new();
    let others = [zmq::REQ, zmq::SUB, zmq::PUSH, zmq::PAIR].map(|kind| {
        RawSocket::connect(relay.as_str(), &context, kind, |socket| {
            if kind == zmq::SUB { socket.set_subscribe(b"") } else { Ok(()) }
        })
    });
    let mut half = RawTcp::dealer(relay.as_str());
    assert!(half.send(&zmtp_frame(b"\x01\x00\x01", true)));
    let mut cut = RawTcp::dealer(relay.as_str());
    assert!(cut.send(&zmtp_frame(&[7; 100], false)[..50]));
    drop(cut);
    others[0].expect_silence(MOMENT);

    scene.assert_unharmed();
    assert!(half.pong());
}
