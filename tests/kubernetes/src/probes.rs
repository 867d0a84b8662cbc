//! Probes of one container: when they are due, and what their results mean.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::pod::{HttpProbe, Plan};

/// One probe and how often it failed in a row.
#[derive(Debug)]
struct Counted {
    probe: HttpProbe,
    due_at: Instant,
    failures: u32,
}

impl Counted {
    fn new(probe: &HttpProbe, now: Instant) -> Self {
        Self { probe: probe.clone(), due_at: now, failures: 0 }
    }

    /// Asks if it is time. `None`: it is not.
    fn ask(&mut self, address: IpAddr, now: Instant) -> Option<bool> {
        if now < self.due_at {
            return None;
        }
        self.due_at = now + self.probe.period;
        let succeeded = ask(&self.probe, address);
        self.failures = if succeeded { 0 } else { self.failures + 1 };
        Some(succeeded)
    }

    const fn has_failed(&self) -> bool {
        self.failures >= self.probe.failures_max
    }
}

/// What the probes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The startup probe succeeded.
    Alive,
    /// The readiness probe succeeded, and had not before.
    Ready,
    /// It failed too often.
    NotReady,
    /// The startup or liveness probe failed.
    LivenessFailed,
    /// It failed too often.
    Unhealthy,
}

/// The probes of one container: liveness and readiness wait for the startup probe.
#[derive(Debug)]
pub(crate) struct Probes {
    startup: Counted,
    liveness: Counted,
    readiness: Counted,
    is_alive: bool,
    pub(crate) is_ready: bool,
}

impl Probes {
    pub(crate) fn new(plan: &Plan, now: Instant) -> Self {
        Self {
            startup: Counted::new(&plan.startup, now),
            liveness: Counted::new(&plan.liveness, now),
            readiness: Counted::new(&plan.readiness, now),
            is_alive: false,
            is_ready: false,
        }
    }

    /// What the process gets to end when it was found to be unhealthy, if its probe says so.
    pub(crate) const fn grace(&self) -> Option<Duration> {
        if self.is_alive { self.liveness.probe.grace } else { self.startup.probe.grace }
    }

    /// Asks what is due. It may take as long as the timeouts of the probes.
    pub(crate) fn look(&mut self, address: IpAddr) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !self.is_alive {
            match self.startup.ask(address, Instant::now()) {
                Some(true) => {
                    self.is_alive = true;
                    findings.push(Finding::Alive);
                }
                // A process that does not listen yet is no news.
                Some(false) if self.startup.has_failed() => findings.push(Finding::Unhealthy),
                Some(false) | None => return findings,
            }
        }
        if self.liveness.ask(address, Instant::now()) == Some(false) {
            findings.push(Finding::LivenessFailed);
            if self.liveness.has_failed() {
                findings.push(Finding::Unhealthy);
            }
        }
        match self.readiness.ask(address, Instant::now()) {
            Some(true) if !self.is_ready => {
                self.is_ready = true;
                findings.push(Finding::Ready);
            }
            Some(false) if self.is_ready && self.readiness.has_failed() => {
                self.is_ready = false;
                findings.push(Finding::NotReady);
            }
            Some(_) | None => {}
        }
        findings
    }
}

/// 200 to 399, as a kubelet sees it.
fn ask(probe: &HttpProbe, address: IpAddr) -> bool {
    let page = cluster_tests::http_get_within(
        SocketAddr::new(address, probe.port),
        &probe.path,
        probe.timeout,
    );
    page.is_ok_and(|page| (200..400).contains(&page.status))
}
