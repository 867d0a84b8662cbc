//! A client that survives the loss, the drain and the restart of brokers.
//!
//! ```text
//! cargo run -p mdp-client --example failover_client -- 127.0.0.1:5555,127.0.0.1:5565,127.0.0.1:5575
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, error::Error, thread, time::Duration};

use mdp_client::{CallError, CallOptions, Client, ClientOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let endpoints = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5555".to_owned());
    // In order of preference. The other nodes of their cluster are learned.
    let options = ClientOptions::new(endpoints.split(','))
        // For each attempt. A lost connection is seen at once, whatever this is.
        .timeout(Duration::from_millis(2_500))
        .attempts(3);
    let mut client = Client::connect(options)?;

    for number in 0_u64.. {
        // The echo may work on a request twice, so the client sends it again when it has to.
        match client.call("echo", number.to_string()) {
            Ok(reply) => println!("{number}: {} (attempt {})", reply.endpoint, reply.attempts),
            Err(error) => println!("{number}: {error}"),
        }

        // What must not happen twice is not sent again once it may have reached a worker.
        let once = CallOptions::new().idempotent(false);
        match client.call_with_options("echo", "charge 5", once) {
            Ok(_) => {}
            Err(CallError::MayHaveBeenExecuted { request_id, .. }) => {
                println!("{number}: look in the books for request {request_id}");
            }
            Err(error) => println!("{number}: certainly not charged: {error}"),
        }
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}
