//! A floor as a process of its own, so that its processor time can be measured.
//!
//! Prints `listening on ENDPOINT` and forwards until it is killed.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Parser;
use mdp_bench::floor::{Floor, NativeFloor};

/// The least forwarder that clients and workers of 7/MDP take for a broker, to compare with.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen.
    #[arg(default_value = "tcp://127.0.0.1:0")]
    endpoint: String,
    /// Forward with the transport of Majordomo instead of libzmq.
    #[arg(long)]
    native: bool,
}

fn say(endpoint: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {endpoint}")?;
    Ok(stdout.flush()?)
}

fn main() -> anyhow::Result<()> {
    let Arguments { endpoint, native } = Arguments::parse();
    let cannot_listen = || format!("cannot listen on {endpoint}");
    if native {
        let address = endpoint.strip_prefix("tcp://").unwrap_or(&endpoint);
        let floor = NativeFloor::bind(address).with_context(cannot_listen)?;
        say(&format!("tcp://{}", floor.address()?))?;
        floor.run()?;
    } else {
        let floor = Floor::bind(&zmq::Context::new(), &endpoint).with_context(cannot_listen)?;
        say(&floor.endpoint()?)?;
        floor.run()?;
    }
    Ok(())
}
