//! A network of queues between nodes and strangers, with a clock that jumps to what is due next.

use std::collections::{BTreeMap, VecDeque};

use mdp_broker::LinkRole;
use mdp_transport::{MessageWriter, TransportEvent};
use mdp_wire::relay::{WIRE, WireRange};

use super::{super::*, name};

/// How many connections without a link a node allows.
pub(super) const VISITORS_MAX: usize = 64;
/// How many bytes the network holds for an end that does not read.
pub(super) const WINDOW_BYTES: usize = 64 << 10;
/// How long anything may take that must happen.
const DEADLINE: Duration = Duration::from_secs(20);
/// How much is read at once.
const READ_BYTES: usize = 16 << 10;

/// Which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeAt(usize);

/// Which connection of a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StrangerAt(usize);

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Node(usize),
    Stranger(usize),
}

/// A connection: what is on its way to each end.
#[derive(Debug)]
struct Cable {
    /// The one that connected, and the other one.
    owners: [Owner; 2],
    /// What each calls it; none yet, or none any more.
    ids: [Option<ConnectionId>; 2],
    /// What is on its way to each.
    bytes: [VecDeque<u8>; 2],
    /// Whether each has closed its end.
    is_closed: [bool; 2],
    /// Whether nothing passes, and no end learns it.
    is_cut: bool,
}

/// A node's links, and what became of them.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) links: RelayLinks,
    name: NodeName,
    epoch: u64,
    address: SocketAddr,
    /// Whether its thread stands still.
    pub(super) is_paused: bool,
    /// Whether only its transport works, as that of libzmq does whose program stands still.
    pub(super) is_dazed: bool,
    is_gone: bool,
    /// What the engine was told, in order.
    pub(super) told: Vec<Input<SharedFrame>>,
    /// What names stand for, and how often was asked.
    pub(super) names: BTreeMap<String, Vec<SocketAddr>>,
    pub(super) is_name_server_dead: bool,
    pub(super) lookups: usize,
    pub(super) dialled: Vec<SocketAddr>,
}

/// A program that connects and says what the test wants.
#[derive(Debug)]
struct Stranger {
    transport: Transport<Tag>,
    id: ConnectionId,
    /// Bytes that go out as they are.
    raw: Vec<u8>,
    is_silent: bool,
    heard: VecDeque<Vec<Vec<u8>>>,
    is_closed: bool,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) now: Instant,
    nodes: Vec<Node>,
    strangers: Vec<Stranger>,
    cables: Vec<Cable>,
    random: u64,
    last_port: u16,
    /// How many bytes of a connection arrive in a step of a slow network.
    pub(super) bytes_per_step: Option<usize>,
    step_left: BTreeMap<(usize, usize), usize>,
}

impl Node {
    fn links_up(&self, wanted: LinkRole) -> Vec<LinkId> {
        let downs = self.downs();
        let is_down = |up: &LinkId| downs.iter().any(|(link, _)| link == up);
        let up = |input: &Input<SharedFrame>| {
            let Input::LinkUp { link, role } = *input else { return None };
            (role == wanted && !is_down(&link)).then_some(link)
        };
        self.told.iter().filter_map(up).collect()
    }

    pub(super) fn links(&self, role: LinkRole) -> usize {
        self.links_up(role).len()
    }

    /// The link on which this node is the origin.
    pub(super) fn to_owner(&self) -> Option<LinkId> {
        self.links_up(LinkRole::Origin).first().copied()
    }

    /// The link on which this node is the owner.
    pub(super) fn to_origin(&self) -> Option<LinkId> {
        self.links_up(LinkRole::Owner).first().copied()
    }

    /// The ids of the requests that came, with their links.
    pub(super) fn requests(&self) -> Vec<(LinkId, u64)> {
        let request = |input: &Input<SharedFrame>| {
            let Input::FromOrigin { link, message: ToOwner::Forward(forward) } = input else {
                return None;
            };
            Some((*link, forward.id.0))
        };
        self.told.iter().filter_map(request).collect()
    }

