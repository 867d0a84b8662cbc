//! A small private network of this machine: every node has a network namespace of its own, all of
//! them hang on one switch, and so does this process. Packets between nodes can be dropped and held
//! back by direction, which nobody else notices.
//!
//! Namespaces are named `mjd-PID-NUMBER-...` after the process that made them. They are removed when
//! the network is dropped, and those of processes that are gone when the next one is made.

mod delays;
mod leftovers;

use std::{
    fs::File,
    io::Write,
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsFd,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use self::delays::Delays;

/// The first two numbers of every address. The third is the network's, the fourth the node's.
const PREFIX: [u8; 2] = [10, 199];

/// The last number of this process' own address.
const OUTSIDE: u8 = 254;

/// How many third numbers there are to choose from.
const SUBNETS: u32 = 250;

/// Where `ip netns` keeps the namespaces.
const NAMESPACES: &str = "/run/netns";

static MADE: AtomicU32 = AtomicU32::new(0);

/// What happens to packets from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// None arrives.
    Cut,
    /// So many in a hundred do not arrive, at random.
    Loss(u8),
    /// Each arrives later: by the first duration, and at random up to the second one more, so that
    /// they overtake each other.
    Delay(Duration, Duration),
}

/// Trouble in one direction between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disturbance {
    /// The node that sends.
    pub from: usize,
    /// The node that should receive.
    pub to: usize,
    /// What happens on the way.
    pub trouble: Trouble,
}

/// Some nodes' places on a switch; removed when dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    outside: String,
    subnet: u8,
    nodes: usize,
    delays: Mutex<Option<Delays>>,
}

impl Network {
    /// Makes a network for so many nodes, and removes what dead processes have left.
    ///
    /// # Errors
    /// What could not be done, and what the system said.
    pub fn new(nodes: usize) -> Result<Self, String> {
        leftovers::remove();
        let (pid, number) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let network = Self {
            name: format!("mjd-{pid}-{number}"),
            outside: format!("mj{pid}x{number}"),
            subnet: free_subnet(pid.wrapping_add(number))?,
            nodes,
            delays: Mutex::new(None),
        };
        network.make()?;
        Ok(network)
    }

    fn make(&self) -> Result<(), String> {
        let switch = self.switch();
        run("ip", &["netns", "add", &switch])?;
        self.on_switch(&["link", "add", "br0", "type", "bridge"])?;
        self.on_switch(&["link", "set", "br0", "up"])?;
        for node in 0..self.nodes {
            let namespace = self.namespace(node);
            run("ip", &["netns", "add", &namespace])?;
            let port = port(node);
            let peer = ["peer", "name", "eth0", "netns", &namespace];
            self.on_switch(&[&["link", "add", &port, "type", "veth"], &peer[..]].concat())?;
            self.on_switch(&["link", "set", &port, "master", "br0", "up"])?;
            let address = format!("{}/24", self.host(node));
            run("ip", &["-n", &namespace, "addr", "add", &address, "dev", "eth0"])?;
            run("ip", &["-n", &namespace, "link", "set", "eth0", "up"])?;
            run("ip", &["-n", &namespace, "link", "set", "lo", "up"])?;
        }
        let peer = ["type", "veth", "peer", "name", "outside", "netns", &switch];
        run("ip", &[&["link", "add", &self.outside], &peer[..]].concat())?;
        self.on_switch(&["link", "set", "outside", "master", "br0", "up"])?;
        let [first, second] = PREFIX;
        let address = format!("{first}.{second}.{}.{OUTSIDE}/24", self.subnet);
        run("ip", &["addr", "add", &address, "dev", &self.outside])?;
        run("ip", &["link", "set", &self.outside, "up"])?;
        self.filter("add table bridge faults\nadd chain bridge faults forward { type filter hook forward priority 0; }\n")
    }

    /// The address of a node.
    #[must_use]
    pub fn host(&self, node: usize) -> Ipv4Addr {
        let [first, second] = PREFIX;
        Ipv4Addr::new(first, second, self.subnet, u8::try_from(node + 1).unwrap())
    }

