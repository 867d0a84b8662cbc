//! What a worker of the library says of its registrations, in its log.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// How the library says that a node has taken a worker.
const REGISTERED: &str = "registered";

/// How the library says that a registration has ended.
const OVER: &str = "registration over";

/// Why it has, if the node said so.
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

/// Listens to the log of one thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Moves {
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Moves {
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

impl Subscriber for Moves {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("mdp_client") && *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let at = Instant::now();
        let mut text = Text::default();
        event.record(&mut text);
        let seen = match (text.message.as_str(), text.why.contains(SENT_AWAY)) {
            (REGISTERED, _) => Seen::Registered { at },
            (OVER, true) => Seen::SentAway { at },
            (OVER, false) => Seen::Lost,
            _ => return,
        };
        self.seen.lock().unwrap().push(seen);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of an event.
#[derive(Default)]
struct Text {
    message: String,
    why: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "why" => self.why = format!("{value:?}"),
            _ => {}
        }
    }
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
fn log_is_understood() {
    let moves = Moves::default();

    tracing::subscriber::with_default(moves.clone(), || {
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
