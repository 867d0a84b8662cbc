//! Questions to a broker's own services, which need no worker to answer them.
//!
//! Answers to `mmi.service` do not say what they answer. So each question carries its number in an
//! envelope frame in front of the empty one, which a broker keeps and restores.

use std::time::{Duration, Instant};

use mdp_transport::{MessageFrames, SharedFrame};
use mdp_wire::Part;

use crate::{
    BenchError, Latency,
    process::ProcessTime,
    report::{BrokerReport, LatencyRecorder, to_f64},
    sockets::{FrameSockets as _, raw::RawSockets},
};

/// How long to sleep at most.
const TURN_MAX: Duration = Duration::from_millis(10);
/// How long the last answers of a run may take.
const LAST_ANSWERS_DEADLINE: Duration = Duration::from_secs(5);

/// What to ask, and for how long.
#[derive(Clone, Debug)]
pub struct Questions {
    /// Which broker.
    pub endpoint: String,
    /// Which of its services, such as `mmi.service`.
    pub service: String,
    /// The bodies, one after the other.
    pub bodies: Vec<String>,
    /// What it must answer.
    pub answer: String,
    /// How many questions are outstanding at any time.
    pub window: usize,
    /// How many connections share them.
    pub connections: usize,
    /// How long to ask before anything counts.
    pub warmup: Duration,
    /// How long to measure.
    pub duration: Duration,
    /// The processes whose time the questions cost.
    pub pids: Vec<u32>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Answers {
    /// Right answers while measuring.
    pub answers: u64,
    /// The same per second.
    pub answers_per_second: f64,
    /// From question to answer, with the whole window outstanding.
    pub latency: Latency,
    /// What each process spent per question.
    pub processes: Vec<BrokerReport>,
    /// Processor time of this process per question, in microseconds.
    pub generator_cpu_us: f64,
    /// Other answers than the one that must come, and questions without an answer, over the whole
    /// run.
    pub errors: u64,
}

impl Answers {
    /// What all processes spent per question, in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> f64 {
        self.processes.iter().map(|process| process.cpu_us_per_request).sum()
    }
}

/// Asks and measures.
///
/// # Errors
/// Sockets or processes fail, or nothing is answered.
pub fn ask(questions: &Questions) -> Result<Answers, BenchError> {
    let mut asker = Asker::connect(questions)?;
    asker.fill()?;
    asker.turn_until(Instant::now() + questions.warmup, true)?;

    let before = times(&questions.pids)?;
    let own_before = times(&[std::process::id()])?;
    let answers_before = asker.answers;
    asker.latencies.clear();
    let began_at = Instant::now();
    asker.turn_until(began_at + questions.duration, true)?;
    let duration = began_at.elapsed();
    let after = times(&questions.pids)?;
    let own_after = times(&[std::process::id()])?;

    let answers = asker.answers - answers_before;
    let latency = asker.latencies.latency();
    if answers == 0 {
        return Err(BenchError::NothingMeasured { duration });
    }
    asker.turn_until(Instant::now() + LAST_ANSWERS_DEADLINE, false)?;
    let unanswered = u64::try_from(asker.outstanding).unwrap_or(u64::MAX);
    let spent = |before: &[ProcessTime], after: &[ProcessTime]| -> Vec<BrokerReport> {
        let pairs = before.iter().zip(after);
        pairs
            .map(|(before, after)| BrokerReport::new(&after.since(before), answers, 0, 0))
            .collect()
    };
    let own = spent(&own_before, &own_after);
    Ok(Answers {
        answers,
        answers_per_second: to_f64(answers) / duration.as_secs_f64(),
        latency,
        processes: spent(&before, &after),
        generator_cpu_us: own.iter().map(|own| own.cpu_us_per_request).sum(),
        errors: asker.wrong + unanswered,
    })
}

fn times(pids: &[u32]) -> Result<Vec<ProcessTime>, BenchError> {
    let time = |&pid| ProcessTime::read(pid).map_err(|error| BenchError::Process { pid, error });
    pids.iter().map(time).collect()
}

/// A place in the window.
#[derive(Clone, Copy, Debug)]
struct Slot {
    sent_at: Instant,
    /// Counts the questions of this place, so that nothing is answered twice.
    generation: u32,
    is_outstanding: bool,
}

