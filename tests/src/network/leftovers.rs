//! Removes networks: an own one, and those of processes that were killed before they could.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};

use super::{NAMESPACES, run, run_with};

/// Removes the networks of processes that are gone.
pub(super) fn remove() {
    for namespace in namespaces() {
        let owner = namespace.strip_prefix("mjd-").and_then(|rest| rest.split('-').next());
        let is_number = |owner: &&str| owner.parse::<u32>().is_ok();
        if owner.filter(is_number).is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove_namespace(&namespace);
        }
    }
}

/// Removes the network with this name and the processes that still run in it.
pub(super) fn remove_named(name: &str) {
    let prefix = format!("{name}-");
    namespaces().iter().filter(|other| other.starts_with(&prefix)).for_each(|namespace| {
        remove_namespace(namespace);
    });
}

/// The links of a namespace go with it, and so do their other ends.
fn remove_namespace(namespace: &str) {
    let pids = run_with("ip", &["netns", "pids", namespace], "").unwrap_or_default();
    let pids = pids.lines().filter_map(|pid| Pid::from_raw(pid.trim().parse().ok()?));
    // A thread of this process may be there for a moment.
    for pid in pids.filter(|pid| *pid != rustix::process::getpid()) {
        // It may have ended by itself.
        kill_process(pid, Signal::KILL).unwrap_or_default();
    }
    drop(run("ip", &["netns", "del", namespace]));
}

fn namespaces() -> Vec<String> {
    let Ok(entries) = fs::read_dir(NAMESPACES) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
