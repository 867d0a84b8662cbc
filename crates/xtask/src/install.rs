//! What the system must have besides Rust: finds out what is missing and installs it.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    run::{self, Failure},
    say,
    workspace::Workspace,
};

/// Something that does not come with the Rust toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Starts several containers as a file says.
    Compose,
    /// Lets the wall clock of a running node jump, for the test that nobody minds.
    Faketime,
    /// The TCP load balancer of the tests of rolling restarts.
    Haproxy,
    /// Network namespaces, for the nodes of the tests of real faults.
    Iproute,
    /// Hands packets to a test that holds them back.
    Iptables,
    /// The library that everything with a socket links.
    Libzmq,
    /// Drops packets between nodes.
    Nftables,
    /// A Python that can make virtual environments, for the tests with Python peers.
    Python,
    /// Looks for mistakes in the shell scripts of the procedures.
    Shellcheck,
    /// Makes system calls of a running node fail, for the tests of a broken disk.
    Strace,
    /// A terminal for the test of `majordomo top`.
    Tmux,
    /// Counts instructions for `bench --engine`.
    Valgrind,
}

impl Need {
    const ALL: [Self; 12] = [
        Self::Compose,
        Self::Faketime,
        Self::Haproxy,
        Self::Iproute,
        Self::Iptables,
        Self::Libzmq,
        Self::Nftables,
        Self::Python,
        Self::Shellcheck,
        Self::Strace,
        Self::Tmux,
        Self::Valgrind,
    ];

    /// What the tests of real faults want, besides what all black-box tests do.
    pub(crate) const NEMESIS: [Self; 5] =
        [Self::Faketime, Self::Iproute, Self::Iptables, Self::Nftables, Self::Strace];

    /// The package of Debian and its descendants.
    const fn package(self) -> &'static str {
        match self {
            Self::Compose => "docker-compose",
            Self::Faketime => "faketime",
            Self::Haproxy => "haproxy",
            Self::Iproute => "iproute2",
            Self::Iptables => "iptables",
            Self::Libzmq => "libzmq3-dev",
            Self::Nftables => "nftables",
            Self::Python => "python3-venv",
            Self::Shellcheck => "shellcheck",
            Self::Strace => "strace",
            Self::Tmux => "tmux",
            Self::Valgrind => "valgrind",
        }
    }

    /// What to look for on other systems.
    const fn description(self) -> &'static str {
        match self {
            Self::Compose => "Docker Compose, as docker compose or docker-compose",
            Self::Faketime => "faketime, with libfaketime",
            Self::Haproxy => "haproxy 2.4 or newer",
            Self::Iproute => "ip, of iproute2",
            Self::Iptables => "iptables",
            Self::Libzmq => "libzmq 4.3 or newer, with what is needed to link it",
            Self::Nftables => "nft, of nftables",
            Self::Python => "Python 3 with the modules venv and ensurepip",
            Self::Shellcheck => "shellcheck 0.8 or newer",
            Self::Strace => "strace",
            Self::Tmux => "tmux",
            Self::Valgrind => "valgrind",
        }
    }

    fn is_met(self) -> bool {
        match self {
            Self::Compose => has_compose(),
            Self::Faketime => run::succeeds(Command::new("faketime").arg("--version")),
            Self::Haproxy => run::succeeds(Command::new("haproxy").arg("-v")),
            Self::Iproute => run::succeeds(Command::new("ip").arg("-V")),
            Self::Iptables => is_administration_tool("iptables"),
            Self::Libzmq => has_libzmq(),
            Self::Nftables => is_administration_tool("nft"),
            Self::Python => {
                run::succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"]))
            }
            Self::Shellcheck => run::succeeds(Command::new("shellcheck").arg("--version")),
            Self::Strace => run::succeeds(Command::new("strace").arg("-V")),
            Self::Tmux => run::succeeds(Command::new("tmux").arg("-V")),
            Self::Valgrind => run::succeeds(Command::new("valgrind").arg("--version")),
        }
    }
}

/// Installs whatever any task may need.
pub(crate) fn everything(_workspace: &Workspace) -> Result<(), Failure> {
    missing(&Need::ALL)?;
    say::line("Nothing is missing.");
    Ok(())
}

