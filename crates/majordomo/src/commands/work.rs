//! `majordomo work`: a worker that echoes, or runs a command for each request.

mod exec;

use mdp_client::{Request, StopHandle, Worker, WorkerCounters, WorkerOptions};
use tracing_subscriber::filter::Targets;

use self::exec::{Command, Failed};
use crate::{
    args::WorkArgs,
    commands::{message_bytes_max, refresh},
    exit::Exit,
    logging::{self, Format},
    signals::{Second, StopSignals},
};

pub(super) fn run(args: WorkArgs) -> anyhow::Result<Exit> {
    let signals = StopSignals::catch(Second::EndsAfter(exec::kill_all))?;
    let _log =
        logging::start(Targets::new().with_default(args.log_level), &Format::Text { node: None });
    let stop = StopHandle::new();
    let stopper = stop.clone();
    signals.on_first(move || stopper.stop())?;
    tracing::info!(service = args.service, endpoints = ?args.brokers.endpoint, "connecting");
    let defaults = WorkerOptions::default();
    let options = WorkerOptions {
        endpoints: args.brokers.endpoint,
        endpoints_refresh: refresh(args.brokers.no_learn, defaults.endpoints_refresh),
        service: args.service.into_bytes(),
        version: args.protocol.into(),
        heartbeat_interval: args.heartbeat,
        concurrency: args.concurrency,
        request_bytes_max: message_bytes_max(),
        ..defaults
    };
    let handler = Handler::new(args.exec, args.exec_timeout, args.reply_errors);
    let counters = Worker::run(options, move |request| handler.answer(request), &stop)?;
    let WorkerCounters { registrations, requests, replies, .. } = counters;
    tracing::info!(registrations, requests, replies, "left");
    Ok(Exit::Ok)
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
    fn new(exec: Option<String>, timeout: Option<std::time::Duration>, reply_errors: bool) -> Self {
        let on_failure = if reply_errors { OnFailure::EmptyAndStderr } else { OnFailure::Empty };
        exec.map_or(Self::Echo, |line| Self::Exec {
            command: Command { line, timeout },
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
