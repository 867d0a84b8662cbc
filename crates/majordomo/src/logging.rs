//! The log: tracing events to stderr, as text for people or as JSON for programs.

use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
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

/// Starts the log; everything before it is lost.
pub(crate) fn start(levels: Targets, format: Format) {
    let layer = match format {
        Format::Text => text_layer(),
        Format::Json => json_layer(),
    };
    // It fails only if there is a log already.
    tracing_subscriber::registry().with(layer.with_filter(levels)).try_init().ok();
}

fn text_layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> Box<dyn Layer<S> + Send + Sync> {
    let is_terminal = io::stderr().is_terminal();
    fmt::layer().with_writer(io::stderr).with_ansi(is_terminal).log_internal_errors(false).boxed()
}

fn json_layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> Box<dyn Layer<S> + Send + Sync> {
    fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(io::stderr)
        .log_internal_errors(false)
        .boxed()
}
