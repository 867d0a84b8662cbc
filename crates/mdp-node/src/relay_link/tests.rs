//! Links in one process: each node is its ends of links and a clock that is the real one.

mod ends;
mod greetings;
mod losses;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use mdp_broker::{Input, LinkId, LinkRole};
use mdp_catalog::{Epoch, NodeName};
use mdp_wire::{
    ServiceName,
    relay::{Forward, ForwardId, ReturnCause, ToOrigin, ToOwner, WIRE, WireRange},
};
use rustix::event::{PollFd, Timespec, poll};
use smallvec::SmallVec;
use tokio::runtime::{self, Runtime};

use super::*;
use crate::bell::{Bell, bell};

/// How long anything may take that must happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// What one node needs besides its links.
struct End {
    name: NodeName,
    epoch: u64,
    links: RelayLinks,
    bell: Bell,
    _runtime: Runtime,
    /// What the engine was told, in order.
    told: Vec<Input<SharedFrame>>,
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// A request with a body of so many bytes.
fn forward(id: u64, bytes: usize) -> ToOwner<ServiceName, SharedFrame> {
    ToOwner::Forward(Forward {
        id: ForwardId(id),
        client: 1,
        ttl: Duration::from_secs(1),
        service: ServiceName::try_from("echo").unwrap(),
        body: [SharedFrame::from(vec![7; bytes].as_slice())].into_iter().collect(),
    })
}

fn reply(id: u64, bytes: usize) -> ToOrigin<SharedFrame> {
    let body = [SharedFrame::from(vec![7; bytes].as_slice())].into_iter().collect();
    ToOrigin::Reply { id: ForwardId(id), is_last: true, body }
}

fn returned(id: u64) -> ToOrigin<SharedFrame> {
    ToOrigin::Return { id: ForwardId(id), cause: ReturnCause::NoWorker }
}

impl End {
    fn new(node: &str, epoch: u64) -> Self {
        Self::at(node, epoch, "127.0.0.1:0", WIRE)
    }

    fn at(node: &str, epoch: u64, bind: &str, wire: WireRange) -> Self {
        let context = Arc::new(Context::new(1).unwrap());
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let (ringer, bell) = bell().unwrap();
        let resolver = Resolver::new(runtime.handle().clone(), ringer);
        let settings = RelaySettings::new(name(node), bind.parse().unwrap(), epoch);
        let settings = RelaySettings { io_threads: IoThreads::ANY, wire, ..settings };
        let links = RelayLinks::bind(&context, settings, resolver).unwrap();
        let name = name(node);
        Self { name, epoch, links, bell, _runtime: runtime, told: Vec::new() }
    }

    fn address(&self) -> (NodeName, String) {
        (self.name.clone(), self.links.endpoint().to_string())
    }

    /// It takes part in the cluster, together with these.
    fn join(&mut self, nodes: &[(NodeName, String)]) {
        let (cluster, epoch, nodes) = ("c".to_owned(), Epoch(self.epoch), nodes.to_vec());
        self.links.set_peers(Instant::now(), Peers { cluster, epoch, nodes });
    }

    /// A turn of the broker thread, without the engine.
    fn turn(&mut self) {
        let now = Instant::now();
        loop {
            match self.links.receive(now).unwrap() {
                Received::Nothing => break,
                Received::Handled => {}
                Received::Message(input) => self.told.push(input),
            }
            self.take_inputs();
        }
        self.links.tend(now).unwrap();
        self.take_inputs();
    }

    fn take_inputs(&mut self) {
        while let Some(input) = self.links.poll_input() {
            self.told.push(input);
        }
    }

    /// Whether the broker thread could sleep now.
    fn may_sleep(&mut self) -> bool {
        !self.links.look().unwrap()
    }

    fn links_up(&self, wanted: LinkRole) -> Vec<LinkId> {
        let is_down = |up: &LinkId| self.downs().iter().any(|(link, _)| link == up);
        let up = |input: &Input<SharedFrame>| {
            let Input::LinkUp { link, role } = *input else { return None };
            (role == wanted && !is_down(&link)).then_some(link)
        };
        self.told.iter().filter_map(up).collect()
    }

    /// The link on which this node is the origin.
    fn to_owner(&self) -> Option<LinkId> {
        self.links_up(LinkRole::Origin).first().copied()
    }

