//! What a worker of the library says of its registrations, in its log.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cluster_tests::{RegistrationEvent, registration_log};
use tracing::Subscriber;

/// Why a registration has ended, if the node said so.
const SENT_AWAY: &str = "disconnected by the broker";

/// One thing that a worker saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A node acknowledged it.
    Registered {
        /// When.
        at: Instant,
    },
    /// Its node sent DISCONNECT.
    SentAway {
        /// When.
        at: Instant,
    },
    /// Its registration ended otherwise.
    Lost,
}

/// What one worker saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Moves {
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Moves {
    /// Listens to the library's log on the thread of a worker.
    pub(super) fn listener(&self) -> impl Subscriber + Send + Sync + use<> {
        let moves = Arc::clone(&self.seen);
        registration_log(move |event| {
            let at = Instant::now();
            moves.lock().unwrap().push(match event {
                RegistrationEvent::Registered { .. } => Seen::Registered { at },
                RegistrationEvent::Over { why } if why.contains(SENT_AWAY) => Seen::SentAway { at },
                RegistrationEvent::Over { .. } => Seen::Lost,
            });
        })
    }

    /// Everything so far, oldest first.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// How long each way from one node to the next one took.
pub(super) fn moved(seen: &[Seen]) -> Vec<Duration> {
    let pairs = seen.windows(2).filter_map(|pair| match pair {
        [Seen::SentAway { at: from }, Seen::Registered { at: to }] => Some(*to - *from),
        _ => None,
    });
    pairs.collect()
}

#[test]
fn way_from_one_node_to_the_next_is_measured() {
    let at = Instant::now();
    let later = |ms| at + Duration::from_millis(ms);
    let seen = [
        Seen::Registered { at },
        Seen::SentAway { at: later(5) },
        Seen::Registered { at: later(12) },
        Seen::Lost,
        Seen::Registered { at: later(900) },
    ];

    assert_eq!(moved(&seen), [Duration::from_millis(7)]);
}

#[test]
fn moves_of_a_worker_follow_its_log() {
    let moves = Moves::default();

    tracing::subscriber::with_default(moves.listener(), || {
        tracing::info!(target: "mdp_client::worker", endpoint = "a", "registered");
        tracing::info!(target: "mdp_client::worker", why = SENT_AWAY, "registration over");
        tracing::info!(target: "mdp_client::worker", why = "connection lost", "registration over");
        tracing::info!(target: "elsewhere", "registered");
    });

    assert!(matches!(
        moves.seen().as_slice(),
        [Seen::Registered { .. }, Seen::SentAway { .. }, Seen::Lost]
    ));
}
