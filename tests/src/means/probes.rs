//! Tries each means: brings it about, looks for its effect, takes it back.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::Means;
use crate::{
    Disturbance, FailingCalls, Lost, LostWrites, Network, SmallDisk, Trouble, WallClock,
    process::Process,
};

/// How long a packet may take, and one that must not come is waited for.
const ARRIVES_WITHIN: Duration = Duration::from_millis(500);
const ABSENT_FOR: Duration = Duration::from_millis(100);

/// How many packets are sent to see that some are lost, and how many of a hundred.
const PACKETS: usize = 500;
const LOSS_PERCENT: u8 = 30;
const LOST_PERCENT: std::ops::RangeInclusive<usize> = 20..=40;

/// How much later a packet must arrive.
const DELAY: Duration = Duration::from_millis(40);

/// Two places of a network, each with a socket.
struct Pair {
    network: Network,
    sockets: [UdpSocket; 2],
}

type Probe = Result<(), String>;

pub(super) fn probe(means: Means) -> Probe {
    match means {
        Means::Namespaces => Pair::new()?.expect(true, true),
        Means::Cut => cut(),
        Means::Loss => loss(),
        Means::Delay => delay(),
        Means::Signals => signals(),
        Means::SmallDisk => small_disk(),
        Means::FailingCalls => failing_calls(),
        Means::LostWrites => lost_writes(),
        Means::WallClock => wall_clock(),
    }
}

impl Pair {
    fn new() -> Result<Self, String> {
        let network = Network::new(2)?;
        let sockets = [network.socket(0)?, network.socket(1)?];
        Ok(Self { network, sockets })
    }

    fn disturb(&self, trouble: Trouble) -> Probe {
        self.network.disturb(&[Disturbance { from: 0, to: 1, trouble }])
    }

    /// Sends so many packets from one to the other; how many arrive, and how long the first took.
    fn send(&self, from: usize, count: usize) -> Result<(usize, Duration), String> {
        let text = |error: std::io::Error| error.to_string();
        let [first, second] = &self.sockets;
        let (sender, receiver) = if from == 0 { (first, second) } else { (second, first) };
        let to: SocketAddr = receiver.local_addr().map_err(text)?;
        let mut arrived = 0;
        let mut first_took = Duration::ZERO;
        let sent_at = Instant::now();
        // Few at a time: a socket's buffer is small.
        for _ in 0..count {
            sender.send_to(b"probe", to).map_err(text)?;
            let patience = if arrived == 0 { ARRIVES_WITHIN } else { Duration::from_millis(2) };
            receiver.set_read_timeout(Some(patience)).map_err(text)?;
            if receiver.recv(&mut [0; 16]).is_ok() {
                arrived += 1;
                if arrived == 1 {
                    first_took = sent_at.elapsed();
                }
            }
        }
        Ok((arrived, first_took))
    }

    /// Packets must arrive, or not, at the second and at the first socket.
    fn expect(&self, there: bool, back: bool) -> Probe {
        for (from, arrives) in [(0, there), (1, back)] {
            // The first packets wait until the addresses are known.
            let arrived = self.send(from, if arrives { 3 } else { 1 })?.0 > 0;
            if arrived != arrives {
                return Err(format!("from {from}: a packet arrived: {arrived}, not {arrives}"));
            }
        }
        Ok(())
    }
}

fn cut() -> Probe {
    let pair = Pair::new()?;
    pair.expect(true, true)?;
    pair.disturb(Trouble::Cut)?;
    pair.expect(false, true)?;
    pair.network.heal()?;
    pair.expect(true, true)
}

fn loss() -> Probe {
    let pair = Pair::new()?;
    pair.expect(true, true)?;
    pair.disturb(Trouble::Loss(LOSS_PERCENT))?;
    let (arrived, _) = pair.send(0, PACKETS)?;
    let lost_percent = (PACKETS - arrived) * 100 / PACKETS;
    if !LOST_PERCENT.contains(&lost_percent) {
        return Err(format!("{lost_percent} % were lost, not about {LOSS_PERCENT} %"));
    }
    pair.network.heal()?;
    pair.expect(true, true)
}

