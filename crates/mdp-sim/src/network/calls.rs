//! Calls between nodes: lost, late, twice, or in another order, but never torn.

use std::time::Duration;

use mdp_raft::{BoxFuture, CallError, FORMATS, Lane, Transport, simulation::Host};
use mdp_wire::codec::{self, Kind};
use tokio::{sync::oneshot, time::sleep};

use super::{Answering, Network, site_of};
use crate::trace::mix;

/// The transport of one process.
#[derive(Debug)]
pub(crate) struct Caller {
    network: Network,
    site: usize,
    host: Host,
}

/// One call on its way.
struct Trip {
    network: Network,
    from: usize,
    to: usize,
    request: Vec<u8>,
    /// How long it takes to get there.
    there: Duration,
}

impl Caller {
    pub(crate) const fn new(network: Network, site: usize, host: Host) -> Self {
        Self { network, site, host }
    }
}

impl Transport for Caller {
    fn call(
        &self,
        endpoint: &str,
        _lane: Lane,
        request: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, CallError>> {
        let deadline = self.host.now() + timeout;
        let host = self.host.clone();
        let answer = site_of(endpoint).map(|to| begin(&self.network, self.site, to, request));
        Box::pin(async move {
            let answered = async {
                match answer {
                    Some(answer) => answer.await.ok(),
                    None => None,
                }
            };
            tokio::select! {
                biased;
                Some(result) = answered => result,
                () = host.sleep_until(deadline) => Err(CallError::Timeout),
            }
        })
    }
}

/// Sends a call on its way, maybe twice. What gets lost drops the sender of the answer.
fn begin(
    network: &Network,
    from: usize,
    to: usize,
    request: Vec<u8>,
) -> oneshot::Receiver<Result<Vec<u8>, CallError>> {
    let (sender, answer) = oneshot::channel();
    let (there, twice, is_lost) = {
        let mut state = network.state.lock();
        state.calls += 1;
        let format = codec::format_of(Kind::Call, u16::MAX, &request);
        state.newer_calls += u64::from(format.is_ok_and(|format| !FORMATS.contains(format)));
        state.digest = mix(state.digest, &[from as u64, to as u64, request.len() as u64]);
        state.digest = mix_bytes(state.digest, &request);
        let (lost, twice) = (state.weather.lost, state.weather.twice);
        let there = state.latency();
        let again = state.rng.chance(twice).then(|| state.latency() * 2);
        (there, again, state.rng.chance(lost))
    };
    if let Some(there) = twice {
        let trip = Trip { network: network.clone(), from, to, request: request.clone(), there };
        tokio::spawn(async move { drop(trip.run().await) });
    }
    if !is_lost {
        let trip = Trip { network: network.clone(), from, to, request, there };
        tokio::spawn(async move {
            if let Some(result) = trip.run().await {
                // Whoever called may be gone.
                match sender.send(result) {
                    Ok(()) | Err(_) => {}
                }
            }
        });
    }
    answer
}

fn mix_bytes(digest: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(digest, |digest, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(digest, &[u64::from_le_bytes(word)])
    })
}

impl Trip {
    /// `None`: nothing comes back.
    async fn run(self) -> Option<Result<Vec<u8>, CallError>> {
        let Self { network, from, to, request, there } = self;
        sleep(there).await;
        if network.is_cut(from, to) {
            return None;
        }
        let answering = network.state.lock().answering.get(to).cloned().flatten();
        let answer = match answering {
            // The machine is there, but no process.
            None => Err(CallError::Unreachable),
            Some(Answering { host, consensus }) => {
                let answering = host.run(async move { consensus.answer(request).await });
                Ok(answering.await?)
            }
        };
        let (back, is_lost) = {
            let mut state = network.state.lock();
            let lost = state.weather.lost;
            (state.latency(), state.rng.chance(lost))
        };
        sleep(back).await;
        (!is_lost && !network.is_cut(to, from)).then_some(answer)
    }
}