    /// The ids of the replies and returned requests that came.
    pub(super) fn answers(&self) -> Vec<u64> {
        let answer = |input: &Input<SharedFrame>| {
            let Input::FromOwner { message, .. } = input else { return None };
            match message {
                ToOrigin::Reply { id, .. } | ToOrigin::Return { id, .. } => Some(id.0),
                ToOrigin::Load(_) => None,
            }
        };
        self.told.iter().filter_map(answer).collect()
    }

    /// The links that ended, with what was certainly not sent.
    pub(super) fn downs(&self) -> Vec<(LinkId, Vec<u64>)> {
        let down = |input: &Input<SharedFrame>| {
            let Input::LinkDown { link, unsent } = input else { return None };
            Some((*link, unsent.iter().map(|id| id.0).collect()))
        };
        self.told.iter().filter_map(down).collect()
    }

    pub(super) fn lost(&self, loss: LinkLoss) -> u64 {
        self.links.totals().lost.get(&loss).copied().unwrap_or(0)
    }

    pub(super) fn send(&mut self, link: LinkId, message: ToOwner<ServiceName, SharedFrame>) {
        self.links.send_to_owner(link, message);
    }

    /// Takes what the engine is told of links.
    pub(super) fn take_inputs(&mut self, now: Instant) {
        while let Some(input) = self.links.poll_input(now) {
            self.told.push(input);
        }
    }
}

impl Network {
    pub(super) fn new() -> Self {
        let now = crate::any_instant();
        let (nodes, strangers, cables) = (Vec::new(), Vec::new(), Vec::new());
        let (bytes_per_step, step_left) = (None, BTreeMap::new());
        Self { now, nodes, strangers, cables, random: 7, last_port: 0, bytes_per_step, step_left }
    }

    pub(super) fn start(&mut self, node: &str, epoch: u64) -> NodeAt {
        self.last_port += 1;
        let port = self.last_port;
        self.start_at(node, epoch, port, WIRE)
    }

    pub(super) fn start_at(
        &mut self,
        node: &str,
        epoch: u64,
        port: u16,
        wire: WireRange,
    ) -> NodeAt {
        let settings = RelaySettings {
            node: name(node),
            version: "0.0.1",
            wire,
            networks: Arc::default(),
            message_bytes_max: 1 << 20,
            visitors_max: VISITORS_MAX,
            random: epoch,
        };
        self.nodes.push(Node {
            links: RelayLinks::new(self.now, settings),
            name: name(node),
            epoch,
            address: SocketAddr::from(([10, 0, 0, 1], port)),
            is_paused: false,
            is_dazed: false,
            is_gone: false,
            told: Vec::new(),
            names: BTreeMap::new(),
            is_name_server_dead: false,
            lookups: 0,
            dialled: Vec::new(),
        });
        NodeAt(self.nodes.len() - 1)
    }

    pub(super) fn node(&self, at: NodeAt) -> &Node {
        &self.nodes[at.0]
    }

    pub(super) fn node_mut(&mut self, at: NodeAt) -> &mut Node {
        &mut self.nodes[at.0]
    }

    pub(super) fn address(&self, at: NodeAt) -> (NodeName, String) {
        let node = self.node(at);
        (node.name.clone(), format!("tcp://{}", node.address))
    }

    pub(super) fn socket_address(&self, at: NodeAt) -> SocketAddr {
        self.node(at).address
    }

    /// True once all origins know that this node is gone.
    pub(super) fn say_bye(&mut self, at: NodeAt) -> bool {
        let now = self.now;
        self.node_mut(at).links.say_bye(now)
    }

    /// A node takes part in the cluster, together with these.
    pub(super) fn join(&mut self, at: NodeAt, nodes: &[(NodeName, String)]) {
        let now = self.now;
        let node = self.node_mut(at);
        let (cluster, epoch) = ("c".to_owned(), Epoch(node.epoch));
        node.links.set_peers(now, Peers { cluster, epoch, nodes: nodes.to_vec() });
    }

