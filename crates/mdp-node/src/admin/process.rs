//! What the system says of this process, for the metrics that every program has.

use std::{fs, time::Duration};

use rustix::process::{Resource, getrlimit};

/// Units of processor time in `/proc` (USER_HZ): the same on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// This process, now; what the system does not tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProcessTotals {
    pub(super) cpu: Option<Duration>,
    pub(super) resident_bytes: Option<u64>,
    /// Connections are most of them.
    pub(super) open_files: Option<u64>,
    pub(super) open_files_max: Option<u64>,
}

impl ProcessTotals {
    pub(super) fn now() -> Self {
        let read = |name| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let files = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        Self {
            cpu: cpu(&read("stat")),
            resident_bytes: resident_bytes(&read("status")),
            open_files: files.and_then(|count| u64::try_from(count).ok()),
            open_files_max: getrlimit(Resource::Nofile).current,
        }
    }
}

/// User and system time: the 14th and 15th field of `/proc/PID/stat`, of which the second may have
/// spaces in its parentheses.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ticks = fields.split(' ').skip(11).map(str::parse::<u64>);
    let (Some(Ok(user)), Some(Ok(system))) = (ticks.next(), ticks.next()) else { return None };
    let milliseconds = user.checked_add(system)?.checked_mul(1_000 / TICKS_PER_SECOND)?;
    Some(Duration::from_millis(milliseconds))
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_tells_of_this_process() {
        let ProcessTotals { resident_bytes, open_files, open_files_max, cpu } =
            ProcessTotals::now();
        assert!(resident_bytes.unwrap() > 100_000 && cpu.is_some());
        assert!(open_files.unwrap() > 2 && open_files < open_files_max);
    }

    #[test]
    fn name_of_a_program_may_look_like_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu("7 (a) S 1"), None);
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t 2 kB\n"), Some(2_048));
    }
}
