//! A network that only one test is in.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    panic::resume_unwind,
    process::{Command, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{AtEnd, PATIENCE, wait_until};

/// Does something in a network namespace of its own, which is gone afterwards. The commands of `ip`
/// make its interfaces. Threads and processes that are started in there stay in there.
///
/// # Panics
/// The namespace cannot be made, which needs root; or the test panics.
#[track_caller]
pub fn in_private_network(commands: &[&str], test: impl FnOnce() + Send + 'static) {
    let mut holder = Command::new("unshare");
    holder.args(["--net", "sleep", "infinity"]).stdin(Stdio::null());
    let mut holder = holder.spawn().unwrap();
    let pid = holder.id();
    // Both fail only if it has ended already.
    let _end = AtEnd::new(move || {
        drop(holder.kill());
        drop(holder.wait());
    });
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let path = format!("/proc/{pid}/ns/net");
    let is_made = || fs::read_link(&path).is_ok_and(|namespace| namespace != own);
    wait_until("a network namespace of its own (which needs root)", PATIENCE, is_made);
    let namespace = File::open(&path).unwrap();
    let commands: Vec<String> = commands.iter().map(|command| (*command).to_owned()).collect();
    let testing = thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        for command in commands {
            let done = Command::new("ip").args(command.split(' ')).status().unwrap();
            assert!(done.success(), "ip {command}");
        }
        test();
    });
    if let Err(panic) = testing.join() {
        resume_unwind(panic);
    }
}
