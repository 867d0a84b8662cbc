//! The metrics of `[security]`.

use std::fmt;

use mdp_broker::{Counters, Denial};
use mdp_core::SecurityReport;

use super::Writer;
use crate::IdentityStatus;

/// What a scrape tells of security.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) open_ports: usize,
    pub(super) report: Option<SecurityReport>,
    pub(super) identities: Option<&'a IdentityStatus>,
    pub(super) counters: &'a Counters,
}

impl Writer<'_> {
    pub(super) fn security(&mut self, facts: Facts<'_>) -> fmt::Result {
        let help = "Addresses that are not loopback, at which nothing proves who a peer is";
        self.count_now("security_open_addresses", help, facts.open_ports)?;
        if let Some(report) = facts.report {
            self.peers(report)?;
        }
        if let Some(identities) = facts.identities {
            self.identity_files(identities)?;
        }
        let help =
            "What peers were denied: requests, registrations, questions, and what is beyond quotas";
        let of = |counts: &std::collections::BTreeMap<Denial, u64>, kind| {
            counts.get(&kind).copied().unwrap_or(0)
        };
        let denials = Denial::ALL.map(|kind| (kind.label(), of(&facts.counters.denials, kind)));
        self.counted_by("security_denied", help, "kind", denials)?;
        let help = "What would have been denied, and was done (security.access = \"report\")";
        let reported =
            Denial::ALL.map(|kind| (kind.label(), of(&facts.counters.reported_denials, kind)));
        self.counted_by("security_reported", help, "kind", reported)
    }

    fn peers(&mut self, report: SecurityReport) -> fmt::Result {
        let SecurityReport { identities, curve_connections, plain_connections, plain_messages } =
            report;
        self.count_now("security_identities", "Identities that count", identities)?;
        let help = "Connections of clients and workers that have shown a key";
        self.count_now("security_curve_connections", help, curve_connections)?;
        let help = "Connections of clients and workers without a key";
        self.count_now("security_plain_connections", help, plain_connections)?;
        let help = "Messages of clients and workers without a key";
        self.counter("security_plain_messages", help, plain_messages)
    }

    fn identity_files(&mut self, status: &IdentityStatus) -> fmt::Result {
        let help = "The digest of the files of identities, equal at all nodes that have the same";
        self.info("security_identity_files", help, &[("digest", status.digest.as_str())])?;
        let help = "Times that files of identities were different, and counted from then on";
        self.counter("security_reloads", help, status.reloads)?;
        let help = "Times that files of identities were broken, and those before counted on";
        self.counter("security_reload_errors", help, status.errors)?;
        let help = "Whether the files of identities are broken now";
        self.gauge("security_files_broken", help, i64::from(status.problem.is_some()))
    }

    fn count_now(&mut self, name: &str, help: &str, count: usize) -> fmt::Result {
        self.gauge(name, help, i64::try_from(count).unwrap_or(i64::MAX))
    }
}
