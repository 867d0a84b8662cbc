//! Which process a connection of loopback comes from.

use std::{collections::BTreeMap, fs, net::SocketAddr};

/// The node whose process has the far end of this connection.
pub(super) fn of(
    near: SocketAddr,
    far: SocketAddr,
    node_by_pid: &BTreeMap<u32, usize>,
) -> Option<usize> {
    let inode = inode_of(far, near)?;
    let socket = format!("socket:[{inode}]");
    node_by_pid.iter().find(|(pid, _)| has_open(**pid, &socket)).map(|(_, node)| *node)
}

/// The inode of the socket with these two ends, seen from its own.
fn inode_of(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let ends = [hexadecimal(local)?, hexadecimal(remote)?];
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    // sl, local and remote address, state, queues, timers, retransmissions, uid, timeout, inode.
    table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>()).find_map(|fields| {
        let has_ends = fields.get(1..3)?.iter().eq(ends.iter());
        if has_ends { fields.get(9)?.parse().ok() } else { None }
    })
}

/// As the kernel writes it: the address as a number in the machine's own order of bytes.
fn hexadecimal(address: SocketAddr) -> Option<String> {
    match address {
        SocketAddr::V4(v4) => {
            let number = u32::from_ne_bytes(v4.ip().octets());
            Some(format!("{number:08X}:{:04X}", v4.port()))
        }
        SocketAddr::V6(_) => None,
    }
}

fn has_open(pid: u32, socket: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket))
}
