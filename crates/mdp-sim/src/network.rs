//! The network between machines: how long messages take, and which ways are cut.
//!
//! A *site* is a machine that runs a node, or one that runs a client or worker: first come the
//! nodes, in their order, then the others.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use mdp_raft::FORMATS;
use mdp_wire::{
    codec::{self, Kind},
    relay::WIRE,
};

use crate::{Rng, shared::Shared, trace::mix};

/// The host of the first site; those of the others follow.
const FIRST_HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Where nodes take clients and workers.
const CLIENT_PORT: u16 = 5_555;
/// Where nodes take calls.
const CLUSTER_PORT: u16 = 5_556;
/// Where nodes take requests.
const RELAY_PORT: u16 = 5_557;
/// Where all connections of a site come from: nodes tell them apart by other means.
const CALLER_PORT: u16 = 40_000;

/// How long messages take, and what may happen to calls between nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// The shortest time that a message takes.
    pub(crate) min: Duration,
    /// The longest, but for the slow ones.
    pub(crate) max: Duration,
    /// How many of a thousand messages take up to ten times as long.
    pub(crate) slow: u32,
    /// How many of a thousand calls get lost on either way.
    pub(crate) lost: u32,
    /// How many of a thousand calls arrive twice.
    pub(crate) twice: u32,
}

/// The network. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    state: Arc<Shared<State>>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    weather: Weather,
    sites: usize,
    /// How often each way is cut, by sender and receiver.
    cuts: Vec<u32>,
    /// What every call was, in short: part of the trace.
    digest: u64,
    calls: u64,
    /// Those in a format that this version does not speak.
    newer_calls: u64,
    /// Links between nodes that were made, and those of them in a version that this one does not speak.
    links: u64,
    newer_links: u64,
}

/// What happens to a call besides what happens to its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallFate {
    /// It never leaves.
    pub(crate) is_lost: bool,
    /// Its answer gets lost.
    pub(crate) is_answer_lost: bool,
    /// It is sent once more, so much later.
    pub(crate) again_after: Option<Duration>,
}

impl Network {
    pub(crate) fn new(sites: usize, weather: Weather, rng: Rng) -> Self {
        let state = State {
            rng,
            weather,
            sites,
            cuts: vec![0; sites * sites],
            digest: 0,
            calls: 0,
            newer_calls: 0,
            links: 0,
            newer_links: 0,
        };
        Self { state: Arc::new(Shared::new(state)) }
    }

    /// How many calls there were, and how many of them in a format that only the next version speaks.
    pub(crate) fn calls(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.calls, state.newer_calls)
    }

    /// A link between nodes is made; all on it is in this version.
    pub(crate) fn count_link(&self, version: u16) {
        let mut state = self.state.lock();
        state.links += 1;
        state.newer_links += u64::from(!WIRE.contains(version));
    }

    /// How many links were made, and how many of them in a version that only the next one speaks.
    pub(crate) fn links(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.links, state.newer_links)
    }

    /// Cuts one way, until it is mended as often as it was cut.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        let mut state = self.state.lock();
        let way = state.way(from, to);
        state.cuts[way] += 1;
    }

    pub(crate) fn mend(&self, from: usize, to: usize) {
        let mut state = self.state.lock();
        let way = state.way(from, to);
        state.cuts[way] = state.cuts[way].saturating_sub(1);
    }

    pub(crate) fn mend_all(&self) {
        self.state.lock().cuts.fill(0);
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        let state = self.state.lock();
        state.cuts[state.way(from, to)] > 0
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    pub(crate) fn weather(&self) -> Weather {
        self.state.lock().weather
    }

    /// A call begins. What becomes of it, and what it was becomes a part of the trace.
    pub(crate) fn draw_fate(&self, from: usize, to: Option<usize>, request: &[u8]) -> CallFate {
        let mut state = self.state.lock();
        state.calls += 1;
        let format = codec::format_of(Kind::Call, u16::MAX, request);
        state.newer_calls += u64::from(format.is_ok_and(|format| !FORMATS.contains(format)));
        let to = to.map_or(u64::MAX, |to| to as u64);
        state.digest = mix(state.digest, &[from as u64, to, request.len() as u64]);
        state.digest = mix_bytes(state.digest, request);
        let (lost, twice) = (state.weather.lost, state.weather.twice);
        let again_after = state.rng.chance(twice).then(|| state.latency() * 2);
        let (is_lost, is_answer_lost) = (state.rng.chance(lost), state.rng.chance(lost));
        CallFate { is_lost, is_answer_lost, again_after }
    }

    /// How long the next message takes.
    pub(crate) fn latency(&self) -> Duration {
        self.state.lock().latency()
    }

    /// What every call was, in short, and how many there were.
    pub(crate) fn digest(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.digest, state.calls)
    }
}

impl State {
    const fn way(&self, from: usize, to: usize) -> usize {
        from * self.sites + to
    }

    fn latency(&mut self) -> Duration {
        let Weather { min, max, slow, .. } = self.weather;
        let time = self.rng.duration(min, max);
        if slow > 0 && self.rng.chance(slow) {
            return time * u32::try_from(self.rng.between(2, 10)).unwrap_or(2);
        }
        time
    }
}

fn mix_bytes(digest: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(digest, |digest, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(digest, &[u64::from_le_bytes(word)])
    })
}

/// The address of a node's site, for consensus.
pub(crate) fn cluster_address(site: usize) -> String {
    format!("tcp://node-{}:5556", site + 1)
}

/// The site of an address that [`cluster_address`] or [`relay_address`] made.
pub(crate) fn site_of(address: &str) -> Option<usize> {
    let name = address.strip_prefix("tcp://node-")?;
    let (number, _) = name.split_once(':')?;
    number.parse::<usize>().ok()?.checked_sub(1)
}

/// The address of a node's site, for requests.
pub(crate) fn relay_address(site: usize) -> String {
    format!("tcp://node-{}:5557", site + 1)
}

/// What the address of a site for consensus stands for.
pub(crate) fn cluster_socket(site: usize) -> SocketAddr {
    SocketAddr::from((host(site), CLUSTER_PORT))
}

/// What the address of a site for requests stands for.
pub(crate) fn relay_socket(site: usize) -> SocketAddr {
    SocketAddr::from((host(site), RELAY_PORT))
}

/// Where a site takes clients and workers.
pub(crate) fn client_socket(site: usize) -> SocketAddr {
    SocketAddr::from((host(site), CLIENT_PORT))
}

/// The site of an address that [`relay_socket`] or [`cluster_socket`] made.
pub(crate) fn site_of_socket(address: SocketAddr) -> Option<usize> {
    let IpAddr::V4(host) = address.ip() else { return None };
    let number = host.to_bits().checked_sub(FIRST_HOST.to_bits())?;
    usize::try_from(number).ok()
}

/// Where connections of a site come from.
pub(crate) fn caller_socket(site: usize) -> SocketAddr {
    SocketAddr::from((host(site), CALLER_PORT))
}

fn host(site: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_HOST.to_bits() + u32::try_from(site).unwrap_or(u32::MAX >> 8))
}

/// The address of a node's site, for clients and workers.
pub(crate) fn client_address(site: usize) -> String {
    format!("tcp://node-{}:5555", site + 1)
}
