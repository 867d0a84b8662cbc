//! One pod on its machine: its container is started, probed, started again, and stopped.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    docker::{docker, must, succeeds, succeeds_within},
    events::{Events, What},
    pod::{Identity, Plan, PreStop},
    probes::{Finding, Probes},
};

/// Between two looks at a container.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long to wait before a container is started a third time; doubled from then on. (The first
/// restart is at once: kubelet's back-off, 10 s at first.)
const BACKOFF_MIN: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// What a process still gets when its hook has used up the grace period.
const GRACE_MIN: Duration = Duration::from_secs(2);

/// What everybody may see of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) is_ready: bool,
    /// Since when it has been ready without a break.
    pub(crate) ready_since: Option<Instant>,
    pub(crate) is_gone: bool,
    /// What others say of it.
    conditions: BTreeSet<String>,
    is_deleted: bool,
    /// Without waiting for what it owes.
    is_forced: bool,
}

/// A pod. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) identity: Identity,
    /// Which revision of the template it was made from.
    pub(crate) revision: usize,
    pub(crate) container: String,
    pub(crate) address: IpAddr,
    status: Arc<Mutex<Status>>,
}

/// What a pod is made from.
#[derive(Clone, Debug)]
pub(crate) struct Making {
    pub(crate) plan: Plan,
    pub(crate) network: String,
    pub(crate) files: PathBuf,
    /// What the names of its volumes begin with.
    pub(crate) volumes: String,
    pub(crate) events: Events,
}

impl Pod {
    /// Binds a pod to this machine: its container is started soon.
    pub(crate) fn start(
        identity: Identity,
        revision: usize,
        container: String,
        address: IpAddr,
        making: Making,
    ) -> Self {
        let status = Status {
            is_ready: false,
            ready_since: None,
            is_gone: false,
            conditions: BTreeSet::new(),
            is_deleted: false,
            is_forced: false,
        };
        let status = Arc::new(Mutex::new(status));
        let pod = Self { identity, revision, container, address, status };
        let kubelet = Kubelet { pod: pod.clone(), making, restarts: 0 };
        thread::spawn(move || kubelet.run());
        pod
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().clone()
    }

    /// Asks for its end; `is_forced` is `kubectl delete pod --grace-period=0 --force`.
    pub(crate) fn delete(&self, is_forced: bool) {
        let mut status = self.lock();
        status.is_deleted = true;
        status.is_forced = is_forced;
        // Not an endpoint any more, from this moment on.
        status.is_ready = false;
        status.ready_since = None;
    }

    pub(crate) fn set_condition(&self, condition: &str, holds: bool) {
        let mut status = self.lock();
        if holds {
            status.conditions.insert(condition.to_owned());
        } else {
            status.conditions.remove(condition);
        }
    }

    pub(crate) fn is_terminating(&self) -> bool {
        self.lock().is_deleted
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The volume of one of its claims.
    pub(crate) fn volume(&self, prefix: &str, claim: &str) -> String {
        format!("{prefix}-{claim}-{}", self.identity.name)
    }
}

struct Kubelet {
    pod: Pod,
    making: Making,
    restarts: u32,
}

impl Kubelet {
    fn run(mut self) {
        while !self.make() {
            if self.waits_until_deleted(BACKOFF_MIN) {
                return self.gone();
            }
        }
        while !self.lives() {
            if self.waits_until_deleted(self.backoff()) {
                break;
            }
            self.restarts += 1;
            drop(docker(&["start", &self.pod.container]));
            self.say(What::Started { image: self.making.plan.image.clone() });
        }
        self.gone();
    }

    fn backoff(&self) -> Duration {
        match self.restarts {
            0 => Duration::ZERO,
            count => (BACKOFF_MIN * 2_u32.saturating_pow(count - 1)).min(BACKOFF_MAX),
        }
    }

    fn say(&self, what: What) {
        self.making.events.add(self.pod.identity.ordinal, what);
    }

