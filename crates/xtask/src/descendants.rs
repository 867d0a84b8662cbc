//! A process and all that it started.

use std::{
    fs,
    process::{Command, Stdio},
};

/// Kills a process, and whatever descends from it.
pub(crate) fn kill(process: u32) {
    let mut condemned = vec![process];
    let mut next = 0;
    let all = processes();
    while let Some(parent) = condemned.get(next).copied() {
        condemned.extend(all.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process));
        next += 1;
    }
    let mut kill = Command::new("kill");
    kill.arg("-KILL").args(condemned.iter().map(u32::to_string));
    // Some of them may have ended meanwhile.
    drop(kill.stdin(Stdio::null()).stderr(Stdio::null()).status());
}

/// All processes, each with the one that started it.
fn processes() -> Vec<(u32, u32)> {
    let Ok(directory) = fs::read_dir("/proc") else { return Vec::new() };
    let processes = directory.filter_map(|entry| {
        let entry = entry.ok()?;
        let process = entry.file_name().to_str()?.parse().ok()?;
        Some((process, parent(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
    });
    processes.collect()
}

/// The fourth field of `/proc/PID/stat`, after the name in brackets, which may hold anything (proc(5)).
fn parent(stat: &str) -> Option<u32> {
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_stands_behind_a_name_that_may_hold_anything() {
        assert_eq!(parent("12 (a) S 7 (b) S 4 12 12 0"), Some(4));
        assert_eq!(parent("12 (a"), None);
    }
}