    /// All nodes that are there take part.
    pub(super) fn join_all(&mut self) {
        let there: Vec<_> =
            (0..self.nodes.len()).filter(|at| !self.nodes[*at].is_gone).map(NodeAt).collect();
        let nodes: Vec<_> = there.iter().map(|at| self.address(*at)).collect();
        there.iter().for_each(|at| self.join(*at, &nodes));
    }

    /// A node's process is gone: so are its ends.
    pub(super) fn kill(&mut self, at: NodeAt) {
        self.node_mut(at).is_gone = true;
        for cable in &mut self.cables {
            for end in [0, 1] {
                if cable.owners[end] == Owner::Node(at.0) {
                    (cable.is_closed[end], cable.ids[end]) = (true, None);
                }
            }
        }
    }

    /// Nothing passes any more between the two, and neither learns it.
    pub(super) fn cut(&mut self, one: NodeAt, other: NodeAt) {
        let both = [Owner::Node(one.0), Owner::Node(other.0)];
        let between = |cable: &&mut Cable| both.iter().all(|owner| cable.owners.contains(owner));
        self.cables.iter_mut().filter(between).for_each(|cable| cable.is_cut = true);
    }

    /// A program connects to a node.
    pub(super) fn stranger(&mut self, to: NodeAt) -> StrangerAt {
        let mut transport = Transport::new(self.now, TransportLimits::default());
        let address = PeerAddress::from(self.node(to).address);
        let id = transport.dialled(self.now, address).unwrap();
        let (raw, heard) = (Vec::new(), VecDeque::new());
        let (is_silent, is_closed) = (false, false);
        self.strangers.push(Stranger { transport, id, raw, is_silent, heard, is_closed });
        let at = self.strangers.len() - 1;
        self.connect(Owner::Stranger(at), id, to.0);
        StrangerAt(at)
    }

    /// One that says nothing but these bytes.
    pub(super) fn raw_stranger(&mut self, to: NodeAt, bytes: &[u8]) -> StrangerAt {
        let at = self.stranger(to);
        let stranger = &mut self.strangers[at.0];
        (stranger.is_silent, stranger.raw) = (true, bytes.to_vec());
        at
    }

