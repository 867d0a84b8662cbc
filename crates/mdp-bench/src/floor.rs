//! The least forwarder over libzmq that a 0.1 client and worker take for a broker.
//!
//! The same calls and frames as a broker, moved and never copied; a ring of idle workers and a
//! queue of waiting requests for each service; no checks beyond what is needed to tell messages
//! apart, no timers, no limits, no expiry. It is not fit for anything but to be compared with.
//! [`NativeFloor`] is the same without libzmq.

mod native;

use std::collections::{HashMap, VecDeque};

use mdp_wire::Version;
use zmq::{Context, DONTWAIT, Message, PollEvents, SNDMORE, Socket, SocketType};

pub use self::native::NativeFloor;
use crate::poller::{self, take};

/// How many messages are taken for each poll; more did not help in measurements.
const DRAIN_MAX: usize = 64;

const READY: &[u8] = &[0x01];
const REQUEST: &[u8] = &[0x02];
const REPLY: &[u8] = &[0x03];
const HEARTBEAT: &[u8] = &[0x04];
const DISCONNECT: &[u8] = &[0x05];

/// A request that waits for a worker.
struct Waiting {
    client: Message,
    body: Vec<Message>,
}

/// One service: its idle workers, or the requests that wait for one.
struct Ring {
    name: Vec<u8>,
    idle: VecDeque<Message>,
    waiting: VecDeque<Waiting>,
}

/// A forwarder on its socket.
pub struct Floor {
    router: Socket,
    rings: Rings,
    frames: Vec<Message>,
}

/// All services.
#[derive(Default)]
struct Rings {
    rings: Vec<Ring>,
    index_by_name: HashMap<Vec<u8>, usize>,
    index_by_worker: HashMap<Vec<u8>, usize>,
}

impl std::fmt::Debug for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Floor").field("services", &self.rings.rings.len()).finish_non_exhaustive()
    }
}

impl Floor {
    /// Binds a ROUTER to the endpoint.
    ///
    /// # Errors
    /// libzmq's.
    pub fn bind(context: &Context, endpoint: &str) -> Result<Self, zmq::Error> {
        let router = context.socket(SocketType::ROUTER)?;
        router.set_linger(0)?;
        router.set_sndhwm(0)?;
        router.set_rcvhwm(0)?;
        router.bind(endpoint)?;
        Ok(Self { router, rings: Rings::default(), frames: Vec::new() })
    }

    /// The endpoint, with the port that the system chose.
    ///
    /// # Errors
    /// libzmq's.
    pub fn endpoint(&self) -> Result<String, zmq::Error> {
        self.router.get_last_endpoint()?.map_err(|_not_text| zmq::Error::EINVAL)
    }

