//! What a process costs, from `/proc`: processor time by thread (`schedstat`, in nanoseconds),
//! wake-ups, context switches, memory.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The processor time of one thread so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadTime {
    /// The thread's name, at most 15 bytes.
    pub name: String,
    /// Time on a processor in nanoseconds.
    pub busy_ns: u64,
    /// How often it was put on a processor.
    pub wakeups: u64,
    /// How often it gave a processor up because it had to wait, and how often it lost one.
    pub switches: u64,
}

/// The processor time of a process so far, by thread id.
///
/// The time of threads that have ended is gone with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessTime {
    thread_by_id: BTreeMap<u32, ThreadTime>,
}

impl ProcessTime {
    /// Reads the times of all threads of a process.
    ///
    /// # Errors
    /// There is no such process, or the system does not let us look.
    pub fn read(pid: u32) -> io::Result<Self> {
        let mut thread_by_id = BTreeMap::new();
        for task in fs::read_dir(directory(pid).join("task"))? {
            let task = task?;
            let id = task.file_name().to_str().and_then(|name| name.parse().ok());
            // A thread can end between the listing and the reading.
            if let (Some(id), Ok(time)) = (id, read_thread(&task.path())) {
                thread_by_id.insert(id, time);
            }
        }
        Ok(Self { thread_by_id })
    }

    /// What each thread has spent since `earlier`, threads of one name together.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Vec<ThreadTime> {
        let mut spent_by_name: BTreeMap<&str, ThreadTime> = BTreeMap::new();
        let none = ThreadTime::default();
        for (id, now) in &self.thread_by_id {
            let before = earlier.thread_by_id.get(id).unwrap_or(&none);
            let spent = spent_by_name.entry(&now.name).or_default();
            spent.busy_ns += now.busy_ns.saturating_sub(before.busy_ns);
            spent.wakeups += now.wakeups.saturating_sub(before.wakeups);
            spent.switches += now.switches.saturating_sub(before.switches);
        }
        let named = |(name, time): (&str, ThreadTime)| ThreadTime { name: name.to_owned(), ..time };
        spent_by_name.into_iter().map(named).collect()
    }
}

/// The memory of a process that is in RAM, in bytes.
///
/// # Errors
/// There is no such process, or the system does not let us look.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(directory(pid).join("status"))?;
    parse_resident_bytes(&status).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn directory(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

fn read_thread(task: &Path) -> io::Result<ThreadTime> {
    let name = fs::read_to_string(task.join("comm"))?;
    let times = fs::read_to_string(task.join("schedstat"))?;
    let status = fs::read_to_string(task.join("status"))?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let (busy_ns, wakeups) = parse_schedstat(&times).ok_or_else(invalid)?;
    let switches = parse_switches(&status).ok_or_else(invalid)?;
    Ok(ThreadTime { name: name.trim_end().to_owned(), busy_ns, wakeups, switches })
}

/// Context switches of both kinds.
fn parse_switches(status: &str) -> Option<u64> {
    let count = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some(count("voluntary_ctxt_switches:")? + count("nonvoluntary_ctxt_switches:")?)
}

/// Time on a processor, time waiting for one, and times put on one; the second is not ours.
fn parse_schedstat(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let busy_ns = numbers.next()?.ok()?;
    let wakeups = numbers.nth(1)?.ok()?;
    Some((busy_ns, wakeups))
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn schedstat_is_time_then_waiting_then_wakeups() {
        assert_eq!(parse_schedstat("1007448670 24460005 109\n"), Some((1_007_448_670, 109)));
        for bad in ["", "1", "1 2", "x 2 3"] {
            assert_eq!(parse_schedstat(bad), None, "{bad}");
        }
    }

    #[test]
    fn context_switches_of_both_kinds_count() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(parse_switches(status), Some(157));
        assert_eq!(parse_switches("voluntary_ctxt_switches:\t150\n"), None);
    }

    #[test]
    fn resident_memory_is_printed_in_kibibytes() {
        let status = "Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    1234 kB\nThreads:\t2\n";
        assert_eq!(parse_resident_bytes(status), Some(1_234 * 1_024));
        assert_eq!(parse_resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn own_process_time_grows_with_work() {
        let pid = std::process::id();
        let before = ProcessTime::read(pid).unwrap();
        let busy_until = Instant::now() + Duration::from_millis(50);
        while Instant::now() < busy_until {}
        let spent = ProcessTime::read(pid).unwrap().since(&before);

        let total_ns: u64 = spent.iter().map(|thread| thread.busy_ns).sum();
        // A tick late and shared with others, but most of it must be there.
        assert!(total_ns > 10_000_000, "{spent:?}");
        assert!(resident_bytes(pid).unwrap() > 100_000);
    }

    #[test]
    fn threads_of_one_name_count_together_and_new_ones_from_zero() {
        let time = |name: &str, busy_ns| {
            let (wakeups, switches) = (1, 2 * busy_ns);
            ThreadTime { name: name.into(), busy_ns, wakeups, switches }
        };
        let at = |threads: &[(u32, ThreadTime)]| ProcessTime {
            thread_by_id: threads.iter().cloned().collect(),
        };
        let before = at(&[(1, time("io", 10)), (2, time("main", 5))]);
        let after = at(&[(1, time("io", 30)), (2, time("main", 6)), (3, time("io", 7))]);

        let spent = after.since(&before);

        let io = ThreadTime { name: "io".into(), busy_ns: 27, wakeups: 1, switches: 54 };
        let main = ThreadTime { name: "main".into(), busy_ns: 1, wakeups: 0, switches: 2 };
        assert_eq!(spent, [io, main]);
    }
}
