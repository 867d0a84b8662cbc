//! Holds packets back: the switch hands them to a thread, which lets each pass when it is due.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nfq::{Message, Queue, Verdict};

use super::{run, within};

/// How often the thread looks for packets that are due or new.
const TURN: Duration = Duration::from_micros(500);

/// How many packets may be held; the kernel drops what comes beyond them.
const HELD_PACKETS_MAX: u32 = 16_384;

/// From, to, how much later at least, and how much more at random.
pub(super) type Delayed = (Ipv4Addr, Ipv4Addr, Duration, Duration);

/// The thread and its rules; packets that are held when it is dropped pass at once.
#[derive(Debug)]
pub(super) struct Delays {
    switch: String,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A packet and when it passes. The number keeps packets of the same moment in order.
struct Held {
    due_at: Instant,
    number: u64,
    message: Message,
}

impl Delays {
    pub(super) fn start(switch: &str, delayed: &[Delayed]) -> Result<Self, String> {
        let mut delays =
            Self { switch: switch.to_owned(), is_over: Arc::default(), threads: Vec::new() };
        for (number, (from, to, least, jitter)) in delayed.iter().enumerate() {
            let number = u16::try_from(number).map_err(|error| error.to_string())?;
            let queue = within(switch, move || open(number))?;
            delays.carry(queue, *least, *jitter);
            let (from, to, number) = (from.to_string(), to.to_string(), number.to_string());
            let rule = ["-s", &from, "-d", &to, "-j", "NFQUEUE", "--queue-num", &number];
            delays.rules(&[&["-A", "FORWARD"], &rule[..]].concat())?;
        }
        Ok(delays)
    }

    fn carry(&mut self, queue: Queue, least: Duration, jitter: Duration) {
        let is_over = Arc::clone(&self.is_over);
        self.threads.push(thread::spawn(move || hold_back(queue, least, jitter, &is_over)));
    }

    fn rules(&self, arguments: &[&str]) -> Result<(), String> {
        let iptables = ["netns", "exec", &self.switch, "iptables", "-w"];
        run("ip", &[&iptables[..], arguments].concat())
    }
}

impl Drop for Delays {
    fn drop(&mut self) {
        drop(self.rules(&["-F", "FORWARD"]));
        self.is_over.store(true, Ordering::SeqCst);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn open(number: u16) -> Result<Queue, String> {
    let opened = Queue::open().and_then(|mut queue| {
        queue.bind(number)?;
        queue.set_queue_max_len(number, HELD_PACKETS_MAX)?;
        queue.set_nonblocking(true);
        Ok(queue)
    });
    opened.map_err(|error| format!("queue of packets: {error}"))
}

fn hold_back(mut queue: Queue, least: Duration, jitter: Duration, is_over: &AtomicBool) {
    let mut random = fastrand::Rng::new();
    let mut held: BinaryHeap<Reverse<Held>> = BinaryHeap::new();
    // Never rung: it only measures turns.
    let (_bell, turns) = mpsc::channel::<()>();
    let jitter_us = u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX);
    for number in 0.. {
        while let Ok(message) = queue.recv() {
            let more = Duration::from_micros(random.u64(0..=jitter_us));
            held.push(Reverse(Held { due_at: Instant::now() + least + more, number, message }));
        }
        let ends = is_over.load(Ordering::SeqCst);
        let now = Instant::now();
        while held.peek().is_some_and(|Reverse(next)| ends || next.due_at <= now) {
            let Some(Reverse(Held { mut message, .. })) = held.pop() else { break };
            message.set_verdict(Verdict::Accept);
            drop(queue.verdict(message));
        }
        if ends {
            return;
        }
        turns.recv_timeout(TURN).unwrap_or_default();
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due_at, self.number).cmp(&(other.due_at, other.number))
    }
}
