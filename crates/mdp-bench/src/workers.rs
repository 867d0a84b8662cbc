//! The workers: many sockets on one thread, each of which replies at once, or after a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mdp_wire::Version;
use zmq::{DONTWAIT, Message, SNDMORE, Socket};

use crate::{
    BenchError, BenchOptions,
    jobs::Jobs,
    poller::{self, Poller, take},
};

/// How long the thread sleeps at most: it looks for heartbeats that are due, and for the end.
const TURN_MAX: Duration = Duration::from_millis(50);

const READY: u8 = 0x01;
const REQUEST: u8 = 0x02;

/// Command bytes that differ between the versions (MDP7-18 to 22, MDP18-07 to 12).
#[derive(Clone, Copy, Debug)]
struct Commands {
    reply: u8,
    heartbeat: u8,
    disconnect: u8,
    /// The index of the command frame.
    at: usize,
}

impl Commands {
    const fn of(version: Version) -> Self {
        match version {
            Version::V01 => Self { reply: 0x03, heartbeat: 0x04, disconnect: 0x05, at: 2 },
            Version::V02 => Self { reply: 0x04, heartbeat: 0x05, disconnect: 0x06, at: 1 },
        }
    }
}

/// What the workers and whoever started them tell each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    stop: Arc<AtomicBool>,
    disconnected: Arc<AtomicU64>,
}

impl Shared {
    /// Tells the workers to leave.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// How many workers the broker has sent DISCONNECT to.
    pub(crate) fn disconnected(&self) -> u64 {
        self.disconnected.load(Ordering::Relaxed)
    }
}

struct Worker {
    socket: Socket,
    last_sent_at: Instant,
    is_registered: bool,
    has_worked: bool,
}

impl Worker {
    /// Sends the frames of a reply and leaves empty ones behind.
    fn reply(&mut self, frames: &mut [Message], now: Instant) -> Result<(), zmq::Error> {
        let Some((last, head)) = frames.split_last_mut() else { return Ok(()) };
        for frame in head {
            poller::forward(&self.socket, frame, SNDMORE)?;
        }
        poller::forward(&self.socket, last, 0)?;
        self.last_sent_at = now;
        Ok(())
    }
}

/// All workers, on one thread.
pub(crate) struct Workers {
    version: Version,
    commands: Commands,
    heartbeat_interval: Duration,
    workers: Vec<Worker>,
    poller: Poller,
    /// Replies that are held back, unless workers reply at once.
    jobs: Option<Jobs>,
    frames: Vec<Message>,
    shared: Shared,
}

impl Workers {
    /// Connects and registers every worker.
    pub(crate) fn connect(
        options: &BenchOptions,
        services: &[Vec<u8>],
        shared: Shared,
    ) -> Result<Self, BenchError> {
        let sockets = poller::dealers(options.worker_endpoint(), options.workers)?;
        let mut poller = Poller::new()?;
        let mut workers = Vec::with_capacity(sockets.len());
        for ((index, socket), service) in
            sockets.into_iter().enumerate().zip(services.iter().cycle())
        {
            send_command(&socket, options.protocol, READY, Some(service.as_slice()))?;
            poller.add(index, &socket)?;
            poller.look_again(index);
            let last_sent_at = Instant::now();
            workers.push(Worker { socket, last_sent_at, is_registered: true, has_worked: false });
        }
        let jobs = Jobs::lasting(options.job)?;
        if let Some(jobs) = &jobs {
            // Behind the workers' indices: nothing is read there, it only ends the wait.
            poller.add_descriptor(workers.len(), jobs.descriptor())?;
        }
        Ok(Self {
            version: options.protocol,
            commands: Commands::of(options.protocol),
            heartbeat_interval: options.heartbeat_interval,
            workers,
            poller,
            jobs,
            frames: Vec::new(),
            shared,
        })
    }

    /// Replies until told to stop, leaves, and returns how many workers had work.
    pub(crate) fn run(mut self) -> Result<usize, BenchError> {
        let mut ready = Vec::new();
        let mut heartbeats_at = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.poller.wait(TURN_MAX, &mut ready)?;
            let now = Instant::now();
            for &index in &ready {
                self.read(index, now)?;
            }
            self.finish_jobs()?;
            if now >= heartbeats_at {
                self.send_heartbeats(now)?;
                heartbeats_at = now + TURN_MAX;
            }
        }
        for worker in self.workers.iter().filter(|worker| worker.is_registered) {
            // The broker shall not wait for the workers of a run that is over.
            worker.socket.set_linger(1_000)?;
            send_command(&worker.socket, self.version, self.commands.disconnect, None)?;
        }
        Ok(self.workers.iter().filter(|worker| worker.has_worked).count())
    }

    /// Replies to everything that one worker has received, or notes when to. A strict broker gives
    /// a worker one request at a time, so this ends.
    fn read(&mut self, index: usize, now: Instant) -> Result<(), BenchError> {
        let Some(worker) = self.workers.get_mut(index) else { return Ok(()) };
        while let Some(count) = poller::receive(&worker.socket, &mut self.frames)? {
            let Some(frames) = self.frames.get_mut(..count) else { return Ok(()) };
            let Some(command) = frames.get_mut(self.commands.at) else { continue };
            if **command == [REQUEST] {
                // The reply is the request with another command: same client address, same body.
                command.fill(self.commands.reply);
                worker.has_worked = true;
                match &mut self.jobs {
                    Some(jobs) => jobs.begin(index, frames.iter_mut().map(take).collect(), now),
                    None => worker.reply(frames, now)?,
                }
            } else if **command == [self.commands.disconnect] && worker.is_registered {
                worker.is_registered = false;
                self.shared.disconnected.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Sends the replies that are due and waits for the next one.
    fn finish_jobs(&mut self) -> Result<(), BenchError> {
        let Some(jobs) = &mut self.jobs else { return Ok(()) };
        let now = Instant::now();
        while let Some(mut job) = jobs.take_due(now) {
            let Some(worker) = self.workers.get_mut(job.worker) else { continue };
            worker.reply(&mut job.frames, now)?;
            self.poller.look_again(job.worker);
        }
        jobs.set_timer(now)
    }

    /// Sends a heartbeat for each worker that has been silent for an interval.
    fn send_heartbeats(&mut self, now: Instant) -> Result<(), BenchError> {
        for (index, worker) in self.workers.iter_mut().enumerate() {
            let silent = now.saturating_duration_since(worker.last_sent_at);
            if worker.is_registered && silent >= self.heartbeat_interval {
                send_command(&worker.socket, self.version, self.commands.heartbeat, None)?;
                worker.last_sent_at = now;
                self.poller.look_again(index);
            }
        }
        Ok(())
    }
}

/// Sends a command that has at most a service name.
fn send_command(
    socket: &Socket,
    version: Version,
    command: u8,
    service: Option<&[u8]>,
) -> Result<(), zmq::Error> {
    if version == Version::V01 {
        socket.send(b"".as_slice(), SNDMORE | DONTWAIT)?;
    }
    socket.send(version.worker_header().as_slice(), SNDMORE | DONTWAIT)?;
    let command: &[u8] = &[command];
    match service {
        Some(service) => {
            socket.send(command, SNDMORE | DONTWAIT)?;
            socket.send(service, DONTWAIT)
        }
        None => socket.send(command, DONTWAIT),
    }
}
