//! Starts a broker as a process of its own and finds out where it listens.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;
use zmq::{Context, SocketType};

/// How long a broker may take until it says where it listens, and to answer a first request.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// What a broker prints in front of its endpoint.
const LISTENING: &str = "listening on tcp://";
/// What a server of NATS prints there.
const LISTENING_NATS: &str = "Listening for client connections on ";

/// In an argument: replaced by an endpoint with a free port, for brokers that print none.
pub const ENDPOINT_ARGUMENT: &str = "{endpoint}";

/// How many lines of a broker's output are kept for an error message.
const OUTPUT_LINES_MAX: usize = 20;

/// How to start a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; in each, [`ENDPOINT_ARGUMENT`] is replaced.
    pub arguments: Vec<String>,
    /// Variables of its environment, besides those of this process.
    pub environment: Vec<(String, String)>,
}

/// Why a broker does not run.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The program cannot be started.
    #[error("{program} cannot be started: {error}", program = program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The program ended.
    #[error("{program} ended before it listened ({status}); it said:\n{output}", program = program.display())]
    Ended {
        /// The program.
        program: PathBuf,
        /// How.
        status: ExitStatus,
        /// Its last lines.
        output: String,
    },
    /// The program never said where it listens.
    #[error(
        "{program} did not say within {START_DEADLINE:?} where it listens, as `{LISTENING}...` or \
         `{LISTENING_NATS}...`; it said:\n{output}",
        program = program.display()
    )]
    Silent {
        /// The program.
        program: PathBuf,
        /// Its last lines.
        output: String,
    },
    /// The broker did not answer `mmi.service`.
    #[error("the broker at {endpoint} did not answer mmi.service: {error}")]
    NoAnswer {
        /// Where.
        endpoint: String,
        /// Why.
        error: zmq::Error,
    },
}

/// A broker's process, which ends with this value.
#[derive(Debug)]
pub struct Launched {
    child: Child,
    endpoint: String,
    started_at: Instant,
}

impl Launch {
    /// A program with its arguments, in the environment of this process.
    #[must_use]
    pub fn new(program: PathBuf, arguments: Vec<String>) -> Self {
        Self { program, arguments, environment: Vec::new() }
    }

    /// Starts the broker and waits until it listens.
    ///
    /// # Errors
    /// It does not, in time.
    pub fn start(&self) -> Result<Launched, LaunchError> {
        let spawn_error = |error| LaunchError::Spawn { program: self.program.clone(), error };
        let given = self.wants_endpoint().then(free_endpoint).transpose().map_err(spawn_error)?;
        let arguments = self.arguments.iter().map(|argument| match &given {
            Some(endpoint) => argument.replace(ENDPOINT_ARGUMENT, endpoint),
            None => argument.clone(),
        });
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());

        let started_at = Instant::now();
        let child = command.spawn().map_err(spawn_error)?;
        // From here on an error ends the process.
        let mut launched = Launched { child, endpoint: String::new(), started_at };
        let (sender, lines) = mpsc::channel();
        read_lines(launched.child.stdout.take(), sender.clone());
        read_lines(launched.child.stderr.take(), sender);
        launched.endpoint = match given {
            // ZeroMQ connects as soon as somebody listens.
            Some(endpoint) => endpoint,
            None => self.wait_for_endpoint(&mut launched.child, &lines)?,
        };
        Ok(launched)
    }

    fn wants_endpoint(&self) -> bool {
        self.arguments.iter().any(|argument| argument.contains(ENDPOINT_ARGUMENT))
    }

    fn wait_for_endpoint(
        &self,
        child: &mut Child,
        lines: &mpsc::Receiver<String>,
    ) -> Result<String, LaunchError> {
        let deadline = Instant::now() + START_DEADLINE;
        let mut output = VecDeque::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(endpoint) = endpoint_in(&line) {
                        return Ok(endpoint);
                    }
                    output.push_back(line);
                    if output.len() > OUTPUT_LINES_MAX {
                        output.pop_front();
                    }
                }
                Err(reason) => {
                    let program = self.program.clone();
                    let output = Vec::from(output).join("\n");
                    // Output ends when the process does.
                    let status = match reason {
                        RecvTimeoutError::Disconnected => child.wait().ok(),
                        RecvTimeoutError::Timeout => None,
                    };
                    return Err(match status {
                        Some(status) => LaunchError::Ended { program, status, output },
                        None => LaunchError::Silent { program, output },
                    });
                }
            }
        }
    }
}

