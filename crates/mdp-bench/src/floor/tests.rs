use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::*;
use crate::BenchError;

const DEADLINE_MS: i32 = 5_000;

/// A native floor looks that often whether it is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A floor on a thread of its own, which ends with this.
pub(crate) struct RunningFloor {
    pub(crate) endpoint: String,
    end: Option<Box<dyn FnOnce()>>,
}

impl RunningFloor {
    pub(crate) fn start() -> Self {
        let context = Context::new();
        let floor = Floor::bind(&context, "tcp://127.0.0.1:*").unwrap();
        let endpoint = floor.endpoint().unwrap();
        let thread: JoinHandle<Result<(), zmq::Error>> = std::thread::spawn(move || floor.run());
        let mut context = context;
        let end = move || {
            context.destroy().unwrap();
            thread.join().unwrap().unwrap();
        };
        Self { endpoint, end: Some(Box::new(end)) }
    }

    pub(crate) fn start_native() -> Self {
        Self::start_native_at("127.0.0.1:0")
    }

    pub(crate) fn start_native_at(address: &str) -> Self {
        let mut floor = NativeFloor::bind(address).unwrap();
        let endpoint = format!("tcp://{}", floor.address().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !is_stopped.load(Ordering::Relaxed) {
                floor.turn(Some(LOOK_INTERVAL))?;
            }
            Ok::<(), BenchError>(())
        });
        let end = move || {
            stop.store(true, Ordering::Relaxed);
            thread.join().unwrap().unwrap();
        };
        Self { endpoint, end: Some(Box::new(end)) }
    }

    fn both() -> [Self; 2] {
        [Self::start(), Self::start_native()]
    }
}

impl Drop for RunningFloor {
    fn drop(&mut self) {
        self.end.take().unwrap()();
    }
}

fn dealer(context: &Context, floor: &RunningFloor) -> Socket {
    let socket = context.socket(SocketType::DEALER).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvtimeo(DEADLINE_MS).unwrap();
    socket.connect(&floor.endpoint).unwrap();
    socket
}

fn send(socket: &Socket, frames: &[&[u8]]) {
    socket.send_multipart(frames.iter().map(|frame| frame.to_vec()), 0).unwrap();
}

#[test]
fn request_goes_to_the_worker_and_its_reply_to_the_client() {
    for floor in RunningFloor::both() {
        let context = Context::new();
        let (worker, client) = (dealer(&context, &floor), dealer(&context, &floor));

        // The request comes first and waits for the worker.
        send(&client, &[b"", b"MDPC01", b"echo", b"one", b"two"]);
        send(&worker, &[b"", b"MDPW01", b"\x01", b"echo"]);

        let request = worker.recv_multipart(0).unwrap();
        let address = request[3].clone();
        assert_eq!(request, [b"", b"MDPW01".as_slice(), b"\x02", &address, b"", b"one", b"two"]);
        send(&worker, &[b"", b"MDPW01", b"\x03", &address, b"", b"three"]);
        assert_eq!(
            client.recv_multipart(0).unwrap(),
            [b"".as_slice(), b"MDPC01", b"echo", b"three"]
        );
    }
}

#[test]
fn each_of_several_services_has_its_own_worker() {
    for floor in RunningFloor::both() {
        let context = Context::new();
        let (a, b) = (dealer(&context, &floor), dealer(&context, &floor));
        let client = dealer(&context, &floor);
        send(&a, &[b"", b"MDPW01", b"\x01", b"a"]);
        send(&b, &[b"", b"MDPW01", b"\x01", b"b"]);

        send(&client, &[b"", b"MDPC01", b"b", b"for b"]);
        send(&client, &[b"", b"MDPC01", b"a", b"for a"]);

        assert_eq!(a.recv_multipart(0).unwrap()[5], b"for a");
        assert_eq!(b.recv_multipart(0).unwrap()[5], b"for b");
    }
}

#[test]
fn worker_that_left_gets_no_request() {
    for floor in RunningFloor::both() {
        let context = Context::new();
        let (left, stays) = (dealer(&context, &floor), dealer(&context, &floor));
        let client = dealer(&context, &floor);
        send(&left, &[b"", b"MDPW01", b"\x01", b"echo"]);
        send(&left, &[b"", b"MDPW01", b"\x05"]);
        // The answer to a heartbeat says that everything before it was taken.
        send(&left, &[b"", b"MDPW01", b"\x04"]);
        assert_eq!(left.recv_multipart(0).unwrap(), [b"".as_slice(), b"MDPW01", b"\x04"]);

        send(&stays, &[b"", b"MDPW01", b"\x01", b"echo"]);
        send(&client, &[b"", b"MDPC01", b"echo", b"x"]);

        assert_eq!(stays.recv_multipart(0).unwrap()[5], b"x");
    }
}