    /// Makes and starts the container. Returns false if its image can not be had.
    fn make(&self) -> bool {
        let Making { plan, network, files, volumes, .. } = &self.making;
        let name = &self.pod.identity.name;
        let address = self.pod.address.to_string();
        let mut options: Vec<String> = [
            "run",
            "--detach",
            "--pull",
            "never",
            "--name",
            &self.pod.container,
            "--hostname",
            name,
        ]
        .map(str::to_owned)
        .into();
        options.extend(["--network", network, "--ip", &address].map(str::to_owned));
        options.extend(self.pod.identity.alias_options("--network-alias"));
        options.extend(
            plan.options(&self.pod.identity, files, |claim| self.pod.volume(volumes, claim)),
        );
        options.push(plan.image.clone());
        options.extend(plan.arguments());
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        if let Err(error) = docker(&options) {
            assert!(error.to_lowercase().contains("image"), "{error}");
            self.say(What::NoImage);
            return false;
        }
        self.say(What::Started { image: plan.image.clone() });
        true
    }

    /// Probes a container until it ends. Returns whether the pod was deleted.
    fn lives(&self) -> bool {
        let mut probes = Probes::new(&self.making.plan, Instant::now());
        loop {
            if self.pod.is_terminating() {
                self.stop(self.making.plan.grace);
                return true;
            }
            if let Some(code) = self.exit_code() {
                self.set_ready(false);
                self.say(What::Exited { code, after: None });
                return false;
            }
            for finding in probes.look(self.pod.address) {
                self.say(match finding {
                    Finding::Alive => What::Alive,
                    Finding::Ready => What::Ready,
                    Finding::NotReady => What::NotReady,
                    Finding::LivenessFailed => What::LivenessFailed,
                    Finding::Unhealthy => What::Unhealthy,
                });
                if finding == Finding::Unhealthy {
                    self.set_ready(false);
                    self.stop(probes.grace().unwrap_or(self.making.plan.grace));
                    return false;
                }
            }
            self.set_ready(probes.is_ready);
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// A pod is ready if its container is, and every gate is open.
    fn set_ready(&self, is_ready: bool) {
        let mut status = self.pod.lock();
        let is_ready = is_ready && self.making.plan.gates.is_subset(&status.conditions);
        if status.is_deleted || status.is_ready == is_ready {
            return;
        }
        status.is_ready = is_ready;
        status.ready_since = is_ready.then(Instant::now);
    }

    /// How it ended; `None`: it runs.
    fn exit_code(&self) -> Option<i32> {
        let format = "{{.State.Running}} {{.State.ExitCode}}";
        let state = must(&["inspect", "--format", format, &self.pod.container]);
        let (is_running, code) = state.split_once(' ')?;
        (is_running == "false").then(|| code.parse().unwrap_or(-1))
    }

    /// The hook, then TERM, and KILL after this grace period, which began with the hook. A forced end is
    /// KILL at once.
    fn stop(&self, grace: Duration) {
        let is_forced = self.pod.status().is_forced;
        self.say(What::Stopping);
        let begun = Instant::now();
        let grace = if is_forced {
            Duration::ZERO
        } else {
            self.pre_stop();
            grace.saturating_sub(begun.elapsed()).max(GRACE_MIN)
        };
        let seconds = grace.as_secs().to_string();
        drop(docker(&["stop", "--time", &seconds, &self.pod.container]));
        let code = self.exit_code().unwrap_or(-1);
        self.say(What::Exited { code, after: Some(begun.elapsed()) });
    }

    fn pre_stop(&self) {
        let Making { plan, .. } = &self.making;
        let begun = Instant::now();
        let succeeded = match &plan.pre_stop {
            None => return,
            Some(PreStop::Sleep(length)) => {
                thread::sleep((*length).min(plan.grace));
                true
            }
            Some(PreStop::Exec(command)) => {
                let mut arguments = vec!["exec", &self.pod.container];
                arguments.extend(command.iter().map(String::as_str));
                succeeds_within(&arguments, plan.grace)
            }
        };
        self.say(What::Hook { succeeded, after: begun.elapsed() });
    }

    /// Returns whether the pod was deleted meanwhile.
    fn waits_until_deleted(&self, length: Duration) -> bool {
        let deadline = Instant::now() + length;
        while Instant::now() < deadline && !self.pod.is_terminating() {
            thread::sleep(LOOK_INTERVAL);
        }
        self.pod.is_terminating()
    }

    fn gone(&self) {
        succeeds(&["rm", "--force", &self.pod.container]);
        self.say(What::Deleted);
        self.pod.lock().is_gone = true;
    }
}
