//! A worker that goes to another broker when its own leaves or dies. Enter ends it.
//!
//! ```text
//! cargo run -p mdp-client --example failover_worker -- 127.0.0.1:5555,127.0.0.1:5565,127.0.0.1:5575
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, error::Error, io, thread};

use mdp_client::{Request, StopHandle, Worker, WorkerOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let endpoints = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5555".to_owned());
    let options = WorkerOptions::new("echo")
        // One of them at random; the other nodes of their cluster are learned.
        .endpoints(endpoints.split(','));

    // `stop` lets the worker finish its request and say DISCONNECT, so that it gets no other.
    let stop = StopHandle::new();
    let stopper = stop.clone();
    let waiter = thread::spawn(move || {
        let read = io::stdin().read_line(&mut String::new());
        stopper.stop();
        read
    });

    let counters = Worker::run(options, |request: Request| request.frames, &stop)?;
    println!("{} registrations, {} replies", counters.registrations, counters.replies);
    waiter.join().map_err(|_panic| "the thread that reads stdin panicked")??;
    Ok(())
}