fn delay() -> Probe {
    let pair = Pair::new()?;
    pair.expect(true, true)?;
    pair.disturb(Trouble::Delay(DELAY, Duration::ZERO))?;
    let (arrived, took) = pair.send(0, 1)?;
    if arrived == 0 || took < DELAY {
        return Err(format!("{arrived} packets arrived, after {took:?}, not {DELAY:?}"));
    }
    let (arrived, back) = pair.send(1, 1)?;
    if arrived == 0 || back >= DELAY {
        return Err(format!("{arrived} packets came back, after {back:?}"));
    }
    pair.network.heal()?;
    pair.expect(true, true)
}

fn signals() -> Probe {
    let mut writer = Command::new("sh");
    writer.args(["-c", "while sleep 0.005; do echo goes on >&2; done"]);
    let mut process = Process::spawn("probe", &mut writer);
    let grows = |from: usize| {
        crate::look_for(ABSENT_FOR, || (process.log().len() > from).then_some(())).is_some()
    };
    let runs = grows(process.log().len());
    process.signal(Signal::STOP);
    // What it wrote before it stopped is read.
    let _read = grows(process.log().len());
    let is_stopped = !grows(process.log().len());
    process.signal(Signal::CONT);
    let goes_on = grows(process.log().len());
    process.kill();
    match (runs, is_stopped, goes_on) {
        (true, true, true) => Ok(()),
        outcome => Err(format!("runs, stops, goes on: {outcome:?}")),
    }
}

fn small_disk() -> Probe {
    let directory = temporary()?;
    let path = directory.path().join("disk");
    let disk = SmallDisk::try_mount(&path, 1 << 20)?;
    disk.fill();
    let outcome = fs::write(path.join("more"), [0; 8_192]);
    drop(disk);
    match outcome {
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Ok(()),
        other => Err(format!("a write to a full disk: {other:?}")),
    }
}

fn failing_calls() -> Probe {
    let directory = temporary()?;
    let mut victim = Command::new("sh");
    victim.args(["-c", "while mkdir made && rmdir made; do sleep 0.01; done; echo ended >&2"]);
    let mut victim = Process::spawn("probe", victim.current_dir(directory.path()));
    if !victim.is_alive() {
        return Err("the victim ended by itself".to_owned());
    }
    let failing = FailingCalls::try_inject(victim.pid(), "mkdir,mkdirat", "EIO")?;
    let line = victim.wait_for_log(|line| line.contains("Input/output error"));
    drop(failing);
    if line.contains("made") { Ok(()) } else { Err(line) }
}

fn lost_writes() -> Probe {
    let directory = temporary()?;
    let files = directory.path().join("files");
    let writes = LostWrites::new(&files, &directory.path().join("scratch"))?;
    let mut writer = Command::new("sh");
    writer
        .args(["-c", "printf kept | dd of=file conv=fsync; printf lost | dd of=file conv=notrunc"]);
    let output = writer.current_dir(&files).envs(writes.environment()).output();
    output.map_err(|error| error.to_string())?;
    let before = read(&files.join("file"))?;
    let lost = writes.lose(Lost::All);
    let after = read(&files.join("file"))?;
    match (before.as_str(), lost, after.as_str()) {
        ("lost", 1, "kept") => Ok(()),
        other => Err(format!("before, lost, after: {other:?}")),
    }
}

fn wall_clock() -> Probe {
    let directory = temporary()?;
    let clock = WallClock::try_new(directory.path().join("clock"))?;
    let shown = || -> Result<(i64, f64), String> {
        let mut python = Command::new("sh");
        python.args(["-c", "date +%s; cat /proc/uptime"]).envs(clock.environment());
        let output = python.output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = text.split_whitespace();
        let wall = words.next().and_then(|word| word.parse().ok());
        let uptime = words.next().and_then(|word| word.parse().ok());
        wall.zip(uptime).ok_or_else(|| format!("no times: {text}"))
    };
    let before = shown()?;
    clock.set(3_600);
    let after = shown()?;
    if after.0 < before.0 + 3_600 || after.1 - before.1 > 60.0 {
        return Err(format!("wall clock and uptime were {before:?} and then {after:?}"));
    }
    Ok(())
}

fn temporary() -> Result<tempfile::TempDir, String> {
    tempfile::tempdir().map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::means;

    /// Each probe has brought about its own; this says so by name.
    #[test]
    fn everything_that_is_not_left_out_is_there() {
        let present = means();

        println!("{present:?}");
        assert_eq!(
            present.len() + Means::ALL.iter().filter(|means| means.is_left_out()).count(),
            Means::ALL.len()
        );
    }
}