    pub(super) fn say(
        &mut self,
        at: StrangerAt,
        encode: impl FnOnce(&mut MessageWriter<'_, Tag>) -> Result<(), std::convert::Infallible>,
    ) {
        self.until("it is connected", |network| {
            network.strangers[at.0].transport.peer(network.strangers[at.0].id).is_some()
        });
        let stranger = &mut self.strangers[at.0];
        stranger.transport.send(stranger.id, None, |writer| {
            let Ok(()) = encode(writer);
        });
    }

    /// The next message to a stranger.
    pub(super) fn heard(&mut self, at: StrangerAt) -> Vec<Vec<u8>> {
        self.until("something is said", |network| !network.strangers[at.0].heard.is_empty());
        self.strangers[at.0].heard.pop_front().unwrap()
    }

    /// How many messages to a stranger were not looked at.
    pub(super) fn unheard(&self, at: StrangerAt) -> usize {
        self.strangers[at.0].heard.len()
    }

    pub(super) fn is_closed(&self, at: StrangerAt) -> bool {
        self.strangers[at.0].is_closed
    }

    fn connect(&mut self, from: Owner, id: ConnectionId, to: usize) {
        self.cables.push(Cable {
            owners: [from, Owner::Node(to)],
            ids: [Some(id), None],
            bytes: [VecDeque::new(), VecDeque::new()],
            is_closed: [false; 2],
            is_cut: false,
        });
    }

    /// Lets time pass until something is so.
    pub(super) fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = self.now + DEADLINE;
        loop {
            self.settle();
            if is_so(self) {
                return;
            }
            assert!(self.now < deadline, "{what}: {:#?}", self.nodes);
            self.now = self.next_at().min(self.now + Duration::from_millis(100));
        }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.settle();
            self.now = self.next_at().min(until);
        }
        self.settle();
    }

    /// Lets time pass, in which so much arrives as a slow network lets through.
    pub(super) fn step(&mut self, time: Duration) {
        self.step_left.clear();
        self.pass(time);
    }

    /// Time passes, and no thread runs.
    pub(super) fn stand_still(&mut self, time: Duration) {
        self.now += time;
    }

    /// What is due next, or the longest sleep.
    fn next_at(&self) -> Instant {
        let awake = self.nodes.iter().filter(|node| !node.is_gone && !node.is_paused);
        let nodes = awake.filter_map(|node| node.links.poll_timeout());
        let strangers = self.strangers.iter().filter_map(|it| it.transport.poll_timeout());
        let soonest = nodes.chain(strangers).min().unwrap_or(self.now + SLEEP_MAX);
        soonest.clamp(self.now + Duration::from_micros(10), self.now + SLEEP_MAX)
    }

    /// Everything that can happen now.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut any = false;
            for at in 0..self.nodes.len() {
                if !self.nodes[at].is_gone && !self.nodes[at].is_paused {
                    any |= self.turn(at);
                }
            }
            for at in 0..self.strangers.len() {
                any |= self.turn_of_stranger(at);
            }
            if !any {
                return;
            }
        }
        panic!("this never ends: {:#?}", self.nodes);
    }

    /// A turn of a node's thread, without the engine; true if anything happened.
    fn turn(&mut self, at: usize) -> bool {
        let mut any = self.accept(at);
        for cable in 0..self.cables.len() {
            for end in [0, 1] {
                if self.cables[cable].owners[end] == Owner::Node(at) {
                    any |= self.read(at, cable, end);
                }
            }
        }
        let now = self.now;
        let unread = self.unread_of(at);
        let node = &mut self.nodes[at];
        if node.is_dazed {
            return any | self.write(at);
        }
        node.links.tend(now, |id| unread.contains(&id));
        node.take_inputs(now);
        while let Some(action) = self.nodes[at].links.poll_action() {
            self.act(at, action);
        }
        self.nodes[at].take_inputs(now);
        any | self.write(at)
    }

    fn unread_of(&self, at: usize) -> Vec<ConnectionId> {
        let ends = self.cables.iter().flat_map(|cable| [0, 1].map(|end| (cable, end)));
        let unread = ends.filter(|(cable, end)| {
            let is_here = self.bytes_per_step.is_none() && !cable.is_cut;
            cable.owners[*end] == Owner::Node(at) && is_here && !cable.bytes[*end].is_empty()
        });
        unread.filter_map(|(cable, end)| cable.ids[end]).collect()
    }

    fn accept(&mut self, at: usize) -> bool {
        let mut any = false;
        for cable in &mut self.cables {
            let is_new = cable.owners[1] == Owner::Node(at) && cable.ids[1].is_none();
            if is_new && !cable.is_closed[1] && !cable.is_cut {
                let from = PeerAddress::from(SocketAddr::from(([10, 0, 0, 9], 9)));
                cable.ids[1] = self.nodes[at].links.accepted(self.now, from);
                cable.is_closed[1] = cable.ids[1].is_none();
                any = true;
            }
        }
        any
    }

    fn read(&mut self, at: usize, cable: usize, end: usize) -> bool {
        let mut count = 1 + self.random() % READ_BYTES;
        if let Some(bytes) = self.bytes_per_step {
            let left = self.step_left.entry((cable, end)).or_insert(bytes);
            count = count.min(*left);
            *left -= count.min(self.cables[cable].bytes[end].len());
        }
        if count == 0 {
            return false;
        }
        let (node, cable) = (&mut self.nodes[at], &mut self.cables[cable]);
        let Some(id) = cable.ids[end].filter(|_| !cable.is_cut) else { return false };
        if cable.bytes[end].is_empty() {
            if cable.is_closed[1 - end] {
                (cable.is_closed[end], cable.ids[end]) = (true, None);
                node.links.transport().closed(id);
                return true;
            }
            return false;
        }
        let bytes: Vec<u8> = cable.bytes[end].iter().take(count).copied().collect();
        if node.is_dazed {
            node.links.transport().received(self.now, id, &bytes, |_, _| Flow::Continue);
            cable.bytes[end].drain(..bytes.len());
            return true;
        }
        let told = &mut node.told;
        let received = node.links.received(self.now, id, (&bytes, 32), |input| told.push(input));
        cable.bytes[end].drain(..received.bytes);
        node.take_inputs(self.now);
        true
    }

    fn act(&mut self, at: usize, action: RelayAction) {
        match action {
            RelayAction::Locate { node, endpoint } => {
                self.nodes[at].lookups += 1;
                if self.nodes[at].is_name_server_dead {
                    return;
                }
                let host = endpoint.trim_start_matches("tcp://");
                let known = self.nodes[at].names.get(host).cloned();
                let addresses = known.unwrap_or_else(|| host.parse().into_iter().collect());
                let located = Located { node, endpoint, addresses };
                self.nodes[at].links.handle_located(self.now, &located);
            }
            RelayAction::Dial { connection, address } => {
                self.nodes[at].dialled.push(address);
                let is_there = |node: &Node| node.address == address && !node.is_gone;
                match self.nodes.iter().position(is_there) {
                    Some(to) => self.connect(Owner::Node(at), connection, to),
                    None => self.nodes[at].links.transport().closed(connection),
                }
            }
        }
    }

    fn write(&mut self, at: usize) -> bool {
        let transport = self.nodes[at].links.transport();
        write(self.now, transport, Owner::Node(at), &mut self.cables)
    }

    fn turn_of_stranger(&mut self, at: usize) -> bool {
        let Stranger { transport, id, raw, is_silent, heard, is_closed } = &mut self.strangers[at];
        let owner = Owner::Stranger(at);
        let Some(cable) = self.cables.iter_mut().find(|it| it.owners[0] == owner) else {
            return false;
        };
        let mut any = !raw.is_empty();
        cable.bytes[1].extend(raw.drain(..));
        if *is_silent {
            *is_closed = cable.is_closed[1];
            cable.bytes[0].clear();
            return any;
        }
        let bytes: Vec<u8> = cable.bytes[0].drain(..).collect();
        any |= !bytes.is_empty();
        transport.received(self.now, *id, &bytes, |_, message| {
            heard.push_back(message.frames.iter().map(|frame| frame.as_ref().to_vec()).collect());
            Flow::Continue
        });
        if cable.is_closed[1] && !std::mem::replace(is_closed, true) {
            transport.closed(*id);
        }
        transport.handle_timeout(self.now, |_| false);
        while let Some(event) = transport.poll_event() {
            *is_closed |= !matches!(event, TransportEvent::Opened { .. });
        }
        any | write(self.now, transport, owner, &mut self.cables)
    }

    fn random(&mut self) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.random >> 33).unwrap()
    }
}

