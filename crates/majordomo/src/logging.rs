//! The log: tracing events to stderr, as text for people or as JSON for programs.
//!
//! A thread of its own writes it, so that whoever stops reading the log does not stop the broker.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
};

use anyhow::Context as _;
use tracing::{Subscriber, field::Field};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer,
    field::MakeExt as _,
    filter::{LevelFilter, Targets},
    fmt::{
        self,
        format::{Writer, debug_fn},
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::table::is_steering;

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
    let layer = layer.with_timer(Head { node: node.map(str::to_owned) });
    layer.fmt_fields(debug_fn(write_field).delimited(" ")).boxed()
}

/// Writes a field so that nothing of it can end the line, move the cursor or turn the line around: names and reasons come
/// from other machines, and one with a newline would put lines of its own into the log. JSON escapes
/// by itself.
fn write_field(
    writer: &mut Writer<'_>,
    field: &Field,
    value: &dyn std::fmt::Debug,
) -> std::fmt::Result {
    if field.name() != "message" {
        match writer.has_ansi_escapes() {
            true => write!(writer, "\x1b[3m{field}\x1b[0m\x1b[2m=\x1b[0m")?,
            false => write!(writer, "{field}=")?,
        }
    }
    write!(Escaped(writer), "{value:?}")
}

/// Writes characters that end lines or change what a reader sees as Rust does in a string: a name with one that
/// turns the direction of writing would show a line in another order than it has (UAX #9).
struct Escaped<W>(W);

impl<W: std::fmt::Write> std::fmt::Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_steering) {
            let (plain, from) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut chars = from.chars();
            if let Some(control) = chars.next() {
                write!(self.0, "{}", control.escape_default())?;
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
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
    use std::sync::{Arc, Mutex};

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

    /// Keeps what is written.
    struct To(Arc<Mutex<Vec<u8>>>);

    impl Write for To {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map_or(Ok(0), |mut kept| kept.write(bytes))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the text log says of an event.
    fn line(colours: bool, log: impl FnOnce()) -> String {
        let out: Arc<Mutex<Vec<u8>>> = Arc::default();
        let to = Arc::clone(&out);
        let layer = fmt::layer().with_writer(move || To(Arc::clone(&to))).with_ansi(colours);
        let layer = layer.without_time().with_target(false);
        let layer = layer.fmt_fields(debug_fn(write_field).delimited(" "));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = out.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn nothing_that_is_logged_can_end_its_line_or_move_the_cursor() {
        let name = "evil\n2026 ERROR forged \u{1b}[2J\u{9b}1m";
        let log = || tracing::warn!(%name, count = 3, plain = "a b", "{name} joins");
        let escaped = "evil\\n2026 ERROR forged \\u{1b}[2J\\u{9b}1m";

        let turned = "a\u{202e}b\u{2066}c\u{2028}d\u{200f}\u{61c}e";
        let shown = "name=a\\u{202e}b\\u{2066}c\\u{2028}d\\u{200f}\\u{61c}e";
        let said = line(false, || tracing::warn!(name = %turned, "joins"));
        assert_eq!(said, format!(" WARN joins {shown}\n"));

        let expected = format!(" WARN {escaped} joins name={escaped} count=3 plain=\"a b\"\n");
        assert_eq!(line(false, log), expected);
        let coloured = line(true, log);
        assert!(coloured.contains(escaped) && coloured.matches('\n').count() == 1, "{coloured:?}");
    }

    #[test]
    fn nothing_that_is_logged_can_turn_its_line_around_or_separate_it() {
        let separators = ['\u{2028}', '\u{2029}'].into_iter();
        let embeddings = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        let marks = ['\u{200e}', '\u{200f}', '\u{61c}'];
        for it in separators.chain(embeddings).chain(marks) {
            let name = format!("n{it}1");
            let expected = format!(" WARN x name=n{}1\n", it.escape_unicode());
            assert_eq!(line(false, || tracing::warn!(%name, "x")), expected);
        }
        let name = "größe\u{200d}\u{5d0}";
        assert_eq!(line(false, || tracing::warn!(%name, "x")), format!(" WARN x name={name}\n"));
    }

    #[test]
    fn log_has_colours_on_a_terminal_that_may_have_some() {
        let no_color = |value: &'static str| Some(OsStr::new(value));

        assert!(has_colour(true, None) && has_colour(true, no_color("")));
        assert!(!has_colour(true, no_color("1")) && !has_colour(true, no_color("0")));
        assert!(!has_colour(false, None));
    }
}
