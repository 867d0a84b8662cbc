//! `majordomo work`: a worker that echoes, or runs a command for each request.

mod exec;
mod guard;

use mdp_client::{Request, StopHandle, Worker, WorkerCounters, WorkerOptions};
use tracing_subscriber::filter::Targets;

use self::{
    exec::{Command, Failed},
    guard::Guard,
};
use crate::{
    args::WorkArgs,
    children,
    commands::{message_bytes_max, own_keys, refresh},
    exit::Exit,
    files,
    logging::{self, Format},
    signals::{HangUp, Second, StopSignals},
};

/// Descriptors for one request at a time.
const FILES_PER_CONNECTION: u64 = 16;

pub(crate) use self::guard::{COMMAND as GUARD_COMMAND, run as guard_commands};

pub(super) fn run(args: WorkArgs) -> anyhow::Result<Exit> {
    let (key, server_key) = own_keys::read(&args.brokers.keys)?.unzip();
    let signals = StopSignals::catch(Second::EndsAfter(children::kill_all), HangUp::Stops)?;
    let _log =
        logging::start(Targets::new().with_default(args.log_level), &Format::Text { node: None });
    // Each request that is worked on has a connection, and its command has pipes.
    let connections = u64::try_from(args.concurrency).unwrap_or(u64::MAX);
    files::provide(connections.saturating_mul(FILES_PER_CONNECTION))?;
    let stop = StopHandle::new();
    let stopper = stop.clone();
    signals.on_first(move || stopper.stop())?;
    tracing::info!(service = args.service, endpoints = ?args.brokers.endpoint, "connecting");
    let defaults = WorkerOptions::default();
    let refresh = refresh(args.brokers.no_learn, defaults.endpoints_refresh);
    let options = defaults
        .endpoints(args.brokers.endpoint)
        .endpoints_refresh(refresh)
        .service(args.service.into_bytes())
        .version(args.protocol.into())
        .heartbeat_interval(args.heartbeat)
        .concurrency(args.concurrency)
        .request_bytes_max(message_bytes_max())
        .key(key)
        .server_key(server_key);
    let guard = args.exec.is_some().then(guard_commands_of_this_process).flatten();
    let handler = Handler::new(args.exec, args.exec_timeout, args.reply_errors, guard.clone());
    let counters = Worker::run(options, move |request| handler.answer(request), &stop)?;
    if let Some(guard) = guard {
        guard.release();
    }
    let WorkerCounters { registrations, requests, replies, .. } = counters;
    tracing::info!(registrations, requests, replies, "left");
    Ok(Exit::Ok)
}

/// Takes care that commands and what they leave behind end, and are reaped, in every case.
fn guard_commands_of_this_process() -> Option<Guard> {
    children::inherit_orphans();
    let guard = Guard::start();
    let warn = |error: &std::io::Error| {
        tracing::warn!(%error, "commands would go on running if this process were killed");
    };
    guard.inspect_err(warn).ok()
}

/// What a failed command is answered with.
#[derive(Clone, Copy, Debug)]
enum OnFailure {
    /// One empty frame.
    Empty,
    /// One empty frame, and the end of the command's stderr.
    EmptyAndStderr,
}

/// How requests are answered.
#[derive(Debug)]
enum Handler {
    /// With their own body.
    Echo,
    /// With what a command writes.
    Exec { command: Command, on_failure: OnFailure },
}

impl Handler {
    fn new(
        exec: Option<String>,
        timeout: Option<std::time::Duration>,
        reply_errors: bool,
        guard: Option<Guard>,
    ) -> Self {
        let on_failure = if reply_errors { OnFailure::EmptyAndStderr } else { OnFailure::Empty };
        exec.map_or(Self::Echo, |line| Self::Exec {
            command: Command { line, timeout, guard },
            on_failure,
        })
    }

    fn answer(&self, request: Request) -> Vec<Vec<u8>> {
        match self {
            Self::Echo => request.frames,
            Self::Exec { command, on_failure } => match command.run(&request.frames) {
                Ok(stdout) => vec![stdout],
                Err(failed) => failed.answer(*on_failure),
            },
        }
    }
}

impl Failed {
    /// Logs the failure and makes the reply.
    fn answer(self, on_failure: OnFailure) -> Vec<Vec<u8>> {
        let stderr = String::from_utf8_lossy(&self.stderr_tail);
        tracing::warn!(reason = %self.reason, stderr = stderr.trim_end(), "the command failed");
        match on_failure {
            OnFailure::Empty => vec![Vec::new()],
            OnFailure::EmptyAndStderr => vec![Vec::new(), self.stderr_tail],
        }
    }
}
