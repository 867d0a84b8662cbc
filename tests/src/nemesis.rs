//! Faults that need more than a signal. One that can not be brought about fails the test: what was
//! not installed did not pass.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::process::Process;

/// Set to 1 where nobody can be root, to do without the faults that only root can bring about.
const WITHOUT_ROOT: &str = "MAJORDOMO_TEST_WITHOUT_ROOT";

/// Where Debian and others have libfaketime, in the form for programs with threads.
const FAKETIME: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// Whether whoever runs the tests has said to do without the faults that need root.
#[must_use]
pub fn is_without_root() -> bool {
    env::var(WITHOUT_ROOT).is_ok_and(|value| value == "1")
}

/// A small file system of its own; gone when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Puts a file system of this size into an empty directory.
    #[must_use]
    pub fn mount(path: &Path, bytes: u64) -> Self {
        Self::try_mount(path, bytes).unwrap_or_else(|error| {
            panic!(
                "a small disk can not be mounted, which needs root: {error}; to do without this \
                 test, set {WITHOUT_ROOT}=1"
            )
        })
    }

    pub(crate) fn try_mount(path: &Path, bytes: u64) -> Result<Self, String> {
        std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(path);
        let outcome = mount.output().map_err(|error| error.to_string())?;
        if !outcome.status.success() {
            return Err(String::from_utf8_lossy(&outcome.stderr).into_owned());
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Fills it until nothing more fits.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.path.join("ballast")).unwrap();
        let copied = std::io::copy(&mut std::io::repeat(0), &mut file);
        assert_eq!(copied.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    }

    /// Gives the room back that [`Self::fill`] took.
    pub fn clear(&self) {
        std::fs::remove_file(self.path.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        drop(unmount.arg("--lazy").arg(&self.path).stderr(Stdio::null()).status());
    }
}

/// Makes system calls of a running process fail, until dropped.
#[derive(Debug)]
pub struct FailingCalls {
    _tracer: Process,
}

impl FailingCalls {
    /// From now on these system calls fail with this error, without having done anything.
    #[must_use]
    #[track_caller]
    pub fn inject(pid: u32, calls: &str, error: &str) -> Self {
        Self::try_inject(pid, calls, error).unwrap_or_else(|error| {
            panic!(
                "strace is missing: {error}: run `cargo xtask install`, or set {WITHOUT_ROOT}=1 to \
                 do without this test"
            )
        })
    }

    pub(crate) fn try_inject(pid: u32, calls: &str, error: &str) -> Result<Self, String> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:error={error}"), "-p", &pid.to_string()]);
        let version = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
        version.map_err(|error| error.to_string())?;
        let tracer = Process::spawn("strace", &mut strace);
        let _attached = tracer.wait_for_log(|line| line.contains("attached"));
        Ok(Self { _tracer: tracer })
    }
}

/// A wall clock that can be set while processes run by it. Their monotonic clock goes on as it is.
#[derive(Debug)]
pub struct WallClock {
    file: PathBuf,
    library: PathBuf,
}

impl WallClock {
    /// A clock that is right, kept in this file.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self::try_new(file).unwrap_or_else(|error| panic!("{error}: run `cargo xtask install`"))
    }

    pub(crate) fn try_new(file: PathBuf) -> Result<Self, String> {
        let library = FAKETIME.iter().map(PathBuf::from).find(|path| path.is_file());
        let library =
            library.ok_or_else(|| format!("libfaketime is missing; looked at {FAKETIME:?}"))?;
        let clock = Self { file, library };
        clock.set(0);
        Ok(clock)
    }

    /// Lets it be so many seconds fast, or slow if negative, at once.
    pub fn set(&self, seconds: i64) {
        std::fs::write(&self.file, format!("{seconds:+}\n")).unwrap();
    }

    /// What a process must find in its environment to run by this clock.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file)),
            // The file is read at every look at the clock.
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn small_disk_fills_up() {
        if is_without_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let disk = SmallDisk::mount(&path, 1 << 20);
        let mut file = std::fs::File::create(path.join("file")).unwrap();
        file.write_all(b"there is room").unwrap();

        disk.fill();

        assert!(file.write_all(&[0; 8_192]).is_err());
        drop(disk);
        assert!(!path.join("file").exists());
    }

    #[test]
    fn clock_is_set_while_a_process_runs() {
        let directory = tempfile::tempdir().unwrap();
        let clock = WallClock::new(directory.path().join("clock"));
        let mut date = Command::new("sh");
        date.args(["-c", "while sleep 0.01; do date +%s >&2; done"]).envs(clock.environment());
        let process = Process::spawn("date", &mut date);
        let seconds = |line: &str| line.parse::<i64>().ok();
        let before = seconds(&process.wait_for_log(|line| seconds(line).is_some())).unwrap();

        clock.set(3_600);

        let jumped = |line: &str| seconds(line).is_some_and(|now| now >= before + 3_600);
        assert!(!process.wait_for_log(jumped).is_empty());
    }

    #[test]
    fn calls_fail_while_they_are_made_to() {
        if is_without_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut victim = Command::new("sh");
        victim.args(["-c", "while mkdir made && rmdir made; do sleep 0.01; done; echo ended >&2"]);
        let mut victim = Process::spawn("victim", victim.current_dir(directory.path()));
        assert!(victim.is_alive());

        let _failing = FailingCalls::inject(victim.pid(), "mkdir,mkdirat", "EIO");

        assert!(victim.wait_for_log(|line| line.contains("Input/output error")).contains("made"));
    }
}