    /// The link on which this node is the owner.
    fn to_origin(&self) -> Option<LinkId> {
        self.links_up(LinkRole::Owner).first().copied()
    }

    fn send(&mut self, link: LinkId, message: ToOwner<ServiceName, SharedFrame>) {
        self.links.send_to_owner(link, message).unwrap();
    }

    fn answer(&mut self, link: LinkId, message: ToOrigin<SharedFrame>) {
        self.links.send_to_origin(Instant::now(), link, message).unwrap();
    }

    /// The ids of the requests that came, with their links.
    fn requests(&self) -> Vec<(LinkId, u64)> {
        let request = |input: &Input<SharedFrame>| {
            let Input::FromOrigin { link, message: ToOwner::Forward(forward) } = input else {
                return None;
            };
            Some((*link, forward.id.0))
        };
        self.told.iter().filter_map(request).collect()
    }

    /// The ids of the replies and returned requests that came.
    fn answers(&self) -> Vec<u64> {
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
    fn downs(&self) -> Vec<(LinkId, Vec<u64>)> {
        let down = |input: &Input<SharedFrame>| {
            let Input::LinkDown { link, unsent } = input else { return None };
            Some((*link, unsent.iter().map(|id| id.0).collect()))
        };
        self.told.iter().filter_map(down).collect()
    }

    fn lost(&self, loss: LinkLoss) -> u64 {
        self.links.totals().lost.get(&loss).copied().unwrap_or(0)
    }
}

/// Lets all nodes work until something is so, and sleeps in between as the broker thread does: who
/// misses the news of a descriptor sleeps too long.
fn until(what: &str, ends: &mut [&mut End], is_so: impl Fn(&[&mut End]) -> bool) {
    let begun = Instant::now();
    loop {
        ends.iter_mut().for_each(|end| end.turn());
        if is_so(ends) {
            return;
        }
        let told: Vec<_> = ends.iter().map(|end| &end.told).collect();
        assert!(begun.elapsed() < DEADLINE, "{what}: {told:?}");
        sleep(ends);
    }
}

/// Lets all nodes work for a while.
fn go_on(ends: &mut [&mut End], time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        ends.iter_mut().for_each(|end| end.turn());
        sleep(ends);
    }
}

fn sleep(ends: &mut [&mut End]) {
    if !ends.iter_mut().all(|end| end.may_sleep()) {
        return;
    }
    let due = ends.iter().filter_map(|end| end.links.poll_timeout()).min();
    let sleep = due.map_or(SLEEP_MAX, |at| at.saturating_duration_since(Instant::now()));
    let sleep = sleep.min(SLEEP_MAX);
    let mut descriptors: SmallVec<[PollFd<'_>; 8]> = SmallVec::new();
    let mut counts = Vec::new();
    for end in ends.iter() {
        let before = descriptors.len();
        descriptors.push(PollFd::from_borrowed_fd(end.bell.descriptor(), PollFlags::IN));
        end.links.descriptors(&mut descriptors).unwrap();
        counts.push(descriptors.len() - before);
    }
    let timeout = Timespec {
        tv_sec: i64::try_from(sleep.as_secs()).unwrap(),
        tv_nsec: sleep.subsec_nanos().into(),
    };
    poll(&mut descriptors, Some(&timeout)).unwrap();
    let rang: Vec<bool> = descriptors.iter().map(|fd| !fd.revents().is_empty()).collect();
    drop(descriptors);
    let mut rang = rang.as_slice();
    for (end, count) in ends.iter_mut().zip(counts) {
        let (own, rest) = rang.split_at(count);
        if own[0] {
            end.bell.silence();
        }
        end.links.wake(own[1..].iter().copied());
        rang = rest;
    }
}

/// Two nodes with links in both directions.
fn pair() -> (End, End) {
    let (mut one, mut other) = (End::new("node-1", 11), End::new("node-2", 12));
    let nodes = [one.address(), other.address()];
    one.join(&nodes);
    other.join(&nodes);
    until("links in both directions", &mut [&mut one, &mut other], |ends| {
        ends.iter().all(|end| end.to_owner().is_some() && end.to_origin().is_some())
    });
    (one, other)
}