impl Launched {
    /// Where the broker listens.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The id of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks `mmi.service` and returns the time from the start of the process to the answer.
    ///
    /// # Errors
    /// There is none.
    pub fn first_answer(&self) -> Result<Duration, LaunchError> {
        let ask = || {
            let socket = Context::new().socket(SocketType::DEALER)?;
            socket.set_linger(0)?;
            let deadline_ms = i32::try_from(START_DEADLINE.as_millis()).unwrap_or(i32::MAX);
            socket.set_rcvtimeo(deadline_ms)?;
            // A broker that is not there yet is tried again at once, not after 100 ms.
            socket.set_reconnect_ivl(1)?;
            socket.connect(&self.endpoint)?;
            let frames = [b"".as_slice(), b"MDPC01", b"mmi.service", b"echo"];
            socket.send_multipart(frames, 0)?;
            socket.recv_multipart(0).map(|_reply| self.started_at.elapsed())
        };
        ask().map_err(|error| LaunchError::NoAnswer { endpoint: self.endpoint.clone(), error })
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The endpoint in a line that says where a broker listens, in plain text or in JSON.
fn endpoint_in(line: &str) -> Option<String> {
    let after = |words| line.split_once(words).map(|(_, rest)| rest);
    let rest = after(LISTENING).or_else(|| after(LISTENING_NATS))?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || ".:-_[]*".contains(c);
    let address: String = rest.chars().take_while(|c| is_part(*c)).collect();
    Some(format!("tcp://{address}"))
}

/// A port that was free a moment ago.
fn free_endpoint() -> io::Result<String> {
    let [address] = free_addresses()?;
    Ok(format!("tcp://{address}"))
}

/// Addresses on loopback that were free a moment ago, all different.
///
/// # Errors
/// There is no free port.
pub fn free_addresses<const N: usize>() -> io::Result<[SocketAddr; N]> {
    let mut addresses = [SocketAddr::from(([0, 0, 0, 0], 0)); N];
    // All are held until the last one is known, so that none is given out twice.
    let mut listeners = Vec::with_capacity(N);
    for address in &mut addresses {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(addresses)
}

/// Reads a pipe to its end, so that the process never waits for us.
fn read_lines(pipe: Option<impl Read + Send + 'static>, sender: Sender<String>) {
    let Some(pipe) = pipe else { return };
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Nobody listens any more once the endpoint is known.
            drop(sender.send(line));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Launch {
        let arguments = vec![String::from("-c"), script.to_owned()];
        Launch::new(PathBuf::from("sh"), arguments)
    }

    #[test]
    fn endpoint_is_found_in_text_and_json() {
        for line in [
            "listening on tcp://127.0.0.1:5555",
            "INFO majordomo: listening on tcp://127.0.0.1:5555 node=a",
            r#"{"message":"listening on tcp://127.0.0.1:5555"}"#,
            "\u{1b}[32mlistening on tcp://127.0.0.1:5555\u{1b}[0m",
            "[42] 2026/01/01 10:00:00 [INF] Listening for client connections on 127.0.0.1:5555",
        ] {
            assert_eq!(endpoint_in(line).as_deref(), Some("tcp://127.0.0.1:5555"), "{line}");
        }
        assert_eq!(endpoint_in("listening"), None);
    }

    #[test]
    fn process_is_awaited_until_it_listens_and_ends_with_its_handle() {
        let launched =
            shell("echo hello; echo 'listening on tcp://127.0.0.1:1' >&2; exec sleep 60")
                .start()
                .unwrap();
        let process = PathBuf::from(format!("/proc/{}", launched.pid()));

        assert_eq!(launched.endpoint(), "tcp://127.0.0.1:1");
        assert!(process.exists());
        drop(launched);
        assert!(!process.exists());
    }

    #[test]
    fn variables_are_added_to_the_environment() {
        let mut launch = shell("echo listening on $WHERE; exec sleep 60");
        launch.environment.push(("WHERE".into(), "tcp://127.0.0.1:7".into()));

        assert_eq!(launch.start().unwrap().endpoint(), "tcp://127.0.0.1:7");
    }

    #[test]
    fn process_that_ends_is_an_error_with_its_output() {
        let error = shell("echo no such option >&2; exit 3").start().unwrap_err().to_string();

        assert!(error.contains("no such option") && error.contains('3'), "{error}");
    }

    #[test]
    fn broker_that_prints_nothing_is_given_an_endpoint() {
        let arguments = [String::from("60"), format!("--at={ENDPOINT_ARGUMENT}")];
        let script = vec![String::from("-c"), String::from("exec sleep $0")];
        let script = Launch::new(PathBuf::from("sh"), [script, arguments.to_vec()].concat());

        let launched = script.start().unwrap();

        assert!(launched.endpoint().starts_with("tcp://127.0.0.1:"));
    }
}
