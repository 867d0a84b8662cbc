//! The clients: a window of requests, each followed by the next when its reply arrives.

use std::time::{Duration, Instant};

use mdp_wire::Version;
use zmq::{DONTWAIT, Message, SNDMORE, Socket};

use crate::{
    BODY_BYTES_MIN, BenchError, BenchOptions,
    poller::{self, Poller, take},
    report::LatencyRecorder,
};

/// How many replies are taken from one socket before the others and the clock get their turn.
const BATCH_MAX: usize = 256;

/// Command frame of a 0.2 request (MDP18-01).
const REQUEST_02: &[u8] = &[0x01];

/// What to do when a reply has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send the next request.
    Request,
    /// Leave the place in the window empty.
    Nothing,
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientCounts {
    pub(crate) replies: u64,
    pub(crate) timeouts: u64,
    pub(crate) unexpected: u64,
}

/// A place in the window.
#[derive(Clone, Copy, Debug)]
struct Slot {
    sent_at: Instant,
    /// Counts the requests of this place, so that a late reply is not taken for the current one.
    generation: u32,
    /// Which service was asked.
    service: usize,
    is_outstanding: bool,
}

/// All clients, on one thread.
pub(crate) struct Clients {
    protocol: Version,
    sockets: Vec<Socket>,
    poller: Poller,
    ready: Vec<usize>,
    services: Vec<Vec<u8>>,
    next_service: usize,
    slots: Vec<Slot>,
    outstanding: usize,
    body: Vec<u8>,
    frames: Vec<Message>,
    latencies: LatencyRecorder,
    counts: ClientCounts,
}

impl Clients {
    pub(crate) fn connect(
        options: &BenchOptions,
        services: Vec<Vec<u8>>,
        latencies: LatencyRecorder,
    ) -> Result<Self, BenchError> {
        let sockets = poller::dealers(&options.endpoint, options.clients)?;
        let poller = Poller::new()?;
        for (index, socket) in sockets.iter().enumerate() {
            poller.add(index, socket)?;
        }
        Ok(Self {
            protocol: options.protocol,
            sockets,
            poller,
            ready: Vec::new(),
            services,
            next_service: 0,
            slots: Vec::new(),
            outstanding: 0,
            body: vec![b'x'; options.body_bytes],
            frames: Vec::new(),
            latencies,
            counts: ClientCounts::default(),
        })
    }

    /// Makes the window this large and sends a request for each empty place.
    pub(crate) fn fill(&mut self, window: usize) -> Result<(), BenchError> {
        let empty =
            Slot { sent_at: Instant::now(), generation: 0, service: 0, is_outstanding: false };
        self.slots.resize(window, empty);
        for index in 0..window {
            if self.slots.get(index).is_some_and(|slot| !slot.is_outstanding) {
                self.send_request(index, None, Instant::now())?;
            }
        }
        (0..self.sockets.len()).for_each(|socket| self.poller.look_again(socket));
        Ok(())
    }

