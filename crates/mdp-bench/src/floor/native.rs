//! The least forwarder over [`mdp_transport`]: what a broker without libzmq and without duties costs.
//!
//! The same as [`Floor`](super::Floor), on one thread: it reads what has come, hands each request to
//! an idle worker of its service or lets it wait, and writes once for each connection and turn.

use std::{
    collections::{HashMap, VecDeque},
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use mdp_transport::{MessageFrames, SharedFrame};
use mdp_wire::{Body, Part, Version};

use super::{DISCONNECT, HEARTBEAT, READY, REPLY, REQUEST};
use crate::{
    BenchError,
    sockets::{FrameSockets as _, raw::RawSockets},
};

/// What the listener is known as; connections have small numbers.
const LISTENER: usize = usize::MAX;

/// A request that waits for a worker.
struct Waiting {
    client: usize,
    body: Body<SharedFrame>,
}

/// One service: its idle workers, or the requests that wait for one.
struct Ring {
    name: Vec<u8>,
    idle: VecDeque<usize>,
    waiting: VecDeque<Waiting>,
}

/// A forwarder on its port.
pub struct NativeFloor {
    listener: TcpListener,
    sockets: RawSockets,
    rings: Vec<Ring>,
    index_by_name: HashMap<Vec<u8>, usize>,
    /// By connection: the service of a worker.
    ring_by_worker: Vec<Option<usize>>,
    ready: Vec<usize>,
    messages: Vec<MessageFrames>,
}

impl std::fmt::Debug for NativeFloor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NativeFloor").field("services", &self.rings.len()).finish_non_exhaustive()
    }
}

