//! The log: tracing events to stderr, as text for people or as JSON for programs.
//!
//! A thread of its own writes it, so that whoever stops reading the log does not stop the broker.

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal as _, Write},
};

use anyhow::Context as _;
use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    fmt::{
        self,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// The form of the log.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// One line for a person.
    Text {
        /// Who says it; `None`: the program is no node.
        node: Option<String>,
    },
    /// One JSON object a line.
    Json {
        /// Who says it: in each line, for logs of all nodes are read together.
        node: String,
    },
}

/// How many lines may wait to be written; beyond that they are dropped.
const WAITING_LINES_MAX: usize = 10_000;

/// The part of the program that tells its every step at the levels at which the others tell what a
/// person wants to know, and reports as errors that it was asked something while it ended. What of it
/// concerns the node, such as a disk that fails, the node says itself.
const TALKATIVE: &str = "openraft";

/// What is logged, for a checked `log.level`. A part that is not named there says nothing if it is
/// [`TALKATIVE`].
pub(crate) fn levels(text: &str) -> anyhow::Result<Targets> {
    let levels: Targets = text.parse().context("log.level")?;
    let is_named = text.split(',').any(|part| part.trim().starts_with(TALKATIVE));
    if is_named {
        return Ok(levels);
    }
    Ok(levels.with_target(TALKATIVE, LevelFilter::OFF))
}

/// Starts the log; everything before it is lost. What was logged is written before the guard is
/// dropped, unless nobody reads it for a second.
#[must_use = "the log ends with its guard"]
pub(crate) fn start(levels: Targets, format: &Format) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(io::stderr());
    let layer = match format {
        Format::Text { node } => text_layer(writer, node.as_deref()),
        Format::Json { node } => json_layer(writer, node),
    };
    // It fails only if there is a log already.
    tracing_subscriber::registry().with(layer.with_filter(levels)).try_init().ok();
    guard
}

fn text_layer<S>(writer: NonBlocking, node: Option<&str>) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let is_coloured = has_colour(io::stderr().is_terminal(), env::var_os("NO_COLOR").as_deref());
    let layer = fmt::layer().with_writer(writer).with_ansi(is_coloured).log_internal_errors(false);
    layer.with_timer(Head { node: node.map(str::to_owned) }).boxed()
}

/// Whether the log has colours: on a terminal, unless NO_COLOR is set to anything but "", as
/// <https://no-color.org> wants it.
fn has_colour(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

/// What a line begins with: the time, and the node, for logs of several are read together.
struct Head {
    node: Option<String>,
}

impl FormatTime for Head {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        SystemTime.format_time(writer)?;
        self.node.as_ref().map_or(Ok(()), |node| write!(writer, " {node}"))
    }
}

fn json_layer<S>(writer: NonBlocking, node: &str) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    // The names of nodes need no escapes.
    let begin = format!("{{\"node\":\"{node}\",");
    let writer = move || Named { begin: begin.clone(), to: writer.clone() };
    fmt::layer().json().flatten_event(true).with_writer(writer).log_internal_errors(false).boxed()
}

/// Puts the node into the object of each line, which comes in one piece.
struct Named {
    begin: String,
    to: NonBlocking,
}

impl Write for Named {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match line.strip_prefix(b"{") {
            Some(rest) => self.to.write_all(&[self.begin.as_bytes(), rest].concat())?,
            None => self.to.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn talkative_part_says_more_only_if_it_is_named() {
        let says = |text: &str, target: &str, level: Level| {
            levels(text).unwrap().would_enable(target, &level)
        };

        assert!(says("info", "mdp_node", Level::INFO));
        assert!(!says("info", "openraft::core", Level::ERROR));
        assert!(!says("debug", "openraft::core", Level::INFO));
        assert!(!says("off", "openraft::core", Level::ERROR));
        assert!(says("info,openraft=debug", "openraft::core", Level::DEBUG));
        assert!(says("info,mdp_node=debug", "mdp_node", Level::DEBUG));
    }

    #[test]
    fn log_has_colours_on_a_terminal_that_may_have_some() {
        let no_color = |value: &'static str| Some(OsStr::new(value));

        assert!(has_colour(true, None) && has_colour(true, no_color("")));
        assert!(!has_colour(true, no_color("1")) && !has_colour(true, no_color("0")));
        assert!(!has_colour(false, None));
    }
}
