//! The connections between the nodes of a cluster, with a tap on each direction of each pair.
//!
//! Every node has a door: a listener in front of one of its ports, at another address of loopback
//! with the same port. Other nodes are told the door's address: `cluster.peers` names it, and a node
//! that tells others a port puts the host of its own entry there in front of it. A door finds out
//! whose process a connection comes from, so one list of peers serves all nodes and still each
//! ordered pair has a tap of its own. Without root and on plain loopback this gives full, partial
//! and one-way cuts.

mod owner;

use std::{
    collections::BTreeMap,
    fmt,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::look_for;

/// How long a blocked read or write waits before it looks whether all is over.
const TURN: Duration = Duration::from_millis(250);

/// How long a write to a full connection keeps its tap from being turned.
const WRITE_TURN: Duration = Duration::from_millis(20);

/// How long a connection may be without an owner that is known.
const OWNER_PATIENCE: Duration = Duration::from_secs(2);

/// The host of the doors of the first node is 127.0.0.this, those of the others follow.
const FIRST_HOST: u8 = 2;

/// How much is carried at once.
const BUFFER_BYTES: usize = 64 << 10;

/// What happens to what one node sends to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    /// It arrives.
    Open,
    /// It waits, as in a cut cable: it arrives when the tap is opened, if the connection is still
    /// wanted then.
    Held,
    /// The connection is closed, and so is every new one.
    Refused,
}

/// What one node sends to another, and the way there.
#[derive(Debug)]
struct Gate {
    tap: Mutex<Tap>,
    turned: Condvar,
}

/// The doors of all nodes. Dropped: every connection is closed.
pub struct Links {
    table: Arc<Table>,
    doors: Vec<SocketAddr>,
}

struct Table {
    nodes: usize,
    /// By sender and receiver.
    gates: Vec<Gate>,
    node_by_pid: Mutex<BTreeMap<u32, usize>>,
    closing: AtomicBool,
}

impl Links {
    /// Doors for nodes that listen on these ports of 127.0.0.1.
    #[must_use]
    pub fn new(ports: &[u16]) -> Self {
        let nodes = ports.len();
        let gate = || Gate { tap: Mutex::new(Tap::Open), turned: Condvar::new() };
        let table = Arc::new(Table {
            nodes,
            gates: (0..nodes * nodes).map(|_| gate()).collect(),
            node_by_pid: Mutex::default(),
            closing: AtomicBool::new(false),
        });
        let doors = ports.iter().enumerate().map(|(to, port)| {
            let listener = TcpListener::bind((Self::host(to), *port)).unwrap();
            let door = listener.local_addr().unwrap();
            let (table, behind) = (Arc::clone(&table), SocketAddr::from(([127, 0, 0, 1], *port)));
            thread::spawn(move || keep_door(&table, &listener, to, behind));
            door
        });
        Self { doors: doors.collect(), table }
    }

    /// The host of a node's doors.
    #[must_use]
    pub fn host(node: usize) -> Ipv4Addr {
        let number = u8::try_from(node).unwrap();
        Ipv4Addr::new(127, 0, 0, FIRST_HOST + number)
    }

    /// The address that other nodes are told.
    #[must_use]
    pub fn door(&self, node: usize) -> SocketAddr {
        *self.doors.get(node).unwrap()
    }

    /// Says which process is this node now. Connections of unknown processes are closed.
    pub fn own(&self, node: usize, pid: u32) {
        let mut node_by_pid = self.table.node_by_pid.lock().unwrap();
        node_by_pid.retain(|_, other| *other != node);
        node_by_pid.insert(pid, node);
    }

    /// Turns the tap of one direction. When this returns, nothing more passes, or everything does.
    pub fn turn(&self, from: usize, to: usize, tap: Tap) {
        let gate = self.table.gate(from, to);
        *gate.tap.lock().unwrap() = tap;
        gate.turned.notify_all();
    }

    /// Turns both taps between two nodes.
    pub fn turn_both(&self, one: usize, other: usize, tap: Tap) {
        self.turn(one, other, tap);
        self.turn(other, one, tap);
    }

