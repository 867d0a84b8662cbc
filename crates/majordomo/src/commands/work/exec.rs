//! One run of a shell command: the request on its stdin, the reply on its stdout.

use std::{
    io::{self, Read, Write as _},
    process::{self, Child, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread::{Builder, Scope},
    time::Duration,
};

use rustix::process::{Signal, kill_process_group};
use thiserror::Error;

use super::guard::Guard;
use crate::children;

/// The longest reply. A broker takes messages of up to its `broker.max_message_bytes`, which is 16 MiB by
/// default and counts the frames around the body, too; it drops longer ones.
const STDOUT_BYTES_MAX: u64 = (16 << 20) - ENVELOPE_BYTES_MAX;

/// The frames around a body are shorter: a few words of the protocol and the token of the request.
const ENVELOPE_BYTES_MAX: u64 = 1 << 10;

/// What is kept of the stderr of a command, the last part of it.
const STDERR_TAIL_BYTES_MAX: usize = 4 << 10;

/// A shell command that answers requests.
#[derive(Debug)]
pub(super) struct Command {
    /// What `sh -c` runs.
    pub(super) line: String,
    /// How long it may take.
    pub(super) timeout: Option<Duration>,
    /// What ends it if this process is killed.
    pub(super) guard: Option<Guard>,
}

/// A run without a reply.
#[derive(Debug)]
pub(super) struct Failed {
    /// Why.
    pub(super) reason: Reason,
    /// The end of what the command wrote to its stderr.
    pub(super) stderr_tail: Vec<u8>,
}

/// Why a run has no reply.
#[derive(Debug, Error)]
pub(super) enum Reason {
    /// The shell or its pipes could not be made.
    #[error("it could not be run: {0}")]
    NotRun(#[from] io::Error),
    /// It ended with something other than success.
    #[error("{0}")]
    Unsuccessful(ExitStatus),
    /// It was killed.
    #[error("it was killed after {0:?}")]
    TimedOut(Duration),
    /// It wrote too much.
    #[error(
        "the reply is too long: the command wrote more than {STDOUT_BYTES_MAX} bytes to stdout"
    )]
    TooLong,
}

/// What the threads of one run found out.
struct Outcome {
    stdout: Vec<u8>,
    stderr_tail: Vec<u8>,
    is_timed_out: bool,
}

impl Command {
    /// Runs the command once.
    pub(super) fn run(&self, frames: &[Vec<u8>]) -> Result<Vec<u8>, Failed> {
        let not_run = |error: io::Error| Failed { reason: error.into(), stderr_tail: Vec::new() };
        let mut child = children::start(&mut self.shell()).map_err(not_run)?;
        let group = children::pid(&child).map_err(not_run)?;
        if let Some(guard) = &self.guard {
            guard.watch(group);
        }
        let (status, outcome) = std::thread::scope(|scope| {
            let outcome = attend(scope, &mut child, frames, self.timeout);
            // The threads end when nothing holds the pipes any more. What the command left running
            // in the background belongs to the request, which is over.
            let status = children::end(&mut child);
            (status, outcome.and_then(Threads::join))
        });
        if let Some(guard) = &self.guard {
            guard.forget(group);
        }
        let status = status.map_err(not_run)?;
        let Outcome { stdout, stderr_tail, is_timed_out } = outcome.map_err(not_run)?;
        let is_too_long = u64::try_from(stdout.len()).is_ok_and(|bytes| bytes > STDOUT_BYTES_MAX);
        let reason = match self.timeout {
            Some(timeout) if is_timed_out => Reason::TimedOut(timeout),
            _ if is_too_long => Reason::TooLong,
            _ if status.success() => return Ok(stdout),
            _ => Reason::Unsuccessful(status),
        };
        Err(Failed { reason, stderr_tail })
    }

    fn shell(&self) -> process::Command {
        let mut shell = process::Command::new("sh");
        shell
            .arg("-c")
            .arg(&self.line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(guard) = &self.guard {
            guard.mark(&mut shell);
        }
        shell
    }
}

type Handle<'scope, T> = std::thread::ScopedJoinHandle<'scope, T>;

struct Threads<'scope> {
    stdout: Handle<'scope, Vec<u8>>,
    stderr: Handle<'scope, Vec<u8>>,
    is_timed_out: bool,
}

/// Feeds the command and waits until the shell has ended, without reaping it: as long as it is
/// there, its group's id cannot be that of another.
fn attend<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    child: &mut Child,
    frames: &'env [Vec<u8>],
    timeout: Option<Duration>,
) -> io::Result<Threads<'scope>> {
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let thread = |name: &str| Builder::new().name(name.to_owned());
    thread("exec-stdin").spawn_scoped(scope, move || {
        // A command need not read its input: a broken pipe is no failure.
        frames.iter().try_for_each(|frame| stdin.write_all(frame)).ok();
    })?;
    let stdout = thread("exec-stdout").spawn_scoped(scope, move || read_start(stdout))?;
    let stderr = thread("exec-stderr").spawn_scoped(scope, move || read_tail(stderr))?;
    let is_timed_out = wait_for_end(scope, child, timeout)?;
    Ok(Threads { stdout, stderr, is_timed_out })
}

