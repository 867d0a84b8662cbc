//! The threads that compute handshakes of CURVE, for all ports of a node.
//!
//! A handshake costs some 0.2 ms. A thread that owns a port does none of it: its [`PortCrypto`] hands the jobs of the
//! port's [`Transport`] to the [`CryptoPool`], and brings the results back in one of the next turns, to which the port's
//! bell wakes its thread.
//!
//! What waits is bounded twice: a connection has at most one job, which waits in its transport, and of a port there are
//! at most [`PORT_JOBS_MAX`] in the pool. So a crowd at one port delays a handshake at another by no more than that.

use std::{
    io,
    num::NonZero,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Instant,
};

use mdp_core::NodeKeys;
use mdp_transport::{CurveJob, CurveJobResult, Transport};
use zeroize::Zeroizing;

use crate::bell::Ringer;

/// How many threads there are at most if their number is not configured.
const THREADS_BY_CORES_MAX: usize = 4;
/// How many can be configured.
pub const CRYPTO_THREADS_MAX: usize = 64;
/// How many random bytes a port is handed.
pub(crate) const RANDOM_BYTES: usize = 32;
/// How many jobs of one port are in the pool at most: those that are computed, and those that wait.
const PORT_JOBS_MAX: usize = 64;
/// How many ports there are with a share of the pool: one for clients and workers, two for nodes, and one to spare.
const PORTS_MAX: usize = 4;
/// How many jobs may wait for the threads: with no more than [`PORTS_MAX`] ports there is always room.
const POOL_JOBS_MAX: usize = PORTS_MAX * PORT_JOBS_MAX;

/// A job, and the port that its result goes to.
#[derive(Debug)]
struct PortJob {
    job: CurveJob,
    results: SyncSender<CurveJobResult>,
    ringer: Ringer,
}

/// The threads that compute. Cheap to clone; they end when all clones are gone, and all ports' ends.
#[derive(Clone, Debug)]
pub(crate) struct CryptoPool {
    jobs: SyncSender<PortJob>,
}

impl CryptoPool {
    /// Starts `threads` threads; 0: one for each core less one, at least one and at most
    /// [`THREADS_BY_CORES_MAX`].
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(POOL_JOBS_MAX);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..number_of_threads(threads) {
            let queue = Arc::clone(&queue);
            let compute = move || compute(&queue);
            thread::Builder::new().name("mdp-crypto".to_owned()).spawn(compute)?;
        }
        Ok(Self { jobs })
    }

    /// A port's end. The ringer wakes the port's thread.
    pub(crate) fn port(&self, ringer: Ringer) -> PortCrypto {
        // There is room for each result of a job that is in the pool, so that no thread of the pool ever waits.
        let (results, done) = sync_channel(PORT_JOBS_MAX);
        PortCrypto { jobs: self.jobs.clone(), results, done, ringer, in_pool: 0, returned: None }
    }
}

/// What a port needs for CURVE between nodes.
#[derive(Clone, Debug)]
pub(crate) struct PortKeys {
    /// The keys.
    pub(crate) keys: Arc<NodeKeys>,
    /// Who computes its handshakes.
    pub(crate) pool: CryptoPool,
    /// Random bytes of the operating system.
    pub(crate) random: Zeroizing<[u8; RANDOM_BYTES]>,
}

/// How many threads compute.
fn number_of_threads(configured: usize) -> usize {
    if configured > 0 {
        return configured.min(CRYPTO_THREADS_MAX);
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    cores.saturating_sub(1).clamp(1, THREADS_BY_CORES_MAX)
}

fn compute(queue: &Mutex<Receiver<PortJob>>) {
    loop {
        // One thread waits for the next job, the others for their turn to wait.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(PortJob { job, results, ringer }) = next else { return };
        // A port that is gone needs no result.
        match results.try_send(job.run()) {
            Ok(()) | Err(_) => {}
        }
        ringer.ring();
    }
}

/// One port's end of the [`CryptoPool`].
#[derive(Debug)]
pub(crate) struct PortCrypto {
    jobs: SyncSender<PortJob>,
    results: SyncSender<CurveJobResult>,
    done: Receiver<CurveJobResult>,
    ringer: Ringer,
    /// How many jobs have no result yet.
    in_pool: usize,
    /// A job that the pool had no room for.
    returned: Option<CurveJob>,
}

impl PortCrypto {
    /// Takes the results that there are, and hands out the jobs that wait. To be called in each turn of the port's thread,
    /// after what came was read. The transport's jobs must be [outside](Transport::set_jobs_outside).
    pub(crate) fn turn<T>(&mut self, now: Instant, transport: &mut Transport<T>) {
        while let Ok(result) = self.done.try_recv() {
            self.in_pool = self.in_pool.saturating_sub(1);
            transport.job_done(now, result);
        }
        while self.in_pool < PORT_JOBS_MAX
            && let Some(job) = self.returned.take().or_else(|| transport.poll_job())
        {
            let (results, ringer) = (self.results.clone(), self.ringer.clone());
            match self.jobs.try_send(PortJob { job, results, ringer }) {
                Ok(()) => self.in_pool += 1,
                // There are more ports than were thought of: it is for the next turn, which comes within a second.
                Err(TrySendError::Full(PortJob { job, .. })) => {
                    self.returned = Some(job);
                    return;
                }
                // Only if all threads of the pool are gone: then this process ends.
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
