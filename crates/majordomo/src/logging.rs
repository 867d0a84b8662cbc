//! The log: tracing events to stderr, as text for people or as JSON for programs.
//!
//! A thread of its own writes it, so that whoever stops reading the log does not stop the broker.

use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer, filter::Targets, fmt, layer::SubscriberExt as _, registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// The form of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    /// One line for a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// How many lines may wait to be written; beyond that they are dropped.
const WAITING_LINES_MAX: usize = 10_000;

/// Starts the log; everything before it is lost. What was logged is written before the guard is
/// dropped, unless nobody reads it for a second.
#[must_use = "the log ends with its guard"]
pub(crate) fn start(levels: Targets, format: Format) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(io::stderr());
    let layer = match format {
        Format::Text => text_layer(writer),
        Format::Json => json_layer(writer),
    };
    // It fails only if there is a log already.
    tracing_subscriber::registry().with(layer.with_filter(levels)).try_init().ok();
    guard
}

fn text_layer<S>(writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let is_terminal = io::stderr().is_terminal();
    fmt::layer().with_writer(writer).with_ansi(is_terminal).log_internal_errors(false).boxed()
}

fn json_layer<S>(writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fmt::layer().json().flatten_event(true).with_writer(writer).log_internal_errors(false).boxed()
}