    /// Cuts a node off from all others, in both directions.
    pub fn cut_off(&self, node: usize) {
        for other in (0..self.table.nodes).filter(|other| *other != node) {
            self.turn_both(node, other, Tap::Held);
        }
    }

    /// Opens every tap.
    pub fn heal(&self) {
        for from in 0..self.table.nodes {
            (0..self.table.nodes).for_each(|to| self.turn(from, to, Tap::Open));
        }
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("doors", &self.doors).finish_non_exhaustive()
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.table.closing.store(true, Ordering::SeqCst);
        self.table.gates.iter().for_each(|gate| gate.turned.notify_all());
        // Wakes those who wait for connections.
        self.doors.iter().for_each(|door| drop(TcpStream::connect(door)));
    }
}

impl Table {
    fn gate(&self, from: usize, to: usize) -> &Gate {
        self.gates.get(from * self.nodes + to).unwrap()
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Waits until the tap is open. While the guard is held, it stays so.
    fn wait_open<'a>(&self, gate: &'a Gate) -> Option<MutexGuard<'a, Tap>> {
        let mut tap = gate.tap.lock().unwrap();
        while *tap == Tap::Held && !self.is_closing() {
            tap = gate.turned.wait_timeout(tap, TURN).unwrap().0;
        }
        (*tap == Tap::Open && !self.is_closing()).then_some(tap)
    }

    /// Writes everything through a tap; whether that went well.
    fn write(&self, gate: &Gate, mut stream: &TcpStream, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(_open) = self.wait_open(gate) else { return false };
            match stream.write(rest) {
                Ok(0) => return false,
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if is_no_turn(error.kind()) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Carries one direction of a connection to its end.
    fn carry(&self, gate: &Gate, mut from: &TcpStream, to: &TcpStream) {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            if self.is_closing() || *gate.tap.lock().unwrap() == Tap::Refused {
                break;
            }
            match from.read(&mut buffer) {
                Ok(0) => {
                    // The end of a stream is news, too.
                    if self.wait_open(gate).is_some() {
                        drop(to.shutdown(Shutdown::Write));
                        return;
                    }
                    break;
                }
                Ok(count) if self.write(gate, to, buffer.get(..count).unwrap_or_default()) => {}
                Err(error) if is_no_turn(error.kind()) => {}
                Ok(_) | Err(_) => break,
            }
        }
        drop(from.shutdown(Shutdown::Both));
        drop(to.shutdown(Shutdown::Both));
    }
}

fn is_no_turn(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn keep_door(table: &Arc<Table>, listener: &TcpListener, to: usize, behind: SocketAddr) {
    for stream in listener.incoming() {
        if table.is_closing() {
            return;
        }
        if let Ok(stream) = stream {
            let table = Arc::clone(table);
            thread::spawn(move || drop(let_in(&table, &stream, to, behind)));
        }
    }
}

/// Serves one connection to the node behind a door.
fn let_in(
    table: &Arc<Table>,
    caller: &TcpStream,
    to: usize,
    behind: SocketAddr,
) -> std::io::Result<()> {
    let (near, far) = (caller.local_addr()?, caller.peer_addr()?);
    let node_of = || owner::of(near, far, &table.node_by_pid.lock().unwrap());
    let Some(from) = look_for(OWNER_PATIENCE, node_of) else { return Ok(()) };
    // A handshake needs both directions.
    for gate in [table.gate(from, to), table.gate(to, from)] {
        if table.wait_open(gate).is_none() {
            return Ok(());
        }
    }
    let node = TcpStream::connect(behind)?;
    for stream in [caller, &node] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TURN))?;
        stream.set_write_timeout(Some(WRITE_TURN))?;
    }
    thread::scope(|scope| {
        scope.spawn(|| table.carry(table.gate(from, to), caller, &node));
        scope.spawn(|| table.carry(table.gate(to, from), &node, caller));
    });
    Ok(())
}

#[cfg(test)]
mod tests;