    /// Forwards until the context is destroyed.
    ///
    /// # Errors
    /// libzmq's, other than the end of the context.
    pub fn run(mut self) -> Result<(), zmq::Error> {
        loop {
            match self.turn() {
                Ok(()) | Err(zmq::Error::EINTR) => {}
                Err(zmq::Error::ETERM) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn turn(&mut self) -> Result<(), zmq::Error> {
        self.router.poll(PollEvents::POLLIN, -1)?;
        for _ in 0..DRAIN_MAX {
            let Some(count) = poller::receive(&self.router, &mut self.frames)? else { break };
            self.forward(count)?;
        }
        Ok(())
    }

    /// Routing id, empty frame, header, then what the header says.
    fn forward(&mut self, count: usize) -> Result<(), zmq::Error> {
        let Some([peer, _empty, header, third, rest @ ..]) = self.frames.get_mut(..count) else {
            return Ok(());
        };
        if **header == *Version::V01.client_header() {
            let Some(ring) = self.rings.of_service(third) else { return Ok(()) };
            return match ring.idle.pop_front() {
                Some(worker) => send_request(&self.router, worker, take(peer), rest),
                None => {
                    let body = rest.iter_mut().map(take).collect();
                    ring.waiting.push_back(Waiting { client: take(peer), body });
                    Ok(())
                }
            };
        }
        match &**third {
            REPLY => self.on_reply(count),
            READY => self.on_ready(count),
            HEARTBEAT => {
                self.router.send(take(peer), SNDMORE | DONTWAIT)?;
                put_worker_head(&self.router, HEARTBEAT, DONTWAIT)
            }
            DISCONNECT => {
                let worker = take(peer);
                if let Some(ring) = self.rings.of_worker(&worker) {
                    ring.idle.retain(|idle| *idle != worker);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_ready(&mut self, count: usize) -> Result<(), zmq::Error> {
        let Some([worker, _empty, _header, _command, service]) = self.frames.get_mut(..count)
        else {
            return Ok(());
        };
        let index = self.rings.index_of(service);
        self.rings.index_by_worker.insert(worker.to_vec(), index);
        let worker = take(worker);
        let ring = self.rings.of_service(service);
        ring.map_or(Ok(()), |ring| ring.give_work(&self.router, worker))
    }

    fn on_reply(&mut self, count: usize) -> Result<(), zmq::Error> {
        let Some([worker, _, _, _, client, _, body @ ..]) = self.frames.get_mut(..count) else {
            return Ok(());
        };
        let Some(ring) = self.rings.of_worker(worker) else { return Ok(()) };
        self.router.send(take(client), SNDMORE | DONTWAIT)?;
        self.router.send(b"".as_slice(), SNDMORE | DONTWAIT)?;
        self.router.send(Version::V01.client_header().as_slice(), SNDMORE | DONTWAIT)?;
        self.router.send(ring.name.as_slice(), SNDMORE | DONTWAIT)?;
        put_body(&self.router, body)?;
        ring.give_work(&self.router, take(worker))
    }
}

/// With one service there is nothing to look up.
impl Rings {
    /// The index of a service, which exists from the first time that somebody names it.
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

    fn of_service(&mut self, name: &[u8]) -> Option<&mut Ring> {
        let index = self.index_of(name);
        self.rings.get_mut(index)
    }

    fn of_worker(&mut self, worker: &[u8]) -> Option<&mut Ring> {
        let index = match self.rings.len() {
            1 => 0,
            _ => *self.index_by_worker.get(worker)?,
        };
        self.rings.get_mut(index)
    }
}

impl Ring {
    /// A worker is free: it gets the next request or waits for one.
    fn give_work(&mut self, router: &Socket, worker: Message) -> Result<(), zmq::Error> {
        match self.waiting.pop_front() {
            Some(Waiting { client, mut body }) => send_request(router, worker, client, &mut body),
            None => {
                self.idle.push_back(worker);
                Ok(())
            }
        }
    }
}

fn send_request(
    router: &Socket,
    worker: Message,
    client: Message,
    body: &mut [Message],
) -> Result<(), zmq::Error> {
    router.send(worker, SNDMORE | DONTWAIT)?;
    put_worker_head(router, REQUEST, SNDMORE | DONTWAIT)?;
    router.send(client, SNDMORE | DONTWAIT)?;
    router.send(b"".as_slice(), SNDMORE | DONTWAIT)?;
    put_body(router, body)
}

fn put_worker_head(router: &Socket, command: &[u8], flags: i32) -> Result<(), zmq::Error> {
    router.send(b"".as_slice(), SNDMORE | DONTWAIT)?;
    router.send(Version::V01.worker_header().as_slice(), SNDMORE | DONTWAIT)?;
    router.send(command, flags)
}

fn put_body(router: &Socket, body: &mut [Message]) -> Result<(), zmq::Error> {
    let Some((last, head)) = body.split_last_mut() else { return Ok(()) };
    for frame in head {
        poller::forward(router, frame, SNDMORE)?;
    }
    poller::forward(router, last, 0)
}

#[cfg(test)]
pub(crate) mod tests;
