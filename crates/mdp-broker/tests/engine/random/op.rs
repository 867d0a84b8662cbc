//! What can happen, as numbers that shrink well.

use proptest::{
    prelude::{Just, Strategy, any, prop_oneof},
    strategy::Union,
};

use crate::support::Cluster;

/// Peers below this say what workers say.
const WORKERS_END: u8 = 12;
/// Peers from here say what clients say: some peers are both.
const CLIENTS_START: u8 = 9;
/// All peers.
const PEERS_END: u8 = 20;

/// Whether a peer speaks as it always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tongue {
    Own,
    /// A mistake: the other version.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Partial,
    Final,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Heartbeat,
    Disconnect,
    Request,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandedOver {
    Maybe,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformation {
    Message,
    Ready,
    Answer,
}

/// One thing that happens. Numbers choose among what there is at that moment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Ready {
        peer: u8,
        service: u8,
        tongue: Tongue,
    },
    Request {
        peer: u8,
        service: u8,
        frames: u8,
        bytes: u16,
        envelope: u8,
    },
    Mmi {
        peer: u8,
        name: u8,
        about: u8,
    },
    /// A worker that has a request answers it.
    Answer {
        pick: u8,
        part: Part,
        bytes: u8,
    },
    /// Anybody answers with a token that somebody got once.
    Misanswer {
        peer: u8,
        token: u8,
        part: Part,
    },
    Say {
        peer: u8,
        said: Said,
        tongue: Tongue,
    },
    /// A worker comes back at once, again and again, for a name that it cannot have.
    Storm {
        peer: u8,
        count: u8,
    },
    /// Every worker heartbeats.
    Heartbeats,
    Malformed {
        peer: u8,
        defect: u8,
        what: Malformation,
    },
    Lose {
        peer: u8,
        handed_over: HandedOver,
    },
    /// Time passes, every timer is handled at its moment.
    Wait {
        milliseconds: u16,
    },
    /// Time passes, and nobody looks at the timers until something else happens.
    Lag {
        milliseconds: u16,
    },
    /// Time passes, then the timers are handled late.
    Late {
        milliseconds: u16,
    },
    /// The process stands still.
    Pause {
        seconds: u16,
    },
    Cluster(Cluster),
    /// The cluster answers some of what it withheld.
    Release {
        count: u8,
    },
    /// What the cluster withheld is lost.
    Forget,
    /// An old question is answered, maybe once more.
    AnswerAgain {
        pick: u8,
    },
    /// This node begins a new life in the catalog.
    NewLife,
    /// The cluster takes this node for gone.
    Gone,
    /// There is no quorum for long.
    Isolate,
    Drain {
        milliseconds: u16,
    },
}

fn worker() -> impl Strategy<Value = u8> {
    0..WORKERS_END
}

fn tongue() -> impl Strategy<Value = Tongue> {
    prop_oneof![30 => Just(Tongue::Own), 1 => Just(Tongue::Other)]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![1 => Just(Part::Partial), 3 => Just(Part::Final)]
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        10 => Just(Said::Heartbeat),
        3 => Just(Said::Disconnect),
        1 => Just(Said::Request),
    ]
}

fn by_workers() -> impl Strategy<Value = Op> {
    let answer = (any::<u8>(), part(), 0_u8..90);
    prop_oneof![
        10 => (worker(), 0_u8..9, tongue())
            .prop_map(|(peer, service, tongue)| Op::Ready { peer, service, tongue }),
        20 => answer.prop_map(|(pick, part, bytes)| Op::Answer { pick, part, bytes }),
        1 => (0..PEERS_END, any::<u8>(), part())
            .prop_map(|(peer, token, part)| Op::Misanswer { peer, token, part }),
        6 => (worker(), said(), tongue())
            .prop_map(|(peer, said, tongue)| Op::Say { peer, said, tongue }),
        6 => Just(Op::Heartbeats),
        1 => (worker(), 1_u8..15).prop_map(|(peer, count)| Op::Storm { peer, count }),
    ]
}

fn by_clients() -> impl Strategy<Value = Op> {
    let bytes = prop_oneof![9 => 0_u16..100, 1 => 0_u16..4_000];
    let request = (CLIENTS_START..PEERS_END, 0_u8..8, 0_u8..3, bytes, 0_u8..4);
    prop_oneof![
        20 => request.prop_map(|(peer, service, frames, bytes, envelope)| {
            Op::Request { peer, service, frames, bytes, envelope }
        }),
        3 => (CLIENTS_START..PEERS_END, 0_u8..7, 0_u8..9)
            .prop_map(|(peer, name, about)| Op::Mmi { peer, name, about }),
    ]
}

fn by_any_peer() -> impl Strategy<Value = Op> {
    let what = prop_oneof![
        3 => Just(Malformation::Message),
        1 => Just(Malformation::Ready),
        1 => Just(Malformation::Answer),
    ];
    let handed_over = prop_oneof![2 => Just(HandedOver::Maybe), 1 => Just(HandedOver::No)];
    prop_oneof![
        (0..PEERS_END, 0_u8..10, what).prop_map(|(peer, defect, what)| Op::Malformed {
            peer,
            defect,
            what
        }),
        (0..PEERS_END, handed_over).prop_map(|(peer, handed_over)| Op::Lose { peer, handed_over }),
    ]
}

fn by_time() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0_u16..700).prop_map(|milliseconds| Op::Wait { milliseconds }),
        2 => (0_u16..9_000).prop_map(|milliseconds| Op::Wait { milliseconds }),
        3 => (0_u16..1_500).prop_map(|milliseconds| Op::Lag { milliseconds }),
        2 => (0_u16..3_000).prop_map(|milliseconds| Op::Late { milliseconds }),
        1 => (1_u16..4_000).prop_map(|seconds| Op::Pause { seconds }),
    ]
}

fn by_the_cluster() -> impl Strategy<Value = Op> {
    let cluster = Union::new_weighted(vec![
        (3, Just(Cluster::Answers)),
        (2, Just(Cluster::Withholds)),
        (1, Just(Cluster::NoQuorum)),
    ]);
    prop_oneof![
        6 => cluster.prop_map(Op::Cluster),
        6 => (1_u8..5).prop_map(|count| Op::Release { count }),
        1 => Just(Op::Forget),
        2 => any::<u8>().prop_map(|pick| Op::AnswerAgain { pick }),
        1 => Just(Op::NewLife),
        1 => Just(Op::Gone),
        1 => Just(Op::Isolate),
    ]
}

/// One thing that happens.
pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        40 => by_workers(),
        26 => by_clients(),
        4 => by_any_peer(),
        14 => by_time(),
        7 => by_the_cluster(),
        1 => (0_u16..9_000).prop_map(|milliseconds| Op::Drain { milliseconds }),
    ]
}