impl NativeFloor {
    /// Listens at an address.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(address: &str) -> Result<Self, BenchError> {
        let listener = TcpListener::bind(address).map_err(BenchError::Poll)?;
        let sockets = RawSockets::new()?;
        sockets.listen(LISTENER, &listener)?;
        Ok(Self {
            listener,
            sockets,
            rings: Vec::new(),
            index_by_name: HashMap::new(),
            ring_by_worker: Vec::new(),
            ready: Vec::new(),
            messages: Vec::new(),
        })
    }

    /// Where it listens, with the port that the system chose.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> Result<SocketAddr, BenchError> {
        self.listener.local_addr().map_err(BenchError::Poll)
    }

    /// Forwards until the system fails.
    ///
    /// # Errors
    /// The system's.
    pub fn run(mut self) -> Result<(), BenchError> {
        loop {
            self.turn(None)?;
        }
    }

    /// Waits for what comes, at most for the time given, and forwards it.
    ///
    /// # Errors
    /// The system's.
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<(), BenchError> {
        let mut ready = std::mem::take(&mut self.ready);
        self.sockets.wait_for_news(timeout, &mut ready)?;
        for &index in &ready {
            match index {
                LISTENER => self.sockets.accept(&self.listener)?,
                _ => self.read(index)?,
            }
        }
        self.ready = ready;
        self.sockets.flush()
    }

    fn read(&mut self, index: usize) -> Result<(), BenchError> {
        let mut messages = std::mem::take(&mut self.messages);
        let is_open = self.sockets.receive(index, &mut messages)?;
        for message in messages.drain(..) {
            self.forward(index, message)?;
        }
        self.messages = messages;
        if !is_open {
            self.on_left(index);
        }
        Ok(())
    }

    /// An empty frame, a header, then what the header says.
    fn forward(&mut self, peer: usize, message: MessageFrames) -> Result<(), BenchError> {
        let mut frames = message.into_iter();
        let (Some(_empty), Some(header), Some(third)) =
            (frames.next(), frames.next(), frames.next())
        else {
            return Ok(());
        };
        if header.as_ref() == Version::V01.client_header() {
            let index = self.index_of(third.as_ref());
            let body = frames.collect();
            let Some(ring) = self.rings.get_mut(index) else { return Ok(()) };
            return match ring.idle.pop_front() {
                Some(worker) => send_request(&mut self.sockets, worker, peer, body),
                None => {
                    ring.waiting.push_back(Waiting { client: peer, body });
                    Ok(())
                }
            };
        }
        match third.as_ref() {
            REPLY => {
                let (Some(client), Some(_empty)) = (frames.next(), frames.next()) else {
                    return Ok(());
                };
                self.on_reply(peer, client.as_ref(), frames.collect())
            }
            READY => {
                let Some(service) = frames.next() else { return Ok(()) };
                let index = self.index_of(service.as_ref());
                if self.ring_by_worker.len() <= peer {
                    self.ring_by_worker.resize(peer + 1, None);
                }
                if let Some(place) = self.ring_by_worker.get_mut(peer) {
                    *place = Some(index);
                }
                self.give_work(index, peer)
            }
            HEARTBEAT => self.sockets.send(peer, |writer| {
                for (bytes, is_last) in worker_head(HEARTBEAT, true) {
                    RawSockets::put(writer, Part::Bytes(bytes), is_last)?;
                }
                Ok(())
            }),
            DISCONNECT => {
                self.on_left(peer);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_reply(
        &mut self,
        worker: usize,
        client: &[u8],
        body: Body<SharedFrame>,
    ) -> Result<(), BenchError> {
        let Some(index) = self.ring_by_worker.get(worker).copied().flatten() else { return Ok(()) };
        let Some(ring) = self.rings.get(index) else { return Ok(()) };
        let client = client.try_into().map_or(usize::MAX, usize::from_le_bytes);
        self.sockets.send(client, |writer| {
            let header = Version::V01.client_header().as_slice();
            for bytes in [b"".as_slice(), header, &ring.name] {
                RawSockets::put(writer, Part::Bytes(bytes), false)?;
            }
            put_body(writer, body)
        })?;
        self.give_work(index, worker)
    }

    /// A worker is free: it gets the next request or waits for one.
    fn give_work(&mut self, index: usize, worker: usize) -> Result<(), BenchError> {
        let Some(ring) = self.rings.get_mut(index) else { return Ok(()) };
        match ring.waiting.pop_front() {
            Some(Waiting { client, body }) => send_request(&mut self.sockets, worker, client, body),
            None => {
                ring.idle.push_back(worker);
                Ok(())
            }
        }
    }

    /// The index of a service, which exists from the first time that a peer names it.
    fn index_of(&mut self, name: &[u8]) -> usize {
        if let [only] = self.rings.as_slice()
            && only.name == name
        {
            return 0;
        }
        if let Some(index) = self.index_by_name.get(name) {
            return *index;
        }
        let index = self.rings.len();
        self.index_by_name.insert(name.to_vec(), index);
        let (idle, waiting) = (VecDeque::new(), VecDeque::new());
        self.rings.push(Ring { name: name.to_vec(), idle, waiting });
        index
    }

    fn on_left(&mut self, peer: usize) {
        let ring = self.ring_by_worker.get_mut(peer).and_then(Option::take);
        if let Some(ring) = ring.and_then(|index| self.rings.get_mut(index)) {
            ring.idle.retain(|idle| *idle != peer);
        }
    }
}

fn worker_head(command: &[u8], is_last: bool) -> [(&[u8], bool); 3] {
    [(b"", false), (Version::V01.worker_header(), false), (command, is_last)]
}

fn send_request(
    sockets: &mut RawSockets,
    worker: usize,
    client: usize,
    body: Body<SharedFrame>,
) -> Result<(), BenchError> {
    sockets.send(worker, |writer| {
        for (bytes, is_last) in worker_head(REQUEST, false) {
            RawSockets::put(writer, Part::Bytes(bytes), is_last)?;
        }
        RawSockets::put(writer, Part::Bytes(&client.to_le_bytes()), false)?;
        RawSockets::put(writer, Part::Bytes(b""), false)?;
        put_body(writer, body)
    })
}

fn put_body(
    writer: &mut mdp_transport::MessageWriter<'_, ()>,
    body: Body<SharedFrame>,
) -> Result<(), BenchError> {
    let count = body.len();
    let mut numbered = body.into_iter().enumerate();
    numbered
        .try_for_each(|(at, frame)| RawSockets::put(writer, Part::Frame(frame), at + 1 == count))
}
