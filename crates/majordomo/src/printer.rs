//! The only place that writes to stdout and stderr (besides the log).

use std::io::{self, IsTerminal as _, Write as _};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Serialize;

use crate::settings::Problems;

/// Writes a text, ended by a newline.
pub(crate) fn text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end_matches('\n'))?;
    out.flush()
}

/// Writes bytes as they are.
pub(crate) fn raw(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Writes each frame as it is, followed by a newline.
pub(crate) fn frames(frames: &[Vec<u8>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for frame in frames {
        out.write_all(frame)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Writes one JSON value, indented.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    text(&serde_json::to_string_pretty(value)?)
}

/// Writes what went wrong to stderr. That nobody reads it cannot be helped.
pub(crate) fn error(error: &anyhow::Error) {
    let mut lines = String::new();
    if let Some(Problems(problems)) = error.downcast_ref() {
        for problem in problems {
            lines.push_str(&format!("majordomo: {problem}\n"));
        }
    } else {
        lines = format!("majordomo: {error:#}\n");
    }
    io::stderr().lock().write_all(lines.as_bytes()).ok();
}

/// Writes what works and is most likely not meant to stderr.
pub(crate) fn warning(text: &str) {
    writeln!(io::stderr().lock(), "majordomo: warning: {text}").ok();
}

/// Writes a line of another process' log to stderr.
pub(crate) fn log_line(prefix: &str, line: &[u8]) {
    io::stderr().lock().write_all(&[prefix.as_bytes(), line, b"\n"].concat()).ok();
}

/// A line on a terminal that replaces itself; nothing if stderr is no terminal.
#[derive(Debug)]
pub(crate) struct ProgressLine {
    is_terminal: bool,
}

impl ProgressLine {
    /// A line that is not there yet.
    pub(crate) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal() }
    }

    /// Shows this instead.
    pub(crate) fn show(&self, text: &str) {
        if self.is_terminal {
            write!(io::stderr().lock(), "\r\x1b[K{text}").ok();
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.show("");
    }
}

/// Frames in JSON: as text if every frame is UTF-8, else all in base64.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct JsonFrames {
    /// The frames.
    pub(crate) frames: Vec<String>,
    /// `utf8` or `base64`.
    pub(crate) encoding: &'static str,
}

impl From<Vec<Vec<u8>>> for JsonFrames {
    fn from(frames: Vec<Vec<u8>>) -> Self {
        let texts = frames.iter().map(|frame| str::from_utf8(frame).map(str::to_owned));
        match texts.collect() {
            Ok(frames) => Self { frames, encoding: "utf8" },
            Err(_) => {
                let frames = frames.iter().map(|frame| BASE64_STANDARD.encode(frame)).collect();
                Self { frames, encoding: "base64" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_that_is_no_text_makes_all_base64() {
        let text = JsonFrames::from(vec![b"a".to_vec(), b"".to_vec()]);
        assert_eq!(text, JsonFrames { frames: vec!["a".into(), "".into()], encoding: "utf8" });

        let bytes = JsonFrames::from(vec![b"a".to_vec(), vec![0xff]]);
        let base64 = vec!["YQ==".into(), "/w==".into()];
        assert_eq!(bytes, JsonFrames { frames: base64, encoding: "base64" });
    }
}
