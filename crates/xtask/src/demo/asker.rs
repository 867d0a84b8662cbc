//! Questions to `mmi.service`, without the start of a process for each.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::zmtp::Dealer;
use crate::run::Failure;

/// How long an answer may take: a node that cannot know says so after a second.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How often a watched service is asked for.
const INTERVAL: Duration = Duration::from_millis(5);

/// A client of one node.
#[derive(Debug)]
pub(super) struct Asker {
    dealer: Dealer,
    asked: u64,
}

impl Asker {
    pub(super) fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let dealer = Dealer::connect(address)
            .map_err(|error| Failure::new(format!("{address} takes no connection: {error}")))?;
        Ok(Self { dealer, asked: 0 })
    }

    /// Asks one question: the code, and how long it took.
    pub(super) fn ask(&mut self, service: &str, body: &str) -> Result<(String, Duration), Failure> {
        let failed = |error: io::Error| Failure::new(format!("{service} {body}: {error}"));
        let asked_at = Instant::now();
        let number = self.send(service, body).map_err(failed)?;
        loop {
            let (answered, code) = self.receive(asked_at + ANSWER_MAX).map_err(failed)?;
            if answered == number {
                return Ok((code, asked_at.elapsed()));
            }
        }
    }

    /// The number of a question goes along as an envelope frame, which brokers restore: the answer
    /// itself does not say what it answers.
    fn send(&mut self, service: &str, body: &str) -> io::Result<u64> {
        self.asked += 1;
        let number = self.asked.to_be_bytes();
        let frames = [number.as_slice(), b"", b"MDPC01", service.as_bytes(), body.as_bytes()];
        self.dealer.send(&frames)?;
        Ok(self.asked)
    }

    fn receive(&mut self, deadline: Instant) -> io::Result<(u64, String)> {
        let frames = self.dealer.receive(deadline)?;
        let number = frames.first().and_then(|frame| frame.as_slice().try_into().ok());
        let code = frames.get(4).map(|code| String::from_utf8_lossy(code).into_owned());
        match (number, code) {
            (Some(number), Some(code)) => Ok((u64::from_be_bytes(number), code)),
            _ => Err(io::Error::other(format!("no answer: {frames:?}"))),
        }
    }
}

/// One answer to a watched question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) service: &'static str,
    pub(super) answered_at: Instant,
    pub(super) code: String,
}

/// Asks a node every 5 ms, on a thread of its own, until told to stop.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Arc<Mutex<Vec<Sighting>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

impl Watch {
    pub(super) fn start(asker: Asker, services: &'static [&'static str]) -> Self {
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (to, until) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || watch(asker, services, &to, &until));
        Self { seen, stop, thread }
    }

    /// Whether a service was answered so since then.
    pub(super) fn has_seen(&self, service: &str, code: &str, since: Instant) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recent = seen.iter().rev().take_while(|sighting| sighting.answered_at >= since);
        recent.any(|sighting| sighting.service == service && sighting.code == code)
    }

    /// Everything that was seen, once every question is answered.
    pub(super) fn stop(self) -> Result<Vec<Sighting>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Failure::new(format!("a question failed: {error}"))),
            Err(_) => return Err(Failure::new("the thread that asks ended")),
        }
        Ok(std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn watch(
    mut asker: Asker,
    services: &[&'static str],
    seen: &Mutex<Vec<Sighting>>,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut open: BTreeMap<u64, (&'static str, Instant)> = BTreeMap::new();
    let mut next_at = Instant::now();
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        if stopping && open.is_empty() {
            return Ok(());
        }
        if !stopping {
            for service in services {
                open.insert(asker.send("mmi.service", service)?, (service, Instant::now()));
            }
        }
        next_at += INTERVAL;
        loop {
            match asker.receive(next_at) {
                Ok((number, code)) => {
                    let Some((service, _)) = open.remove(&number) else { continue };
                    let answered_at = Instant::now();
                    let sighting = Sighting { service, answered_at, code };
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(sighting);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                Err(error) => return Err(error),
            }
        }
        if let Some((service, asked_at)) = open.values().next()
            && asked_at.elapsed() > ANSWER_MAX
        {
            return Err(io::Error::other(format!("`{service}`: no answer in {ANSWER_MAX:?}")));
        }
    }
}

/// The longest time between two answers of this code.
pub(super) fn longest_gap(seen: &[Sighting], service: &str, code: &str) -> Duration {
    let times: Vec<Instant> = seen
        .iter()
        .filter(|sighting| sighting.service == service && sighting.code == code)
        .map(|sighting| sighting.answered_at)
        .collect();
    let pairs = times.iter().zip(times.iter().skip(1));
    pairs.map(|(one, next)| next.duration_since(*one)).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_is_the_longest_time_between_two_answers_of_a_kind() {
        let begin = Instant::now();
        let at = |milliseconds, service, code: &str| Sighting {
            service,
            answered_at: begin + Duration::from_millis(milliseconds),
            code: code.to_owned(),
        };
        let seen = [
            at(0, "a", "200"),
            at(5, "a", "200"),
            at(6, "b", "200"),
            at(300, "a", "503"),
            at(405, "a", "200"),
            at(410, "a", "200"),
        ];

        assert_eq!(longest_gap(&seen, "a", "200"), Duration::from_millis(400));
        assert_eq!(longest_gap(&seen, "b", "200"), Duration::ZERO);
    }
}