    /// Waits for replies, at most for `timeout`, and takes them.
    pub(crate) fn turn(&mut self, timeout: Duration, next: Next) -> Result<(), BenchError> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(timeout, &mut ready)?;
        for &socket in &ready {
            self.read(socket, next)?;
        }
        self.ready = ready;
        Ok(())
    }

    /// Gives up requests older than `timeout` and sends others in their places.
    pub(crate) fn expire(&mut self, timeout: Duration, next: Next) -> Result<(), BenchError> {
        let now = Instant::now();
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { continue };
            if !slot.is_outstanding || now.duration_since(slot.sent_at) < timeout {
                continue;
            }
            slot.is_outstanding = false;
            self.outstanding -= 1;
            self.counts.timeouts += 1;
            if next == Next::Request {
                self.send_request(index, None, now)?;
                self.poller.look_again(index % self.sockets.len());
            }
        }
        Ok(())
    }

    /// Counts what is still outstanding as timed out; called when nobody waits any more.
    pub(crate) fn give_up(&mut self) {
        self.counts.timeouts += u64::try_from(self.outstanding).unwrap_or(u64::MAX);
        self.outstanding = 0;
        self.slots.clear();
    }

    pub(crate) fn clear_latencies(&mut self) {
        self.latencies.clear();
    }

    pub(crate) fn latencies(&self) -> &LatencyRecorder {
        &self.latencies
    }

    pub(crate) fn counts(&self) -> ClientCounts {
        self.counts
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    fn read(&mut self, socket: usize, next: Next) -> Result<(), BenchError> {
        for _ in 0..BATCH_MAX {
            let Some(connection) = self.sockets.get(socket) else { return Ok(()) };
            let Some(count) = poller::receive(connection, &mut self.frames)? else {
                return Ok(());
            };
            let now = Instant::now();
            let Some(index) = self.take_reply(count, now) else {
                self.counts.unexpected += 1;
                continue;
            };
            if next == Next::Request {
                let body = self.frames.get_mut(count - 1).map(take);
                self.send_request(index, body, now)?;
            }
        }
        self.poller.look_again(socket);
        Ok(())
    }

    /// Finds the place of the reply in `frames`, if it is one, and records its latency.
    fn take_reply(&mut self, count: usize, now: Instant) -> Option<usize> {
        // Both versions have two frames before the service and one body frame here: an empty one
        // and the header (MDP7-10), or the header and FINAL (MDP18-03).
        let [first, second, service, body] = self.frames.get(..count)? else { return None };
        let is_reply = match self.protocol {
            Version::V01 => first.is_empty() && **second == *self.protocol.client_header(),
            Version::V02 => **first == *self.protocol.client_header() && **second == [0x03],
        };
        if !is_reply || body.len() != self.body.len() {
            return None;
        }
        let number = u64::from_le_bytes(body.first_chunk().copied()?);
        let index = usize::try_from(number & u64::from(u32::MAX)).ok()?;
        let slot = self.slots.get_mut(index)?;
        let is_current = slot.is_outstanding && u64::from(slot.generation) == number >> 32;
        if !is_current || self.services.get(slot.service)?.as_slice() != &**service {
            return None;
        }
        slot.is_outstanding = false;
        self.outstanding -= 1;
        self.counts.replies += 1;
        let latency = now.saturating_duration_since(slot.sent_at);
        self.latencies.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        Some(index)
    }

    /// Sends the next request of a place, in the body of the last reply if there is one: bodies
    /// are neither allocated nor copied while the window turns.
    fn send_request(
        &mut self,
        index: usize,
        body: Option<Message>,
        now: Instant,
    ) -> Result<(), BenchError> {
        let clients = self.sockets.len();
        let (Some(slot), Some(socket)) =
            (self.slots.get_mut(index), self.sockets.get(index % clients))
        else {
            return Ok(());
        };
        slot.sent_at = now;
        slot.generation = slot.generation.wrapping_add(1);
        slot.service = self.next_service;
        slot.is_outstanding = true;
        self.next_service = (self.next_service + 1) % self.services.len();
        self.outstanding += 1;

        let mut body = body.unwrap_or_else(|| Message::from(self.body.as_slice()));
        let number = (u64::from(slot.generation) << 32) | u64::try_from(index).unwrap_or(0);
        if let Some(place) = body.first_chunk_mut::<BODY_BYTES_MIN>() {
            *place = number.to_le_bytes();
        }
        let header = self.protocol.client_header().as_slice();
        let (first, second) = match self.protocol {
            Version::V01 => (b"".as_slice(), header),
            Version::V02 => (header, REQUEST_02),
        };
        let service = self.services.get(slot.service).map_or(b"".as_slice(), Vec::as_slice);
        socket.send(first, SNDMORE | DONTWAIT)?;
        socket.send(second, SNDMORE | DONTWAIT)?;
        socket.send(service, SNDMORE | DONTWAIT)?;
        socket.send(body, DONTWAIT)?;
        Ok(())
    }
}
