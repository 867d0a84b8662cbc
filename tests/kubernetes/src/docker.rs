//! Docker, by its command line.

use std::{
    net::IpAddr,
    process::{Command, Output, Stdio},
    time::Duration,
};

use cluster_tests::look_for;

/// Whether there is an engine, and this user may ask it.
#[must_use]
pub fn engine_answers() -> bool {
    succeeds(&["version", "--format", "{{.Server.Version}}"])
}

/// Whether the engine has an image.
#[must_use]
pub fn has_image(image: &str) -> bool {
    succeeds(&["image", "inspect", image])
}

pub(crate) fn succeeds(arguments: &[&str]) -> bool {
    let mut docker = Command::new("docker");
    docker.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    docker.status().is_ok_and(|status| status.success())
}

/// As [`succeeds`]; what has not ended by then has failed.
pub(crate) fn succeeds_within(arguments: &[&str], patience: Duration) -> bool {
    let mut docker = Command::new("docker");
    docker.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut process) = docker.spawn() else { return false };
    let ended = look_for(patience, || process.try_wait().ok().flatten());
    if ended.is_none() {
        drop(process.kill());
        drop(process.wait());
    }
    ended.is_some_and(|status| status.success())
}

pub(crate) fn output(arguments: &[&str]) -> Output {
    let output = Command::new("docker").args(arguments).output();
    output.unwrap_or_else(|error| panic!("docker {arguments:?}: {error}"))
}

/// What a command prints, or why it failed.
pub(crate) fn docker(arguments: &[&str]) -> Result<String, String> {
    let Output { status, stdout, stderr } = output(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if status.success() { Ok(text(&stdout)) } else { Err(text(&stderr)) }
}

/// As [`docker`], where a failure is one of the machine.
#[track_caller]
pub(crate) fn must(arguments: &[&str]) -> String {
    docker(arguments).unwrap_or_else(|error| panic!("docker {arguments:?}: {error}"))
}

/// A network with addresses of its own choice; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) name: String,
    prefix: String,
}

impl Network {
    /// Takes the first of some ranges that no other network has.
    pub(crate) fn create(name: &str) -> Self {
        let begin = fastrand::u8(..200);
        for third in begin..=u8::MAX {
            let prefix = format!("10.213.{third}");
            let (subnet, gateway) = (format!("{prefix}.0/24"), format!("{prefix}.1"));
            let create = ["network", "create", "--subnet", &subnet, "--gateway", &gateway, name];
            if docker(&create).is_ok() {
                return Self { name: name.to_owned(), prefix };
            }
        }
        panic!("no free range of addresses for a network below 10.213");
    }

    /// The machine's own address in it.
    pub(crate) fn gateway(&self) -> IpAddr {
        self.address(1)
    }

    pub(crate) fn address(&self, host: u8) -> IpAddr {
        format!("{}.{host}", self.prefix).parse().unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        succeeds(&["network", "rm", &self.name]);
    }
}
