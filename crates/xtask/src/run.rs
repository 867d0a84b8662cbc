//! Starts other programs and says what they were when they fail.

use std::{
    error::Error,
    fmt,
    io::{self, BufRead as _, BufReader, Read, Write},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use crate::{descendants, say};

/// Why a task did not succeed, as a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Failure {}

/// Runs to the end, with this program's standard streams.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    succeeded(command, status)
}

/// Runs to the end and returns what was written to standard output; standard error is shown.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| not_started(command, &error))?;
    succeeded(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether the program is there and ends well; what it says is not shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs to the end, shows both streams as they come and hands every line to `on_line`. What has not ended
/// within the limit is killed, with all that it started.
pub(crate) fn watched(
    command: &mut Command,
    limit: Duration,
    mut on_line: impl FnMut(&str),
) -> Result<(), Failure> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(command, &error))?;
    let (child_id, stdout, stderr) = (child.id(), child.stdout.take(), child.stderr.take());

    let mut lines = Vec::new();
    let ended_in_time = thread::scope(|scope| {
        let (ended, has_ended) = channel::<()>();
        let watchdog = scope.spawn(move || {
            let is_late = has_ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if is_late {
                descendants::kill(child_id);
            }
            !is_late
        });
        let out = scope.spawn(|| stdout.map(|from| copy(from, io::stdout())));
        let err = scope.spawn(|| stderr.map(|from| copy(from, io::stderr())));
        for stream in [out, err] {
            lines.extend(stream.join().ok().flatten().unwrap_or_default());
        }
        drop(ended);
        watchdog.join().unwrap_or(true)
    });
    lines.iter().for_each(|line| on_line(line));

    let status = child.wait().map_err(|error| not_started(command, &error))?;
    if !ended_in_time {
        let limit = say::duration(limit);
        return Err(Failure(format!("`{}` did not end within {limit}", shown(command))));
    }
    succeeded(command, status)
}

/// Copies line by line and keeps the lines; bytes that are no UTF-8 are shown as they are.
fn copy(from: impl Read, mut to: impl Write) -> Vec<String> {
    let mut from = BufReader::new(from);
    let (mut lines, mut bytes) = (Vec::new(), Vec::new());
    while from.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        drop(to.write_all(&bytes).and_then(|()| to.flush()));
        lines.push(String::from_utf8_lossy(&bytes).trim_end().to_owned());
        bytes.clear();
    }
    lines
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or(&program).to_owned();
    command.get_args().fold(program, |line, argument| {
        let argument = argument.to_string_lossy();
        if argument.contains([' ', ';', '!', '*']) {
            format!("{line} '{argument}'")
        } else {
            format!("{line} {argument}")
        }
    })
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    Err(Failure(format!("`{}` ended with {status}", shown(command))))
}

fn not_started(command: &Command, error: &io::Error) -> Failure {
    Failure(format!("`{}` could not be run: {error}", shown(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn watched_command_hands_over_both_streams() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);

        let result = watched(&mut command, LIMIT, |line| lines.push(line.to_owned()));

        assert_eq!(lines, ["out", "err"]);
        let failure = result.unwrap_err().to_string();
        assert!(failure.contains("exit status: 3"), "{failure}");
    }

    #[test]
    fn command_that_does_not_end_is_killed_with_all_that_it_started() {
        let mut command = Command::new("sh");
        // Both hold the streams open.
        command.args(["-c", "sh -c 'sleep 1000; true' & sleep 1000; true"]);

        let failure = watched(&mut command, Duration::from_millis(200), |_| ()).unwrap_err();

        assert!(failure.to_string().contains("did not end within 200 ms"), "{failure}");
    }

    #[test]
    fn missing_program_is_named() {
        let failure = run(&mut Command::new("no-such-program")).unwrap_err().to_string();
        assert!(failure.starts_with("`no-such-program` could not be run"), "{failure}");
    }
}
