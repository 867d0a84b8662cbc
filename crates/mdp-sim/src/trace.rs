//! What happened, as one number and as the last lines of a list.

use std::{collections::VecDeque, time::Duration};

/// How many of the last events are kept for the report of a violation.
const WINDOW_EVENTS: usize = 400;

/// Everything that happened, in short.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    steps: u64,
    window: VecDeque<Line>,
    /// Print everything as it happens.
    is_loud: bool,
}

#[derive(Debug)]
struct Line {
    step: u64,
    at: Duration,
    who: Who,
    what: String,
}

/// Whom an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Everybody.
    World,
    /// A node, counted from zero.
    Node(usize),
    /// A client or worker, counted from zero.
    Actor(usize),
}

impl Who {
    const fn number(self) -> u64 {
        match self {
            Self::World => 0,
            Self::Node(node) => 1 + node as u64,
            Self::Actor(actor) => 1_000 + actor as u64,
        }
    }
}

/// Stirs numbers into a hash.
pub(crate) fn mix(mut hash: u64, numbers: &[u64]) -> u64 {
    for number in numbers {
        hash = (hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash
}

fn mix_text(hash: u64, text: &str) -> u64 {
    let hash = mix(hash, &[text.len() as u64]);
    text.as_bytes().chunks(8).fold(hash, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash, &[u64::from_le_bytes(word)])
    })
}

impl Trace {
    pub(crate) const fn new(is_loud: bool) -> Self {
        Self { hash: 0x6d64_705f_7369_6d31, steps: 0, window: VecDeque::new(), is_loud }
    }

    /// Notes an event.
    pub(crate) fn note(&mut self, at: Duration, who: Who, what: String) {
        self.steps += 1;
        self.hash = mix(self.hash, &[nanoseconds(at), who.number()]);
        self.hash = mix_text(self.hash, &what);
        let line = Line { step: self.steps, at, who, what };
        if self.is_loud {
            crate::say(&line.to_string());
        }
        if self.window.len() == WINDOW_EVENTS {
            self.window.pop_front();
        }
        self.window.push_back(line);
    }

    /// Notes something that is only interesting to who compares two runs.
    pub(crate) fn stir(&mut self, numbers: &[u64]) {
        self.hash = mix(self.hash, numbers);
    }

    /// Prints something that is too much to be kept, if everything is printed.
    pub(crate) fn whisper(&self, at: Duration, line: impl FnOnce() -> (Who, String)) {
        if self.is_loud {
            let (who, what) = line();
            crate::say(&Line { step: self.steps, at, who, what }.to_string());
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) const fn steps(&self) -> u64 {
        self.steps
    }

    /// The last events, the oldest first.
    pub(crate) fn window(&self) -> Vec<String> {
        self.window.iter().map(ToString::to_string).collect()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, at, who, what } = self;
        let who = match who {
            Who::World => "world".to_owned(),
            Who::Node(node) => format!("node-{}", node + 1),
            Who::Actor(actor) => format!("peer-{actor}"),
        };
        write!(f, "{step:>7} {:>10.3}s {who:<8} {what}", at.as_secs_f64())
    }
}
