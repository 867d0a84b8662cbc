//! How fast histories are checked: `cargo run -p mdp-history --release --example speed`.

#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::time::{Duration, Instant};

use mdp_history::{Call, Detection, History, OpId, Operation, check};

/// How many operations a history has.
const OPERATIONS: usize = 100_000;

/// How long an operation takes at most, in ticks.
const OPERATION_TICKS: u64 = 100;

/// How many lookups are told wrong in turn.
const FLIPS: usize = 400;

/// Who does what.
struct Load {
    name: &'static str,
    processes: usize,
    workers: usize,
    /// How long a worker is registered, and how long it is away, in ticks.
    held_ticks: u64,
    /// Of ten thousand removals, how many never return, with or without effect.
    lost_of_10_000: u64,
}

const LOADS: [Load; 6] = [
    Load { name: "one worker", processes: 10, workers: 1, held_ticks: 4_000, lost_of_10_000: 0 },
    Load { name: "two workers", processes: 10, workers: 2, held_ticks: 4_000, lost_of_10_000: 0 },
    Load { name: "three, restless", processes: 10, workers: 3, held_ticks: 50, lost_of_10_000: 0 },
    Load { name: "many readers", processes: 100, workers: 2, held_ticks: 4_000, lost_of_10_000: 0 },
    Load { name: "eight of 40", processes: 40, workers: 8, held_ticks: 50, lost_of_10_000: 0 },
    Load { name: "some are lost", processes: 10, workers: 2, held_ticks: 500, lost_of_10_000: 100 },
];

/// What one process does next.
#[derive(Clone, Copy)]
enum Next {
    Call,
    Effect {
        id: OpId,
        ends_at: u64,
    },
    /// A lookup has an answer; of what is lost it is never known whether it had an effect.
    Return {
        id: OpId,
        answer: Option<bool>,
        is_lost: bool,
    },
}

struct Process {
    at: u64,
    next: Next,
    is_worker: bool,
    registration: u8,
    is_registered: bool,
}

struct Random(u64);

impl Random {
    /// Below the limit (splitmix64).
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }
}

/// Runs a real object; each operation takes effect at some time between its call and its return.
struct Object<'a> {
    load: &'a Load,
    random: Random,
    registered: u64,
    history: History,
    calls: usize,
}

impl Object<'_> {
    fn step(&mut self, process: &mut Process) {
        let now = process.at;
        match process.next {
            Next::Call => {
                let call = match (process.is_worker, process.is_registered) {
                    (false, _) => Call::Lookup,
                    (true, false) => Call::Add(process.registration),
                    (true, true) => Call::Remove(process.registration),
                };
                let id = self.history.call(call, now);
                self.calls += 1;
                let ends_at = now + 2 + self.random.below(OPERATION_TICKS);
                process.at = now + 1 + self.random.below(ends_at - now - 1);
                process.next = Next::Effect { id, ends_at };
            }
            Next::Effect { id, ends_at } => {
                let is_removal = process.is_worker && process.is_registered;
                let is_lost = is_removal && self.random.below(10_000) < self.load.lost_of_10_000;
                let answer = (!process.is_worker).then_some(self.registered != 0);
                let has_effect = !is_lost || self.random.below(2) == 0;
                if is_removal && has_effect {
                    self.registered &= !(1 << process.registration);
                } else if process.is_worker && !is_removal {
                    self.registered |= 1 << process.registration;
                }
                process.at = ends_at;
                process.next = Next::Return { id, answer, is_lost };
            }
            Next::Return { id, answer, is_lost } => {
                match answer {
                    Some(found) => self.history.answer(id, found, now),
                    None if is_lost => {}
                    None => self.history.return_(id, now),
                }
                self.rest(process);
            }
        }
    }

    fn rest(&mut self, process: &mut Process) {
        process.next = Next::Call;
        let ticks = if process.is_worker { self.load.held_ticks } else { OPERATION_TICKS };
        process.at += 1 + self.random.below(2 * ticks);
        if process.is_worker {
            process.is_registered = !process.is_registered;
        }
    }
}

fn record(load: &Load) -> Vec<Operation> {
    let worker = |number: usize| Process {
        at: 0,
        next: Next::Call,
        is_worker: number < load.workers,
        registration: u8::try_from(number).unwrap_or(u8::MAX),
        is_registered: false,
    };
    let mut processes: Vec<Process> = (0..load.processes).map(worker).collect();
    let (random, history) = (Random(7), History::new());
    let mut object = Object { load, random, registered: 0, history, calls: 0 };
    while object.calls < OPERATIONS {
        if let Some(process) = processes.iter_mut().min_by_key(|process| process.at) {
            object.step(process);
        }
    }
    object.history.operations()
}

fn main() {
    let mut slowest = Duration::ZERO;
    println!(
        "history           processes  operations      check  verdict     flips  detected      time"
    );
    for load in &LOADS {
        let history = record(load);
        let started_at = Instant::now();
        let verdict = check(&history);
        let took = started_at.elapsed();
        slowest = slowest.max(took);
        let lookups = history.iter().filter(|operation| operation.action.is_lookup()).count();
        let started_at = Instant::now();
        let operations = history.len();
        let detection = Detection::measure(&[history], lookups / FLIPS);
        println!(
            "{:<16}  {:>9}  {:>10}  {:>6} ms  {:<10}  {:>5}  {:>6} %  {:>5} ms",
            load.name,
            load.processes,
            operations,
            took.as_millis(),
            verdict.to_string().lines().next().unwrap_or_default(),
            detection.flipped,
            detection.percent().map_or_else(|| "-".to_owned(), |percent| percent.to_string()),
            started_at.elapsed().as_millis(),
        );
    }
    println!("slowest check: {} ms", slowest.as_millis());
}
