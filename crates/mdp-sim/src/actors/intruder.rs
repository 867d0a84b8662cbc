//! A peer that breaks the rules: one trick for each connection.

use std::time::{Duration, Instant};

use super::{frames::message, outbox::Outbox};
use crate::{
    Rng,
    actor::{Actor, ActorAction},
    observation::{Event, Trick},
    roster::Addresses,
};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long it waits between two tricks.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1_500));
/// How long it waits for all that comes; refusals may be held back for a quarter of a second.
const WAIT: Duration = Duration::from_millis(1_500);

const HEADERS: [&[u8]; 2] = [b"MDPW01", b"MDPW02"];

#[derive(Debug)]
enum State {
    Away { until: Instant },
    Connecting { until: Instant },
    Playing(Play),
    Dead,
}

#[derive(Debug)]
struct Play {
    trick: Trick,
    is_v2: bool,
    node: usize,
    until: Instant,
    heartbeats: u32,
    disconnects: u32,
    others: u32,
}

#[derive(Debug)]
pub(super) struct Intruder {
    actor: usize,
    nodes: Addresses,
    rng: Rng,
    outbox: Outbox,
    state: State,
    is_settled: bool,
}

impl Intruder {
    pub(super) fn new(actor: usize, nodes: Addresses, rng: Rng) -> Self {
        let (outbox, state) = (Outbox::default(), State::Dead);
        Self { actor, nodes, rng, outbox, state, is_settled: false }
    }

    fn stay_away(&mut self, now: Instant) {
        self.state = if self.is_settled {
            State::Dead
        } else {
            State::Away { until: now + self.rng.duration(AGAIN.0, AGAIN.1) }
        };
    }

    /// A worker's message: its command, and what follows.
    fn send(&mut self, is_v2: bool, command: (u8, u8), rest: &[&[u8]]) {
        let (v1, v2) = command;
        let mut frames =
            if is_v2 { message(&[HEADERS[1], &[v2]]) } else { message(&[b"", HEADERS[0], &[v1]]) };
        frames.extend(message(rest));
        self.outbox.send(frames);
    }

    fn begin(&mut self, now: Instant, node: usize) {
        let tricks = [
            Trick::ReservedReady,
            Trick::Unregistered,
            Trick::ForgedToken,
            Trick::LeavesTwice,
            Trick::Garbage,
        ];
        let trick = self.rng.pick(&tricks).copied().unwrap_or(Trick::Garbage);
        let is_v2 = self.rng.chance(500);
        self.outbox.saw(now, Event::TrickBegun { intruder: self.actor, trick, node });
        match trick {
            Trick::ReservedReady => {
                let names: [&[u8]; 3] = [b"mmi.service", b"mmi.", b"mmi.x"];
                let name = self.rng.pick(&names).copied().unwrap_or(b"mmi.");
                self.send(is_v2, (1, 1), &[name]);
            }
            Trick::Unregistered => {
                if self.rng.chance(500) {
                    self.send(is_v2, (4, 5), &[]);
                } else {
                    self.send(is_v2, (3, 4), &[b"sixteen bytes...", b"", b"forged"]);
                }
            }
            Trick::ForgedToken => {
                let name = format!("forged.{}", self.rng.below(3));
                self.send(is_v2, (1, 1), &[name.as_bytes()]);
            }
            Trick::LeavesTwice => {
                self.send(is_v2, (5, 6), &[]);
                self.send(is_v2, (5, 6), &[]);
            }
            Trick::Garbage => self.send_garbage(),
        }
        let until = now + WAIT;
        let (heartbeats, disconnects, others) = (0, 0, 0);
        self.state =
            State::Playing(Play { trick, is_v2, node, until, heartbeats, disconnects, others });
    }

    fn send_garbage(&mut self) {
        let frames: &[&[u8]] = match self.rng.below(6) {
            0 => &[b""],
            1 => &[b"", b""],
            2 => &[b"", b"MDPC01"],
            3 => &[b"MDPC02", &[1]],
            4 => &[b"", b"MDPX01", &[1], b"echo.0"],
            _ => &[b"x", b"", b"MDPW01", &[4]],
        };
        self.outbox.send(message(frames));
    }

    fn end(&mut self, now: Instant, has_lasted: bool) {
        let State::Playing(play) = &self.state else { return };
        let Play { trick, node, heartbeats, disconnects, others, .. } = *play;
        let intruder = self.actor;
        self.outbox.saw(
            now,
            Event::TrickEnded {
                intruder,
                trick,
                node,
                heartbeats,
                disconnects,
                others,
                has_lasted,
            },
        );
    }
}

impl Actor for Intruder {
    fn on_connected(&mut self, now: Instant, node: usize) {
        if matches!(self.state, State::Connecting { .. }) {
            self.begin(now, node);
        }
    }

    fn on_closed(&mut self, now: Instant) {
        if !matches!(self.state, State::Dead) {
            self.end(now, false);
            self.stay_away(now);
        }
    }

    fn on_frames(&mut self, _now: Instant, frames: Vec<Vec<u8>>) {
        let State::Playing(play) = &mut self.state else { return };
        let command = match (play.is_v2, frames.as_slice()) {
            (false, [_, _, command]) | (true, [_, command]) => command.first().copied(),
            _ => None,
        };
        let (heartbeat, disconnect) = if play.is_v2 { (5, 6) } else { (4, 5) };
        match command {
            Some(byte) if byte == heartbeat => {
                play.heartbeats += 1;
                let (trick, is_v2) = (play.trick, play.is_v2);
                if trick == Trick::ForgedToken {
                    self.send(is_v2, (3, 4), &[b"sixteen bytes...", b"", b"forged"]);
                }
            }
            Some(byte) if byte == disconnect => play.disconnects += 1,
            Some(_) | None => play.others += 1,
        }
    }

    fn on_timeout(&mut self, now: Instant) {
        match &self.state {
            State::Away { until } if *until <= now => {
                self.outbox.connect(self.nodes.pick(&mut self.rng));
                self.state = State::Connecting { until: now + CONNECT_MAX };
            }
            State::Connecting { until } if *until <= now => {
                self.outbox.close();
                self.stay_away(now);
            }
            State::Playing(play) if play.until <= now => {
                self.end(now, true);
                self.outbox.close();
                self.stay_away(now);
            }
            State::Away { .. } | State::Connecting { .. } | State::Playing(_) | State::Dead => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Away { until } | State::Connecting { until } => Some(*until),
            State::Playing(play) => Some(play.until),
            State::Dead => None,
        }
    }

    fn poll_action(&mut self) -> Option<ActorAction> {
        self.outbox.pop()
    }

    fn die(&mut self, now: Instant) {
        self.end(now, false);
        self.outbox.die();
        self.state = State::Dead;
    }

    fn revive(&mut self, now: Instant) {
        if matches!(self.state, State::Dead) {
            self.stay_away(now);
        }
    }

    fn is_worker(&self) -> bool {
        false
    }

    fn settle(&mut self, now: Instant, _until: Instant) {
        self.is_settled = true;
        if let State::Away { .. } = self.state {
            self.stay_away(now);
        }
    }
}
