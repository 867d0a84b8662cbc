//! The clients: a window of requests, each followed by the next when its reply arrives.

use std::time::{Duration, Instant};

use crate::{
    BODY_BYTES_MIN, BenchError, BenchOptions,
    peers::{Peers, Received, Sent},
    report::LatencyRecorder,
};

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
pub(crate) struct Clients<P: Peers> {
    peers: P,
    clients: usize,
    ready: Vec<usize>,
    inbox: Vec<Received<P::Frame>>,
    services: Vec<Vec<u8>>,
    next_service: usize,
    slots: Vec<Slot>,
    outstanding: usize,
    /// The body of every request; its first bytes are the number of the one that leaves next.
    body: Vec<u8>,
    latencies: LatencyRecorder,
    counts: ClientCounts,
    /// Whether the broker has closed the connection of a client.
    is_cut: bool,
}

impl<P: Peers> Clients<P> {
    pub(crate) fn connect(
        options: &BenchOptions,
        services: Vec<Vec<u8>>,
        latencies: LatencyRecorder,
    ) -> Result<Self, BenchError> {
        Ok(Self {
            peers: P::connect(
                &options.endpoint,
                options.clients,
                options.protocol,
                options.keys.as_ref(),
            )?,
            clients: options.clients,
            ready: Vec::new(),
            inbox: Vec::new(),
            services,
            next_service: 0,
            slots: Vec::new(),
            outstanding: 0,
            body: vec![b'x'; options.body_bytes],
            latencies,
            counts: ClientCounts::default(),
            is_cut: false,
        })
    }

    /// Makes the window this large and sends a request for each empty place.
    pub(crate) fn fill(&mut self, window: usize) -> Result<(), BenchError> {
        let empty =
            Slot { sent_at: Instant::now(), generation: 0, service: 0, is_outstanding: false };
        self.slots.resize(window, empty);
        for index in 0..window {
            if self.slots.get(index).is_some_and(|slot| !slot.is_outstanding) {
                self.send_request(index, Instant::now())?;
            }
        }
        self.peers.flush()
    }

    /// Waits for replies, at most for `timeout`, and takes them.
    pub(crate) fn turn(&mut self, timeout: Duration, next: Next) -> Result<(), BenchError> {
        let mut ready = std::mem::take(&mut self.ready);
        self.peers.wait(timeout, &mut ready)?;
        for &client in &ready {
            self.read(client, next)?;
        }
        self.ready = ready;
        self.peers.flush()
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
                self.send_request(index, now)?;
            }
        }
        self.peers.flush()
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

    /// Whether the broker has closed the connection of a client.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Takes what one client has got. All of it came at once, so that one look at the clock will do.
    fn read(&mut self, client: usize, next: Next) -> Result<(), BenchError> {
        let mut inbox = std::mem::take(&mut self.inbox);
        self.peers.receive(client, &mut inbox)?;
        let now = Instant::now();
        for received in inbox.drain(..) {
            let taken = match received {
                Received::Reply { service, body } => {
                    self.take_reply(service.as_ref().map(AsRef::as_ref), body.as_ref(), now)
                }
                Received::Closed => {
                    self.is_cut = true;
                    continue;
                }
                Received::Request { .. } | Received::Disconnect | Received::Other => None,
            };
            match taken {
                Some(index) if next == Next::Request => self.send_request(index, now)?,
                Some(_) => {}
                None => self.counts.unexpected += 1,
            }
        }
        self.inbox = inbox;
        Ok(())
    }

    /// Finds the place of a reply, if it is one to an outstanding request, and records its latency.
    fn take_reply(&mut self, service: Option<&[u8]>, body: &[u8], now: Instant) -> Option<usize> {
        if body.len() != self.body.len() {
            return None;
        }
        let number = u64::from_le_bytes(body.first_chunk().copied()?);
        let index = usize::try_from(number & u64::from(u32::MAX)).ok()?;
        let slot = self.slots.get_mut(index)?;
        let is_current = slot.is_outstanding && u64::from(slot.generation) == number >> 32;
        let asked = self.services.get(slot.service)?.as_slice();
        if !is_current || service.is_some_and(|service| service != asked) {
            return None;
        }
        slot.is_outstanding = false;
        self.outstanding -= 1;
        self.counts.replies += 1;
        let latency = now.saturating_duration_since(slot.sent_at);
        self.latencies.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        Some(index)
    }

    /// Puts the next request of a place into the queue of its client.
    fn send_request(&mut self, index: usize, now: Instant) -> Result<(), BenchError> {
        let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
        slot.sent_at = now;
        slot.generation = slot.generation.wrapping_add(1);
        slot.service = self.next_service;
        slot.is_outstanding = true;
        self.next_service = (self.next_service + 1) % self.services.len();
        self.outstanding += 1;

        let number = (u64::from(slot.generation) << 32) | u64::try_from(index).unwrap_or(0);
        if let Some(place) = self.body.first_chunk_mut::<BODY_BYTES_MIN>() {
            *place = number.to_le_bytes();
        }
        let service = self.services.get(slot.service).map_or(b"".as_slice(), Vec::as_slice);
        self.peers.send(index % self.clients, Sent::Request { service, body: &self.body })
    }
}