    /// The command in front of another command that runs it at a node's place.
    #[must_use]
    pub fn launcher(&self, node: usize) -> Vec<String> {
        let namespace = path(&self.namespace(node));
        vec!["nsenter".to_owned(), format!("--net={}", namespace.display()), "--".to_owned()]
    }

    /// Lets exactly these disturbances happen from now on.
    ///
    /// # Errors
    /// What could not be done, and what the system said.
    pub fn disturb(&self, disturbances: &[Disturbance]) -> Result<(), String> {
        let rules: String = disturbances.iter().filter_map(rule).collect();
        self.filter(&format!("flush chain bridge faults forward\n{rules}"))?;
        let delayed = disturbances.iter().filter_map(|disturbance| {
            let Trouble::Delay(least, jitter) = disturbance.trouble else { return None };
            Some((self.host(disturbance.from), self.host(disturbance.to), least, jitter))
        });
        let delayed: Vec<_> = delayed.collect();
        let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        *delays = None;
        if !delayed.is_empty() {
            *delays = Some(Delays::start(&self.switch(), &delayed)?);
        }
        drop(delays);
        Ok(())
    }

    /// Lets every packet pass again.
    ///
    /// # Errors
    /// What could not be done, and what the system said.
    pub fn heal(&self) -> Result<(), String> {
        self.disturb(&[])
    }

    /// A socket at a node's place.
    ///
    /// # Errors
    /// The place can not be entered.
    pub fn socket(&self, node: usize) -> Result<UdpSocket, String> {
        let host = self.host(node);
        within(&self.namespace(node), move || {
            UdpSocket::bind((host, 0)).map_err(|error| error.to_string())
        })
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn namespace(&self, node: usize) -> String {
        format!("{}-{node}", self.name)
    }

    fn on_switch(&self, arguments: &[&str]) -> Result<(), String> {
        run("ip", &[&["-n", &self.switch()], arguments].concat())
    }

    /// Gives commands to the packet filter of the switch, all or none.
    fn filter(&self, commands: &str) -> Result<(), String> {
        run_with("ip", &["netns", "exec", &self.switch(), "nft", "-f", "-"], commands).map(drop)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.delays.get_mut().unwrap().take());
        leftovers::remove_named(&self.name);
    }
}

/// A disturbance as a rule of the packet filter.
fn rule(disturbance: &Disturbance) -> Option<String> {
    let verdict = match disturbance.trouble {
        Trouble::Cut => "drop".to_owned(),
        Trouble::Loss(percent) => format!("numgen random mod 100 < {percent} drop"),
        Trouble::Delay(..) => return None,
    };
    let (from, to) = (port(disturbance.from), port(disturbance.to));
    Some(format!("add rule bridge faults forward iifname {from} oifname {to} {verdict}\n"))
}

fn port(node: usize) -> String {
    format!("node{node}")
}

fn path(namespace: &str) -> PathBuf {
    PathBuf::from(NAMESPACES).join(namespace)
}

/// Does something in a namespace, by a thread that ends afterwards.
fn within<T: Send + 'static>(
    namespace: &str,
    action: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let file = File::open(path(namespace)).map_err(|error| format!("{namespace}: {error}"))?;
    let acting = thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| error.to_string())?;
        action()
    });
    acting.join().unwrap_or_else(|_| Err("the thread panicked".to_owned()))
}

/// The third number of an address that no interface of this machine has.
fn free_subnet(start: u32) -> Result<u8, String> {
    let taken = run_with("ip", &["-4", "-o", "addr", "show"], "")?;
    let [first, second] = PREFIX;
    let is_free = |number: &u8| !taken.contains(&format!(" {first}.{second}.{number}."));
    let mut candidates = (0..SUBNETS).filter_map(|n| u8::try_from((start + n) % SUBNETS).ok());
    candidates.find(is_free).ok_or_else(|| "no free private network".to_owned())
}

/// Runs a command of the system.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    run_with(program, arguments, "").map(drop)
}

/// Runs a command of the system that reads this text; what it prints.
fn run_with(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let what = || format!("`{program} {}`", arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", what()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who reads nothing may have ended already.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output().map_err(|error| format!("{}: {error}", what()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", what(), said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
