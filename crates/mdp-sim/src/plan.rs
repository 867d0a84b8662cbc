//! What a seed decides before anything happens.

use std::time::{Duration, Instant};

use mdp_broker::{Minority, Settings};
use mdp_core::DrainTimes;
use mdp_replica::{Consistency, IsolationWatch};

use crate::{
    Rng,
    actors::Workload,
    disk::SyncTimes,
    faults::Appetite,
    network::Weather,
    operator::Changes,
    wires::{ByteWays, Ways},
};

/// Makes the draw of the reads independent of all others.
const READS_SALT: u64 = 0x10ca_17ea_d510_ca15;
/// How many of a thousand seeds have reads that may be old.
const LOCAL_READS: u32 = 150;

/// Makes the draw of the time before a drain independent of all others.
const ANNOUNCE_SALT: u64 = 0x0a44_0a9c_e0d2_a145;
/// In how many of a thousand seeds a node goes on for a while before it drains.
const ANNOUNCED_DRAINS: u32 = 250;

/// Makes the draw of what is between peers and nodes independent of all others.
const FRONT_SALT: u64 = 0x0f20_a7c1_1e47_5b17;
/// The same for the places where their bytes are cut.
const FRONT_CUTS_SALT: u64 = 0x0fc0_75fc_075f_c075;
/// In how many of a thousand seeds their bytes come in pieces.
const FRONT_CUT_BYTES: u32 = 250;
/// In how many of a thousand seeds few bytes fit between a peer and a node.
const FRONT_SMALL_WINDOWS: u32 = 100;

/// Makes the draw of what is between nodes independent of all others.
const RELAY_SALT: u64 = 0x0b17_e5a1_a1d2_77e5;
/// The same for the places where bytes are cut.
const CUTS_SALT: u64 = 0x0c07_5c07_5c07_5c07;
/// In how many of a thousand seeds bytes between nodes come in pieces.
const CUT_BYTES: u32 = 100;
/// In how many of a thousand seeds few bytes fit between two nodes: less than a few messages, because
/// no more than credit allows are on their way at the same time.
const SMALL_WINDOWS: u32 = 250;
/// How many bytes fit otherwise.
const WINDOW_BYTES: usize = 256 << 10;
/// In how many of a thousand seeds a node reads few messages of others in a turn.
const SMALL_TURNS: u32 = 100;
/// How many it reads otherwise, as the product does.
const MESSAGES_PER_TURN: usize = 128;
/// In how many of a thousand seeds it takes time to look up where a node is.
const SLOW_NAMES: u32 = 50;

/// Makes the draw of what calls travel over independent of all others.
const CLUSTER_SALT: u64 = 0x0c1a_57e2_ca11_50c1;
/// The same for the places where their bytes are cut.
const CLUSTER_CUTS_SALT: u64 = 0x0c1a_57e2_c075_c075;
/// How many bytes of calls fit then: fewer than some calls have, but so many that calls are answered in time.
const CLUSTER_SMALL_WINDOW_BYTES: usize = 8 << 10;
/// In how many of a thousand seeds few bytes of calls fit between two nodes.
const CLUSTER_SMALL_WINDOWS: u32 = 100;

/// How clients and workers are connected with nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrontPlan {
    /// Whether bytes come in pieces.
    pub(crate) is_cut: bool,
    /// How many bytes may be written one way before they are read.
    pub(crate) window_bytes: usize,
}

/// How nodes are connected for calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClusterPlan {
    /// Whether bytes come in pieces.
    pub(crate) is_cut: bool,
    /// How many bytes may be written one way before they are read.
    pub(crate) window_bytes: usize,
}

/// How nodes are connected for requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayPlan {
    /// Whether bytes come in pieces.
    pub(crate) is_cut: bool,
    /// How many bytes may be written one way before they are read.
    pub(crate) window_bytes: usize,
    /// How many messages a node reads in a turn.
    pub(crate) messages_per_turn: usize,
    /// How long it takes at most to look up where a node is.
    pub(crate) locate_max: Duration,
}

/// The times of nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) heartbeat_interval: Duration,
    pub(crate) election_timeout_min: Duration,
    pub(crate) election_timeout_max: Duration,
    pub(crate) node_timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) drain: DrainTimes,
}

/// What a seed decides before anything happens.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The seed.
    pub(crate) seed: u64,
    /// How many nodes there are at the beginning: the seeds.
    pub(crate) nodes: usize,
    /// What the engines are told.
    pub(crate) settings: Settings,
    /// How right `mmi.service` has to be.
    pub(crate) consistency: Consistency,
    /// What everybody else is told.
    pub(crate) times: Times,
    /// How long messages take.
    pub(crate) weather: Weather,
    /// How long disks take.
    pub(crate) sync: SyncTimes,
    /// Which faults there are, and how often.
    pub(crate) appetite: Appetite,
    /// Which changes of members there are.
    pub(crate) changes: Changes,
    /// How long faults come.
    pub(crate) safety: Duration,
    /// What clients and workers do.
    pub(crate) workload: Workload,
    /// How clients and workers are connected with nodes.
    pub(crate) front: FrontPlan,
    /// How nodes are connected for requests.
    pub(crate) relay: RelayPlan,
    /// How they are connected for calls.
    pub(crate) cluster: ClusterPlan,
}