struct Asker<'a> {
    questions: &'a Questions,
    sockets: RawSockets,
    ready: Vec<usize>,
    messages: Vec<MessageFrames>,
    slots: Vec<Slot>,
    next_body: usize,
    outstanding: usize,
    latencies: LatencyRecorder,
    answers: u64,
    wrong: u64,
}

impl<'a> Asker<'a> {
    fn connect(questions: &'a Questions) -> Result<Self, BenchError> {
        Ok(Self {
            questions,
            sockets: RawSockets::connect(&questions.endpoint, questions.connections, None)?,
            ready: Vec::new(),
            messages: Vec::new(),
            slots: Vec::new(),
            next_body: 0,
            outstanding: 0,
            latencies: LatencyRecorder::new().ok_or(BenchError::WindowTooLarge)?,
            answers: 0,
            wrong: 0,
        })
    }

    fn fill(&mut self) -> Result<(), BenchError> {
        let empty = Slot { sent_at: Instant::now(), generation: 0, is_outstanding: false };
        self.slots = vec![empty; self.questions.window];
        for index in 0..self.slots.len() {
            self.send(index, Instant::now())?;
        }
        self.sockets.flush()
    }

    /// Takes answers until then, and asks anew for each, or until all are answered.
    fn turn_until(&mut self, until: Instant, goes_on: bool) -> Result<(), BenchError> {
        while Instant::now() < until && (goes_on || self.outstanding > 0) {
            let mut ready = std::mem::take(&mut self.ready);
            self.sockets.wait(TURN_MAX, &mut ready)?;
            for &socket in &ready {
                self.read(socket, goes_on)?;
            }
            self.ready = ready;
            self.sockets.flush()?;
        }
        Ok(())
    }

    fn read(&mut self, socket: usize, goes_on: bool) -> Result<(), BenchError> {
        let mut messages = std::mem::take(&mut self.messages);
        // What a connection that is closed was asked stays unanswered, which is counted.
        self.sockets.receive(socket, &mut messages)?;
        let now = Instant::now();
        for frames in messages.drain(..) {
            match self.take(&frames, now) {
                Some(index) if goes_on => self.send(index, now)?,
                Some(_) => {}
                None => self.wrong += 1,
            }
        }
        self.messages = messages;
        Ok(())
    }

    /// Finds the place of the answer in `frames`. A wrong answer ends its question, too.
    fn take(&mut self, frames: &[SharedFrame], now: Instant) -> Option<usize> {
        let [number, empty, header, service, code] = frames else {
            return None;
        };
        let [number, header, service, code] = [number, header, service, code].map(AsRef::as_ref);
        let number = u64::from_le_bytes(number.first_chunk().copied()?);
        let index = usize::try_from(number & u64::from(u32::MAX)).ok()?;
        let slot = self.slots.get_mut(index)?;
        if !slot.is_outstanding || u64::from(slot.generation) != number >> 32 {
            return None;
        }
        slot.is_outstanding = false;
        self.outstanding -= 1;
        let is_reply = empty.is_empty() && header == b"MDPC01";
        let is_asked = service == self.questions.service.as_bytes();
        if is_reply && is_asked && code == self.questions.answer.as_bytes() {
            self.answers += 1;
            let latency = now.saturating_duration_since(slot.sent_at);
            self.latencies.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        } else {
            self.wrong += 1;
        }
        Some(index)
    }

    fn send(&mut self, index: usize, now: Instant) -> Result<(), BenchError> {
        let Questions { service, bodies, .. } = self.questions;
        let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
        slot.sent_at = now;
        slot.generation = slot.generation.wrapping_add(1);
        slot.is_outstanding = true;
        self.outstanding += 1;
        let body = bodies.get(self.next_body).map_or("", String::as_str);
        self.next_body = (self.next_body + 1) % bodies.len().max(1);
        let number = (u64::from(slot.generation) << 32) | u64::try_from(index).unwrap_or(0);
        let number = number.to_le_bytes();
        let frames = [&number, b"".as_slice(), b"MDPC01", service.as_bytes(), body.as_bytes()];
        self.sockets.send(index % self.questions.connections, |writer| {
            let numbered = frames.iter().enumerate();
            numbered.into_iter().try_for_each(|(at, frame)| {
                RawSockets::put(writer, Part::Bytes(frame), at + 1 == frames.len())
            })
        })
    }
}

#[cfg(test)]
mod tests;
