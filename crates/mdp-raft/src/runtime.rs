//! What consensus runs on: this machine, or a simulated one in its place.

use std::{
    fmt::Debug,
    fs::File,
    io::{self, Read as _},
    pin::pin,
    sync::Arc,
    task::{Context, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use openraft_rt::AsyncRuntime;
use openraft_rt_tokio::TokioRuntime;

/// What consensus takes from the machine that it runs on. [`Tokio`] is the machine of the process;
/// a simulation has others. Its values mean nothing: openraft asks types, not values.
pub trait Runtime: Copy + Debug + Default + Ord + Send + Sync + 'static {
    /// Tasks, clock, random numbers and channels of openraft. Its clock is that of this crate, too.
    type Async: AsyncRuntime;

    /// Makes a task, before it is spawned, run on the machine of the caller.
    fn here<F>(task: F) -> impl Future<Output = F::Output> + Send + 'static
    where
        F: Future + Send + 'static;

    /// Fills this with random bytes that no other machine has.
    ///
    /// # Errors
    /// The machine gives none.
    fn fill_random(bytes: &mut [u8]) -> io::Result<()>;

    /// Runs what writes to the disk, and blocks while it does.
    ///
    /// # Errors
    /// The machine can not.
    fn run_writer(writer: impl Future<Output = ()> + Send + 'static) -> io::Result<()>;

    /// Waits for the disk within [`run_writer`](Self::run_writer), beyond the time that it really
    /// takes ([`Volume::sync_takes`](crate::Volume::sync_takes)).
    fn wait_for_disk(time: Duration) -> impl Future<Output = ()> + Send;
}

/// The machine of the process, with the tokio runtime that a task is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tokio;

impl Runtime for Tokio {
    type Async = TokioRuntime;

    fn here<F>(task: F) -> impl Future<Output = F::Output> + Send + 'static
    where
        F: Future + Send + 'static,
    {
        task
    }

    fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
        File::open("/dev/urandom")?.read_exact(bytes)
    }

    fn run_writer(writer: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name("raft-store".to_owned());
        thread.spawn(move || run_alone(writer)).map(drop)
    }

    async fn wait_for_disk(time: Duration) {
        // This thread writes, and nothing else.
        thread::sleep(time);
    }
}

/// Random bytes that no other machine has.
///
/// # Errors
/// The machine gives none.
pub(crate) fn random_bytes<R: Runtime, const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    R::fill_random(&mut bytes)?;
    Ok(bytes)
}

/// Wakes a thread that runs one future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, which is no part of a runtime.
fn run_alone(future: impl Future<Output = ()>) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        thread::park();
    }
}
