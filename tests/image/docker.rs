//! Docker, by its command line: what users type is what is tested.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    process::{Command, Stdio},
};

use cluster_tests::{Reachable, Readiness, http_get, wait_until};

use crate::{PATIENCE, unique_name};

const CLIENTS: u16 = 5555;
const ADMINISTRATION: u16 = 5580;

pub(crate) fn engine_answers() -> bool {
    succeeds(&["version", "--format", "{{.Server.Version}}"])
}

pub(crate) fn has_image(image: &str) -> bool {
    succeeds(&["image", "inspect", image])
}

fn succeeds(arguments: &[&str]) -> bool {
    let mut docker = Command::new("docker");
    docker.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    docker.status().is_ok_and(|status| status.success())
}

/// What a docker command prints, without the white space around it.
#[track_caller]
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A network of one test; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) name: String,
}

impl Network {
    pub(crate) fn create() -> Self {
        let name = unique_name();
        docker(&["network", "create", &name]);
        Self { name }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        succeeds(&["network", "rm", &self.name]);
    }
}

/// A named volume of one test; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) name: String,
}

impl Volume {
    pub(crate) fn create() -> Self {
        let name = unique_name();
        docker(&["volume", "create", &name]);
        Self { name }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        succeeds(&["volume", "rm", &self.name]);
    }
}

/// A container, by its name or id.
#[derive(Clone)]
pub(crate) struct Container(pub(crate) String);

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Container {
    #[track_caller]
    pub(crate) fn inspect(&self, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.0])
    }

    /// Its address in its one network.
    #[track_caller]
    fn address(&self) -> IpAddr {
        let address = self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}");
        address.parse().unwrap_or_else(|_| panic!("{self:?} has no address: {}", self.log()))
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.address(), ADMINISTRATION)
    }

    /// Both streams of its log.
    pub(crate) fn log(&self) -> String {
        let output = Command::new("docker").args(["logs", &self.0]).output().unwrap();
        let [out, err] = [output.stdout, output.stderr];
        format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err))
    }

    /// Waits until this holds, and shows the log if it does not.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let shown = LogOnFailure(self);
        wait_until(what, PATIENCE, || holds(self));
        drop(shown);
    }

    #[track_caller]
    pub(crate) fn wait_until_ready(&self) {
        self.wait_until("ready", |container| {
            let page = http_get(container.admin(), "/readyz").ok();
            page.and_then(|page| Readiness::read(&page)).is_some_and(|page| page.is_ready)
        });
    }

    /// How it ended.
    #[track_caller]
    pub(crate) fn exit_code(&self) -> String {
        self.inspect("{{.State.Status}} {{.State.ExitCode}}")
    }
}

impl Reachable for Container {
    fn endpoint(&self) -> String {
        format!("tcp://{}:{CLIENTS}", self.address())
    }
}

struct LogOnFailure<'a>(&'a Container);

impl Drop for LogOnFailure<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of {:?}:\n{}", self.0, self.0.log());
        }
    }
}

/// A container that is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) container: Container,
}

impl Started {
    /// `docker run --detach` with these options, the image, and what follows it.
    #[track_caller]
    pub(crate) fn run(options: &[&str], image: &str, arguments: &[&str]) -> Self {
        let name = unique_name();
        let begin = ["run", "--detach", "--name", &name];
        docker(&[&begin, options, &[image], arguments].concat());
        Self { container: Container(name) }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        succeeds(&["rm", "--force", "--volumes", &self.container.0]);
    }
}