/// Installs what is missing of these, asking nothing and saying what it does.
pub(crate) fn missing(needs: &[Need]) -> Result<(), Failure> {
    let missing: Vec<Need> = needs.iter().copied().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package()).collect();
    let by_hand = format!("apt-get install {}", packages.join(" "));
    if !run::succeeds(Command::new("apt-get").arg("--version")) {
        let described: Vec<&str> = missing.iter().map(|need| need.description()).collect();
        return Err(Failure::new(format!(
            "this needs {}, and there is no apt-get here to install it with; please install it \
             and run this again",
            described.join("; ")
        )));
    }
    let prefix: &[&str] = if is_root() {
        &[]
    } else if run::succeeds(Command::new("sudo").args(["-n", "true"])) {
        &["sudo", "-n"]
    } else {
        return Err(Failure::new(format!(
            "{} missing, and only root may install packages. Please run: sudo {by_hand}",
            packages.join(" and ")
        )));
    };
    install(prefix, &packages)?;
    match missing.iter().find(|need| !need.is_met()) {
        None => Ok(()),
        Some(need) => Err(Failure::new(format!(
            "{} was installed, and still there is no {}",
            need.package(),
            need.description()
        ))),
    }
}

fn install(prefix: &[&str], packages: &[&str]) -> Result<(), Failure> {
    say::line(&format!("==> installing {} by apt-get, once", packages.join(", ")));
    // Stale lists may still do: only the installation itself must succeed.
    if let Err(failure) = run::run(&mut apt_get(prefix, &["update", "-q"])) {
        say::line(&format!("    {failure}; going on with the package lists that are there"));
    }
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    run::run(&mut apt_get(prefix, &arguments))
}

/// A server that is installed, or the one of a package, unpacked below the target directory once. It is
/// not installed: an installed one would run as a service from then on.
pub(crate) fn unpacked(
    workspace: &Workspace,
    package: &str,
    program: &str,
) -> Result<PathBuf, Failure> {
    let runs = |server: &Path| run::succeeds(Command::new(server).arg("--version"));
    if runs(Path::new(program)) {
        return Ok(PathBuf::from(program));
    }
    let directory = workspace.target.join(program);
    let places = ["usr/bin", "usr/sbin"].map(|folder| directory.join(folder).join(program));
    let found = || places.iter().find(|server| runs(server)).cloned();
    if let Some(server) = found() {
        return Ok(server);
    }
    say::line(&format!("==> unpacking {package} below the target directory, once"));
    unpack(package, &directory)?;
    found().ok_or_else(|| {
        let place = directory.display();
        Failure::new(format!("{package} was unpacked to {place}, and its {program} does not run"))
    })
}

/// Unpacks a package of Debian without installing it, so that nothing of it runs by itself.
pub(crate) fn unpack(package: &str, directory: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", directory.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    let mut download = Command::new("apt-get");
    download.args(["download", "-q", package]).current_dir(directory);
    run::run(&mut download).map_err(|failure| {
        Failure::new(format!("{failure}; please put the programs of {package} into your PATH"))
    })?;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let archive = entry.map_err(failed)?.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            run::run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(directory))?;
        }
    }
    Ok(())
}

fn apt_get(prefix: &[&str], arguments: &[&str]) -> Command {
    let mut words = prefix.to_vec();
    words.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    words.extend(arguments);
    let (program, arguments) = words.split_first().unwrap_or((&"true", &[]));
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn has_compose() -> bool {
    run::succeeds(Command::new("docker").args(["compose", "version"]))
        || run::succeeds(Command::new("docker-compose").arg("version"))
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Whether there is such a program; only root may have its folder in the path.
fn is_administration_tool(name: &str) -> bool {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];
    folders.iter().any(|folder| Path::new(folder).join(name).exists())
}

/// The linker wants `libzmq.so`, which only the development package has. Where no links override
/// applies (`.cargo/config.toml` has them for Linux), the crate brings its own copy.
fn has_libzmq() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    let directories = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];
    let has = |directory: &Path| directory.join("libzmq.so").exists();
    if directories.iter().any(|directory| has(Path::new(directory))) {
        return true;
    }
    let Ok(multiarch) = fs::read_dir("/usr/lib") else { return false };
    multiarch.flatten().any(|directory| has(&directory.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_get_asks_nothing() {
        let command = apt_get(&["sudo", "-n"], &["install", "-y", "libzmq3-dev"]);
        assert_eq!(
            run::shown(&command),
            "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get install -y libzmq3-dev"
        );
    }

    #[test]
    fn what_is_met_is_not_installed() {
        assert_eq!(missing(&[]), Ok(()));
    }
}
