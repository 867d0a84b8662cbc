//! Many seeds, over several threads, in parts that can be done one after the other.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use crate::{Options, Outcome, Violation, run, shared::Shared, trace::mix};

/// How many seeds are done before they are noted as done.
const PART_SEEDS: u64 = 100;

/// Seeds that once found something, kept for ever: they run first.
const REGRESSIONS: &str = include_str!("../regressions.txt");

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// How each of them is run.
    pub options: Options,
    /// How many threads run them; each seed runs in one.
    pub threads: usize,
    /// Where finished parts are noted, so that they are not done again.
    pub resume: Option<PathBuf>,
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Seeds that passed.
    pub passed: u64,
    /// Seeds that are to be done in all.
    pub of: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// Faults that were begun.
    pub faults: u64,
    /// Changes of members that were made.
    pub changes: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Questions to `mmi.service` that were answered.
    pub looked_up: u64,
    /// Calls between nodes.
    pub calls: u64,
    /// Those of them in a format that only the next version speaks.
    pub newer_calls: u64,
    /// Links between nodes that were made.
    pub links: u64,
    /// Those of them in a version that only the next one speaks.
    pub newer_links: u64,
    /// Clusters whose version rose to the next one.
    pub upgraded: u64,
    /// A hash of the traces of all seeds, whatever their order.
    pub trace: u64,
}

impl Progress {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        let Ok(summary) = &outcome.verdict else { return };
        self.passed += 1;
        self.simulated += outcome.simulated;
        self.faults += summary.faults;
        self.changes += summary.changes;
        self.answered += summary.answered;
        self.looked_up += summary.looked_up;
        self.calls += summary.calls;
        self.newer_calls += summary.newer_calls;
        self.links += summary.links;
        self.newer_links += summary.newer_links;
        self.upgraded += summary.upgraded;
        self.trace = self.trace.wrapping_add(mix(seed, &[outcome.trace]));
    }
}

/// The seeds that are kept for ever.
///
/// # Panics
/// One of them is no number.
pub fn regressions() -> impl Iterator<Item = u64> {
    let lines = REGRESSIONS.lines().map(|line| line.split('#').next().unwrap_or("").trim());
    lines.filter(|line| !line.is_empty()).map(|line| line.parse().expect("a seed in each line"))
}

impl Campaign {
    /// Runs all seeds, or up to the first violation. `tell` is called after each of them.
    ///
    /// # Errors
    /// What cannot be read or written at the place where finished parts are noted.
    pub fn run(
        &self,
        tell: &(dyn Fn(&Progress) + Sync),
    ) -> io::Result<Result<Progress, Violation>> {
        let done = self.resume.as_deref().map(finished).transpose()?.unwrap_or_default();
        let parts = self.parts().filter(|part| !done.iter().any(|(known, _)| known == part));
        let parts: Vec<(u64, u64)> = parts.collect();
        let of = parts.iter().map(|(first, last)| last - first + 1).sum();
        let mut progress = Progress { of, ..Progress::default() };
        for (first, last) in parts {
            let seeds: Vec<u64> = (first..=last).collect();
            let before = progress.trace;
            match self.run_part(&seeds, progress, tell) {
                Ok(now) => progress = now,
                Err(violation) => return Ok(Err(*violation)),
            }
            if let Some(path) = &self.resume {
                let trace = progress.trace.wrapping_sub(before);
                let mut file = OpenOptions::new().create(true).append(true).open(path)?;
                writeln!(file, "{first} {last} {trace:016x}")?;
            }
        }
        for (_, trace) in &done {
            progress.trace = progress.trace.wrapping_add(*trace);
        }
        progress.passed += done.iter().map(|((first, last), _)| last - first + 1).sum::<u64>();
        Ok(Ok(progress))
    }

    fn parts(&self) -> impl Iterator<Item = (u64, u64)> {
        let end = self.first + self.count;
        let step = usize::try_from(PART_SEEDS).unwrap_or(usize::MAX);
        (self.first..end).step_by(step).map(move |at| (at, (at + PART_SEEDS).min(end) - 1))
    }

    /// Runs these seeds.
    ///
    /// # Errors
    /// The violation of the lowest seed that was found to have one.
    pub fn run_part(
        &self,
        seeds: &[u64],
        progress: Progress,
        tell: &(dyn Fn(&Progress) + Sync),
    ) -> Result<Progress, Box<Violation>> {
        let next = AtomicU64::new(0);
        let is_over = AtomicBool::new(false);
        let shared = Shared::new((progress, Vec::<Box<Violation>>::new()));
        let work = || {
            while !is_over.load(Ordering::Relaxed) {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let seed = usize::try_from(at).ok().and_then(|at| seeds.get(at));
                let Some(seed) = seed else { return };
                let outcome = run(*seed, &self.options);
                let mut guard = shared.lock();
                let (progress, violations) = &mut *guard;
                progress.add(*seed, &outcome);
                if let Err(violation) = outcome.verdict {
                    is_over.store(true, Ordering::Relaxed);
                    violations.push(violation);
                }
                tell(progress);
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.threads {
                scope.spawn(work);
            }
            work();
        });
        let (progress, violations) = shared.into_inner();
        match violations.into_iter().min_by_key(|violation| violation.seed) {
            Some(violation) => Err(violation),
            None => Ok(progress),
        }
    }
}

/// The parts that are noted, each with its hash.
fn finished(path: &Path) -> io::Result<Vec<((u64, u64), u64)>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let malformed = |line: &str| io::Error::other(format!("{line:?} is no finished part"));
    let read = |line: &str| {
        let mut words = line.split_whitespace();
        let first = words.next()?.parse().ok()?;
        let last = words.next()?.parse().ok()?;
        let trace = u64::from_str_radix(words.next()?, 16).ok()?;
        Some(((first, last), trace))
    };
    text.lines().map(|line| read(line).ok_or_else(|| malformed(line))).collect()
}