/// Writes what waits, as far as the network takes it, and closes what ended.
fn write(now: Instant, transport: &mut Transport<Tag>, owner: Owner, cables: &mut [Cable]) -> bool {
    let mut any = false;
    for cable in cables.iter_mut() {
        for end in [0, 1] {
            let Some(id) = cable.ids[end].filter(|_| cable.owners[end] == owner) else { continue };
            let to = &mut cable.bytes[1 - end];
            while transport.output_bytes(id) > 0 && to.len() < WINDOW_BYTES {
                let room = WINDOW_BYTES - to.len();
                let output = transport.output(id);
                let bytes = output.iter().flat_map(|slice| slice.iter().copied());
                let before = to.len();
                to.extend(bytes.take(room));
                let count = to.len() - before;
                drop(output);
                transport.transmitted(now, id, count);
                any = true;
            }
            if transport.output_bytes(id) > 0 {
                transport.blocked(now, id);
            }
        }
    }
    while transport.poll_writable().is_some() {}
    while let Some(closing) = transport.poll_closing() {
        let mine = |cable: &Cable| {
            [0, 1]
                .into_iter()
                .find(|end| cable.owners[*end] == owner && cable.ids[*end] == Some(closing.id))
        };
        for cable in cables.iter_mut() {
            if let Some(end) = mine(cable) {
                let last = closing.output();
                cable.bytes[1 - end].extend(last.iter().flat_map(|slice| slice.iter().copied()));
                (cable.is_closed[end], cable.ids[end]) = (true, None);
                any = true;
            }
        }
    }
    any
}
