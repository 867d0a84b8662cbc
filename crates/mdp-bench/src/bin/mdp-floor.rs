//! The floor as a process of its own, so that its processor time can be measured.
//!
//! Usage: `mdp-floor [ENDPOINT]`; the endpoint is `tcp://127.0.0.1:*` unless given. Prints
//! `listening on ENDPOINT` and forwards until it is killed.

use std::io::Write as _;

use anyhow::Context as _;
use mdp_bench::floor::Floor;

fn main() -> anyhow::Result<()> {
    let endpoint = std::env::args().nth(1);
    let endpoint = endpoint.as_deref().unwrap_or("tcp://127.0.0.1:*");
    let floor = Floor::bind(&zmq::Context::new(), endpoint)
        .with_context(|| format!("cannot listen on {endpoint}"))?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {}", floor.endpoint()?)?;
    stdout.flush()?;
    drop(stdout);
    floor.run()?;
    Ok(())
}
