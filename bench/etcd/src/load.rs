//! A window of reads: each is followed by the next when its answer arrives.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use mdp_bench::{BrokerReport, Latency, process::ProcessTime, questions::Answers};

use crate::{
    cluster::{self, Etcd},
    grpc::{Call, Channel},
    messages::RangeResponse,
};

/// What to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Which server is asked.
    pub(crate) server: usize,
    /// How many reads are outstanding at any time.
    pub(crate) window: usize,
    /// How many HTTP/2 connections share them.
    pub(crate) connections: usize,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
}

/// Longer latencies count as this: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Loads one server and measures what all of them spend on it.
pub(crate) async fn measure(etcd: &Etcd, load: Load) -> anyhow::Result<Answers> {
    let phase = Arc::new(AtomicU8::new(WARMING_UP));
    let mut channels = Vec::new();
    for _ in 0..load.connections {
        channels.push(etcd.channel(load.server).await?);
    }
    let mut places = Vec::new();
    for (_, channel) in (0..load.window).zip(channels.iter().cycle()) {
        let call = channel.prepare("etcdserverpb.KV/Range", &cluster::read())?;
        let place = Place { channel: channel.clone(), call, phase: Arc::clone(&phase) };
        places.push(tokio::spawn(place.turn()));
    }
    tokio::time::sleep(load.warmup).await;

    let pids = etcd.pids();
    let (before, own_before) = (times(&pids)?, times(&[std::process::id()])?);
    let began_at = Instant::now();
    phase.store(MEASURING, Ordering::Relaxed);
    tokio::time::sleep(load.duration).await;
    phase.store(ENDED, Ordering::Relaxed);
    let seconds = began_at.elapsed().as_secs_f64();
    let (after, own_after) = (times(&pids)?, times(&[std::process::id()])?);

    let mut latencies = Histogram::<u64>::new_with_max(LATENCY_NS_MAX, 3)?;
    for place in places {
        latencies.add(place.await.context("a task ended")??)?;
    }
    let reads = latencies.len();
    ensure!(reads > 0, "no read was answered");
    let spent = |before: &[ProcessTime], after: &[ProcessTime]| -> Vec<BrokerReport> {
        let pairs = before.iter().zip(after);
        pairs.map(|(before, after)| BrokerReport::new(&after.since(before), reads, 0, 0)).collect()
    };
    let own = spent(&own_before, &own_after);
    let at = |quantile| to_f64(latencies.value_at_quantile(quantile)) / 1e3;
    let latency = Latency {
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: to_f64(latencies.max()) / 1e3,
        mean_us: latencies.mean() / 1e3,
    };
    Ok(Answers {
        answers: reads,
        answers_per_second: to_f64(reads) / seconds,
        latency,
        processes: spent(&before, &after),
        generator_cpu_us: own.iter().map(|own| own.cpu_us_per_request).sum(),
        // A read that fails, or is answered wrongly, ends the measurement.
        errors: 0,
    })
}

fn times(pids: &[u32]) -> anyhow::Result<Vec<ProcessTime>> {
    let time = |pid: &u32| ProcessTime::read(*pid).with_context(|| format!("process {pid}"));
    pids.iter().map(time).collect()
}

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const ENDED: u8 = 2;

/// One place in the window.
struct Place {
    channel: Channel,
    call: Call,
    phase: Arc<AtomicU8>,
}

impl Place {
    async fn turn(mut self) -> anyhow::Result<Histogram<u64>> {
        let mut latencies = Histogram::new_with_max(LATENCY_NS_MAX, 3)?;
        loop {
            let sent_at = Instant::now();
            let answer: RangeResponse = self.channel.make(&self.call).await?;
            ensure!(cluster::is_right(&answer), "a wrong answer: {answer:?}");
            match self.phase.load(Ordering::Relaxed) {
                ENDED => return Ok(latencies),
                MEASURING => {
                    let latency = u64::try_from(sent_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    latencies.saturating_record(latency);
                }
                _ => {}
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures are rounded to a few digits anyway")]
fn to_f64(count: u64) -> f64 {
    count as f64
}
