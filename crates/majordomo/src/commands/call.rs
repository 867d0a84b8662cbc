//! `majordomo call`: one request, its reply.

mod output;

use std::{
    ffi::OsString,
    io::{self, Read as _},
    os::unix::ffi::OsStringExt as _,
};

use anyhow::Context as _;
use mdp_client::{CallOptions, Client, Reply};
use serde::Serialize;

use crate::{
    args::CallArgs,
    commands::client_options,
    exit::{Exit, UsageError},
    files,
    printer::{self, JsonFrames},
    settings::MESSAGE_BYTES_MAX,
};

use self::output::{Output, OutputFile};

/// The argument that stands for stdin.
const STDIN: &str = "-";

/// The file that stands for stdout.
const STDOUT: &str = "-";

pub(super) fn run(args: CallArgs) -> anyhow::Result<Exit> {
    files::provide(0)?;
    let body = body(args.body)?;
    let mut output = match args.output {
        Some(path) if path.as_os_str() != STDOUT => Output::File(OutputFile::create(path)?),
        Some(_) => Output::Raw,
        None if args.raw => Output::Raw,
        None => Output::Lines,
    };
    let mut options = client_options(args.brokers, args.timeout, args.retries)?;
    options.version = args.protocol.into();
    options.idempotent = !args.not_idempotent;
    options.unreachable_timeout = args.wait;
    let call = CallOptions::new().fail_fast(args.fail_fast);
    let mut client = Client::connect(options)?;
    if args.json {
        let reply = client.call_with_options(&args.service, body, call)?;
        printer::json(&JsonReply::new(args.service, reply))?;
    } else {
        let mut written = Ok(());
        let reply = client.call_with_parts(&args.service, body, call, |part| {
            if written.is_ok() {
                written = output.frames(&part);
            }
        })?;
        written?;
        output.finish(&reply.frames)?;
    }
    Ok(Exit::Ok)
}

fn body(arguments: Vec<OsString>) -> anyhow::Result<Vec<Vec<u8>>> {
    if arguments.iter().filter(|argument| *argument == STDIN).count() > 1 {
        let message = "stdin (-) can be one frame only".to_owned();
        return Err(UsageError(message).into());
    }
    arguments
        .into_iter()
        .map(|argument| if argument == STDIN { stdin() } else { Ok(argument.into_vec()) })
        .collect()
}

fn stdin() -> anyhow::Result<Vec<u8>> {
    let mut frame = Vec::new();
    let mut limited = io::stdin().lock().take(MESSAGE_BYTES_MAX + 1);
    limited.read_to_end(&mut frame).context("stdin cannot be read")?;
    if u64::try_from(frame.len()).is_ok_and(|bytes| bytes > MESSAGE_BYTES_MAX) {
        let message = format!("stdin has more than {MESSAGE_BYTES_MAX} bytes");
        return Err(UsageError(message).into());
    }
    Ok(frame)
}

/// A reply for programs.
#[derive(Debug, Serialize)]
struct JsonReply {
    request_id: String,
    service: String,
    #[serde(flatten)]
    frames: JsonFrames,
    endpoint: String,
    attempts: u32,
    elapsed_ms: f64,
}

impl JsonReply {
    fn new(service: String, reply: Reply) -> Self {
        let elapsed_us = reply.elapsed.as_micros();
        Self {
            request_id: reply.request_id.to_string(),
            service,
            frames: reply.frames.into(),
            endpoint: reply.endpoint,
            attempts: reply.attempts,
            elapsed_ms: f64::from(u32::try_from(elapsed_us).unwrap_or(u32::MAX)) / 1e3,
        }
    }
}