impl FrontPlan {
    fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ FRONT_SALT);
        let is_cut = rng.chance(FRONT_CUT_BYTES);
        let window = *rng.pick(&[64, 200, 1_000]).expect("there are choices");
        let window_bytes = if rng.chance(FRONT_SMALL_WINDOWS) { window } else { WINDOW_BYTES };
        Self { is_cut, window_bytes }
    }
}

impl ClusterPlan {
    fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ CLUSTER_SALT);
        let is_cut = rng.chance(CUT_BYTES);
        let is_small = rng.chance(CLUSTER_SMALL_WINDOWS);
        Self {
            is_cut,
            window_bytes: if is_small { CLUSTER_SMALL_WINDOW_BYTES } else { WINDOW_BYTES },
        }
    }
}

impl RelayPlan {
    fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ RELAY_SALT);
        let is_cut = rng.chance(CUT_BYTES);
        let window = *rng.pick(&[64, 96, 384]).expect("there are choices");
        let window_bytes = if rng.chance(SMALL_WINDOWS) { window } else { WINDOW_BYTES };
        let few = 1 + rng.below(4);
        let messages_per_turn = if rng.chance(SMALL_TURNS) { few } else { MESSAGES_PER_TURN };
        let is_slow = rng.chance(SLOW_NAMES);
        let locate_max = if is_slow { Duration::from_millis(300) } else { Duration::ZERO };
        Self { is_cut, window_bytes, messages_per_turn, locate_max }
    }
}

impl Plan {
    /// Drawn from the seed: each seed has its own set of faults.
    pub(crate) fn draw(seed: u64, safety: Duration) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = *rng.pick(&[3, 3, 3, 3, 3, 5, 5, 1]).expect("there are choices");
        let workload = Workload::draw(&mut rng.fork());
        let (settings, mut times) = draw_settings(&mut rng, &workload);
        if Rng::new(seed ^ ANNOUNCE_SALT).chance(ANNOUNCED_DRAINS) {
            times.drain.announce = Duration::from_millis(300);
        }
        let micros = Duration::from_micros;
        let latency_max = *rng.pick(&[500, 1_000, 2_000, 5_000]).expect("there are choices");
        let sync_max = *rng.pick(&[500, 2_000, 5_000, 15_000]).expect("there are choices");
        let weather = Weather {
            min: micros(latency_max / 10),
            max: micros(latency_max),
            slow: *rng.pick(&[0, 0, 5, 20]).expect("there are choices"),
            lost: 0,
            twice: 0,
        };
        let sync = SyncTimes { min: micros(sync_max / 5), max: micros(sync_max) };
        let mut appetite = Appetite::draw(&mut rng.fork());
        let changes = Changes::draw(seed, nodes);
        if changes.is_alone {
            appetite.kinds.clear();
        }
        let is_local = Rng::new(seed ^ READS_SALT).chance(LOCAL_READS);
        let consistency = if is_local { Consistency::Local } else { Consistency::Linearizable };
        Self {
            seed,
            nodes,
            settings,
            consistency,
            times,
            weather,
            sync,
            appetite,
            changes,
            safety,
            workload,
            front: FrontPlan::draw(seed),
            relay: RelayPlan::draw(seed),
            cluster: ClusterPlan::draw(seed),
        }
    }

    /// How bytes travel.
    pub(crate) fn ways(&self) -> Ways {
        let Self { seed, front, relay, cluster, .. } = self;
        let ways = |is_cut: bool, salt, window_bytes| {
            let cuts = is_cut.then(|| Rng::new(seed ^ salt));
            ByteWays { window_bytes, cuts }
        };
        Ways {
            front: ways(front.is_cut, FRONT_CUTS_SALT, front.window_bytes),
            relay: ways(relay.is_cut, CUTS_SALT, relay.window_bytes),
            cluster: ways(cluster.is_cut, CLUSTER_CUTS_SALT, cluster.window_bytes),
        }
    }

    /// For how long a node that is cut off from the others keeps its workers, if not for ever.
    pub(crate) fn lonely_max(&self) -> Option<Duration> {
        match self.settings.minority {
            Minority::Serve => None,
            Minority::Fail => Some(self.times.node_timeout),
        }
    }

    /// How each node watches whether it is cut off.
    pub(crate) fn isolation(&self, now: Instant) -> Option<IsolationWatch> {
        self.lonely_max().map(|lonely_max| IsolationWatch::new(lonely_max, now))
    }
}

fn draw_settings(rng: &mut Rng, workload: &Workload) -> (Settings, Times) {
    let millis = Duration::from_millis;
    let read_timeout = millis(*rng.pick(&[500, 1_000, 1_000]).expect("there are choices"));
    let minority = if rng.chance(250) { Minority::Fail } else { Minority::Serve };
    let settings = Settings { read_timeout, minority, ..workload.settings() };
    let times = Times {
        heartbeat_interval: millis(50),
        election_timeout_min: millis(200),
        election_timeout_max: millis(400),
        node_timeout: millis(*rng.pick(&[1_500, 3_000, 3_000]).expect("there are choices")),
        read_timeout,
        drain: DrainTimes {
            timeout: millis(*rng.pick(&[500, 2_000, 5_000]).expect("there are choices")),
            announce: Duration::ZERO,
        },
    };
    (settings, times)
}
