//! Honest clients of another language that are killed while they pipeline.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use cluster_tests::look_for;
use rustix::process::{Pid, setpriority_process};

/// Ordinary intervals between ZMTP heartbeats, in milliseconds.
const HEARTBEATS: std::ops::Range<u32> = 5..200;
/// How often is looked whether all is over while a client starts.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How long a client lives after its first reply, in milliseconds.
const LIFETIME: std::ops::Range<u64> = 1..300;

/// Starts clients of pyzmq at these ports, where mmi.service has this answer, one after the other, and
/// kills each; how many were killed after they had a reply.
pub(super) fn kill_clients(
    mut random: fastrand::Rng,
    (ports, answer): (&[String], &str),
    is_over: &AtomicBool,
) -> usize {
    let mut killed = 0;
    while !is_over.load(Ordering::Relaxed) {
        let (port, heartbeat) = (random.choice(ports).unwrap(), random.u32(HEARTBEATS));
        let mut client = Killed(start(port, heartbeat, answer));
        if !client.has_reply(is_over) {
            break;
        }
        let lifetime = Duration::from_millis(random.u64(LIFETIME));
        let ended = look_for(lifetime, || client.0.try_wait().unwrap());
        assert!(ended.is_none(), "a client of pyzmq ended: {ended:?}");
        killed += 1;
    }
    killed
}

fn start(port: &str, heartbeat: u32, answer: &str) -> Child {
    let python = env::var_os("MAJORDOMO_PYTHON").unwrap_or_else(|| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/pipelining_client.py");
    let mut command = Command::new(python);
    command.arg(script).arg(format!("tcp://{port}")).arg(heartbeat.to_string()).arg(answer);
    let client = command.stdout(Stdio::piped()).spawn();
    let client = client.expect("Python is there; cargo xtask provides one with pyzmq");
    // They get what the others leave of the machine, as all that is hostile does.
    let pid = Pid::from_child(&client);
    setpriority_process(Some(pid), 19).expect("a child of this process");
    client
}

/// A client that is killed at the latest when it goes out of scope.
struct Killed(Child);

impl Killed {
    /// Waits for the first reply; false if all is over before.
    fn has_reply(&mut self, is_over: &AtomicBool) -> bool {
        let mut lines = BufReader::new(self.0.stdout.take().unwrap());
        let (sender, first) = mpsc::channel();
        // It ends with the client.
        thread::spawn(move || {
            let mut line = String::new();
            let is_read = lines.read_line(&mut line).is_ok();
            // The test may be over.
            match sender.send((is_read, line)) {
                Ok(()) | Err(_) => {}
            }
        });
        while !is_over.load(Ordering::Relaxed) {
            if let Ok((is_read, line)) = first.recv_timeout(LOOK_AGAIN_AFTER) {
                assert!(is_read && line == "replied\n", "a client of pyzmq said {line:?}");
                return true;
            }
        }
        false
    }

    fn kill(&mut self) {
        // It may have ended.
        match self.0.kill() {
            Ok(()) | Err(_) => {}
        }
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
        match self.0.wait() {
            Ok(_) | Err(_) => {}
        }
    }
}