/// Waits; whether the command had to be killed because it took too long.
fn wait_for_end<'scope>(
    scope: &'scope Scope<'scope, '_>,
    child: &Child,
    timeout: Option<Duration>,
) -> io::Result<bool> {
    let pid = children::pid(child)?;
    let Some(timeout) = timeout else { return children::wait_until_ended(pid).map(|()| false) };
    let (ended, until_ended) = mpsc::channel::<()>();
    let watchdog =
        Builder::new().name("exec-timeout".to_owned()).spawn_scoped(scope, move || {
            let is_late = until_ended.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout);
            is_late && kill_process_group(pid, Signal::KILL).is_ok()
        })?;
    let waited = children::wait_until_ended(pid);
    drop(ended);
    let is_timed_out = watchdog.join().map_err(|_panic| io::ErrorKind::Other)?;
    waited.map(|()| is_timed_out)
}

impl Threads<'_> {
    fn join(self) -> io::Result<Outcome> {
        let panicked = |_panic| io::Error::from(io::ErrorKind::Other);
        Ok(Outcome {
            stdout: self.stdout.join().map_err(panicked)?,
            stderr_tail: self.stderr.join().map_err(panicked)?,
            is_timed_out: self.is_timed_out,
        })
    }
}

/// Everything up to one byte beyond the limit. Then the pipe closes, which ends most commands.
fn read_start(pipe: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // An error ends the reply as the end of the pipe does; the exit status says the rest.
    pipe.take(STDOUT_BYTES_MAX + 1).read_to_end(&mut bytes).ok();
    bytes
}

/// The last bytes of everything.
fn read_tail(mut pipe: impl Read) -> Vec<u8> {
    let mut tail = Vec::new();
    let mut chunk = [0; STDERR_TAIL_BYTES_MAX];
    while let Ok(count @ 1..) = pipe.read(&mut chunk) {
        tail.extend(chunk.iter().take(count));
        tail.drain(..tail.len().saturating_sub(STDERR_TAIL_BYTES_MAX));
    }
    tail
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn run(line: &str, frames: &[&[u8]]) -> Result<Vec<u8>, Failed> {
        let frames: Vec<Vec<u8>> = frames.iter().map(|frame| frame.to_vec()).collect();
        Command { line: line.into(), timeout: None, guard: None }.run(&frames)
    }

    #[test]
    fn frames_are_joined_on_stdin_and_stdout_is_the_reply() {
        assert_eq!(run("tr a-z A-Z", &[b"ab", b"", b"c"]).unwrap(), b"ABC");
        assert_eq!(run("echo hi", &[&vec![b'x'; 1 << 20]]).unwrap(), b"hi\n");
    }

    #[test]
    fn failure_carries_the_end_of_stderr() {
        let failed = run("seq 1 5000 >&2; echo last words >&2; exit 7", &[]).unwrap_err();

        assert_eq!(failed.reason.to_string(), "exit status: 7");
        assert_eq!(failed.stderr_tail.len(), STDERR_TAIL_BYTES_MAX);
        assert!(failed.stderr_tail.ends_with(b"5000\nlast words\n"));
    }

    #[test]
    fn reply_that_is_too_long_is_a_failure() {
        let failed = run("yes", &[]).unwrap_err();

        assert!(matches!(failed.reason, Reason::TooLong), "{failed:?}");
        assert!(failed.reason.to_string().contains("too long"), "{}", failed.reason);
    }

    #[test]
    fn longest_reply_leaves_room_for_the_frames_around_it() {
        let bytes = usize::try_from(STDOUT_BYTES_MAX).unwrap();
        let exactly = run(&format!("head -c {bytes} /dev/zero"), &[]).unwrap();
        assert_eq!(exactly.len(), bytes);

        let failed = run(&format!("head -c {} /dev/zero", bytes + 1), &[]).unwrap_err();
        assert!(matches!(failed.reason, Reason::TooLong), "{failed:?}");
    }

    #[test]
    fn command_that_takes_too_long_is_killed_with_its_children() {
        let timeout = Some(Duration::from_millis(50));
        let began_at = Instant::now();

        let failed = Command { line: "sleep 60 | sleep 60".into(), timeout, guard: None }
            .run(&[])
            .unwrap_err();

        assert!(matches!(failed.reason, Reason::TimedOut(_)), "{failed:?}");
        assert!(began_at.elapsed() < Duration::from_secs(30), "{:?}", began_at.elapsed());
    }

    #[test]
    fn background_processes_do_not_hold_the_reply_back() {
        let began_at = Instant::now();

        assert_eq!(run("sleep 60 & echo done", &[]).unwrap(), b"done\n");

        assert!(began_at.elapsed() < Duration::from_secs(30), "{:?}", began_at.elapsed());
    }
}
