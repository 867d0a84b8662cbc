//! What is counted, in the text format of Prometheus (OpenMetrics).

mod security;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use mdp_broker::{Counters, DropReason, ServiceStatus};
use mdp_catalog::NodeName;
use mdp_histogram::Histogram;
use mdp_raft::{ClusterStatus, MemberStatus, Role, UpgradeStatus};
use mdp_transport::TransportTotals;
use mdp_wire::relay::RefusalReason;
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, EncodeLabelValue,
        EncodeMetric as _, text::encode,
    },
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use super::{backend::CatalogTotals, gate::AccessTotals, process::ProcessTotals};
use crate::{
    IdentityStatus, LinkLoss, LinkState, LinkTotals, NodeReport, ReadTotals, RelayReport,
    RelayTotals,
    version::{RELAY_WIRE, VERSION},
};

/// What the text is, for whoever scrapes it.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What every name begins with.
const PREFIX: &str = "majordomo";

/// Everything that one scrape shows.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) node: NodeName,
    pub(super) turns: u64,
    pub(super) is_ready: bool,
    pub(super) is_draining: bool,
    pub(super) report: NodeReport,
    /// `None`: the node is alone.
    pub(super) status: Option<ClusterStatus>,
    /// `None`: the node is alone.
    pub(super) catalog: Option<CatalogTotals>,
    /// `None`: the node is alone.
    pub(super) link: Option<LinkTotals>,
    pub(super) process: ProcessTotals,
    /// At how many addresses strangers reach the node, if that is not said to be meant.
    pub(super) open_ports: usize,
    /// `None`: nothing proves who clients and workers are.
    pub(super) identities: Option<IdentityStatus>,
    /// What was turned away at the administration port.
    pub(super) access: Arc<AccessTotals>,
    /// How many of its files cannot be used as they are now.
    pub(super) stale_files: usize,
}

/// The text of a scrape.
pub(super) fn text(scrape: Scrape) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Writer(encoder);
        let report = &self.report;
        let labels = [("node", self.node.as_str()), ("version", VERSION)];
        page.info("build", "The node and its version", &labels)?;
        page.seconds("uptime", "Time since the node started", report.uptime)?;
        page.gauge("ready", "Whether the node is ready", i64::from(self.is_ready))?;
        page.gauge("draining", "Whether the node leaves", i64::from(self.is_draining))?;
        page.counter("broker_turns", "Turns of the broker thread", self.turns)?;
        page.broker(self)?;
        page.counters(&report.counters)?;
        page.connections(&report.connections, &report.counters)?;
        if let Some(relay) = &report.relay {
            page.relay(relay, &report.counters)?;
        }
        page.reads(report.reads)?;
        page.times(&report.counters)?;
        page.process(self.process)?;
        page.security(security::Facts {
            open_ports: self.open_ports,
            report: report.security,
            identities: self.identities.as_ref(),
            counters: &report.counters,
        })?;
        page.admin(&self.access, self.stale_files)?;
        if let Some(status) = &self.status {
            page.raft(status)?;
        }
        if let Some(catalog) = self.catalog {
            page.catalog(catalog)?;
        }
        let Some(link) = &self.link else { return Ok(()) };
        let of_requests = report.relay.as_ref().map_or(0, |relay| relay.totals.plain_links);
        let help = "Connections between nodes without encryption";
        page.gauge(
            "cluster_plain_links",
            help,
            link.plain_links.saturating_add(of_requests as u64),
        )?;
        page.link(link)
    }
}

/// Writes one metric after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn admin(&mut self, access: &AccessTotals, stale_files: usize) -> fmt::Result {
        let help = "Requests to the administration port whose token gives no permission, by reason";
        self.counted_by("admin_denied", help, "reason", access.denied())?;
        let help = "TLS handshakes of the administration port that failed";
        self.counter("admin_failed_handshakes", help, access.failed_handshakes())?;
        let help =
            "Files of tokens and of the certificate that cannot be used now: those before count";
        self.gauge("admin_stale_files", help, stale_files)
    }

    fn bytes(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        let encoder =
            self.0.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn seconds(&mut self, name: &str, help: &str, value: Duration) -> fmt::Result {
        let encoder =
            self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(value.as_secs_f64()).encode(encoder)
    }

    /// `name` without `_total`, which the format adds.
    fn counter(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeCounterValue + Copy,
    ) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        // The encoder adds the buckets up. The last must end at infinity, not at the highest number:
        // a histogram without `le="+Inf"` has no quantile.
        let bound =
            |bound: Option<Duration>| bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64());
        let buckets: Vec<(f64, u64)> =
            histogram.buckets().map(|(upper, count)| (bound(upper), count)).collect();
        let unit = Some(&Unit::Seconds);
        let mut encoder = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        let (sum, count) = (histogram.sum().as_secs_f64(), histogram.count());
        encoder.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
    }

    fn times(&mut self, counters: &Counters) -> fmt::Result {
        let help = "From the arrival of a request to its final reply, for clients of this node";
        self.histogram("broker_request_duration", help, &counters.request_times)?;
        let help = "From the arrival of a request to the first worker, or node, that got it";
        self.histogram("broker_queue_duration", help, &counters.queue_times)?;
        let help = "From a question to mmi.service to its answer";
        self.histogram("broker_lookup_duration", help, &counters.lookup_times)
    }

    fn process(&mut self, process: ProcessTotals) -> fmt::Result {
        if let Some(cpu) = process.cpu {
            let (name, help) = ("process_cpu", "Processor time of this process");
            let unit = Some(&Unit::Seconds);
            let encoder = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
            ConstCounter::new(cpu.as_secs_f64()).encode(encoder)?;
        }
        if let Some(bytes) = process.resident_bytes {
            let help = "Memory of this process";
            self.bytes(
                "process_resident_memory",
                help,
                usize::try_from(bytes).unwrap_or_default(),
            )?;
        }
        if let Some(files) = process.open_files {
            let help = "Open files of this process, connections above all";
            self.gauge("process_open_fds", help, files)?;
        }
        match process.open_files_max {
            Some(files) => self.gauge("process_max_fds", "How many files may be open", files),
            None => Ok(()),
        }
    }

    fn info(&mut self, name: &str, help: &str, labels: &impl EncodeLabelSet) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    fn broker(&mut self, scrape: &Scrape) -> fmt::Result {
        let gauges = scrape.report.gauges;
        let help = "Services with workers or requests on this node";
        self.gauge("broker_services", help, gauges.services)?;
        self.gauge("broker_workers", "Workers of this node", gauges.workers)?;
        self.gauge("broker_idle_workers", "Workers that wait for work", gauges.idle_workers)?;
        let help = "Requests that wait for a worker";
        self.gauge("broker_queued_requests", help, gauges.queued_requests)?;
        self.gauge("broker_held_requests", "Requests that a worker has", gauges.held_requests)?;
        let help = "Requests that another node has";
        self.gauge("broker_forwarded_requests", help, gauges.forwarded_requests)?;
        let help = "Bytes of waiting, held and forwarded requests";
        self.bytes("broker_queued", help, gauges.queued_bytes)?;
        let help = "How many bytes those may be: broker.max_queued_bytes";
        self.bytes("broker_queued_max", help, scrape.report.queued_bytes_max)?;
        let help = "How long the oldest request has waited for a worker";
        self.seconds("broker_oldest_request_age", help, gauges.oldest_request_age)?;
        let help = "Index of the log up to which the answering catalog was applied";
        self.gauge("broker_applied_index", help, scrape.report.applied_index)?;
        self.waiting(&scrape.report.waiting)
    }

    /// Only services with waiting requests, and not all of them: their number is for clients to say.
    fn waiting(&mut self, waiting: &[ServiceStatus]) -> fmt::Result {
        let help = "Requests that wait for a worker, of the services with the most of them";
        let name = "broker_service_queued_requests";
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for service in waiting {
            let labels = [("service", service.name.to_string())];
            ConstGauge::new(service.queued).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counters(&mut self, counters: &Counters) -> fmt::Result {
        let rows = [
            ("broker_requests", "Requests of clients, mmi.* not counted", counters.requests),
            ("broker_mmi_requests", "Requests for mmi.*", counters.mmi_requests),
            ("broker_dispatched_requests", "Requests given to a worker", counters.dispatched),
            ("broker_replies", "Final replies to clients", counters.replied),
            ("broker_partial_replies", "Partial replies to clients", counters.partials),
            (
                "broker_redispatched_requests",
                "Requests taken back from a lost worker",
                counters.redispatched,
            ),
            (
                "broker_undelimited_replies",
                "Replies of workers without the empty frame behind the client address",
                counters.undelimited_replies,
            ),
            ("broker_registrations", "Registrations acknowledged", counters.registrations),
            (
                "broker_refused_registrations",
                "Registrations refused",
                counters.refused_registrations,
            ),
            (
                "broker_expired_workers",
                "Workers that were silent for too long",
                counters.expired_workers,
            ),
            ("broker_pauses", "Times that the process stood still", counters.pauses),
        ];
        rows.into_iter().try_for_each(|(name, help, value)| self.counter(name, help, value))
    }

    fn connections(&mut self, totals: &TransportTotals, counters: &Counters) -> fmt::Result {
        let help = "Connections of clients and workers";
        self.gauge("broker_connections", help, totals.connections)?;
        let help = "Connections whose peer has not introduced itself yet";
        self.gauge("broker_connections_new", help, totals.strangers)?;
        let help = "Connections that were accepted";
        self.counter("broker_connections_accepted", help, totals.accepted)?;
        let help = "Connections that ended before their peer had introduced itself, by reason";
        let counts = totals.refused_by_reason();
        self.counted_by("broker_connections_refused", help, "reason", counts)?;
        let help = "Connections that ended later, by reason";
        let counts = totals.lost_by_reason();
        self.counted_by("broker_connections_lost", help, "reason", counts)?;
        let help = "Messages that wait for slow peers";
        self.gauge("broker_outgoing_messages", help, totals.outgoing_messages)?;
        self.bytes("broker_outgoing", "Bytes that wait for slow peers", totals.outgoing_bytes)?;
        let help = "Peers given up because they read nothing";
        self.counter("broker_stalled_peers", help, totals.lost("stalled"))?;
        let help = "Peers given up because too much waited for them";
        self.counter("broker_overflowed_peers", help, totals.lost("overflow"))?;
        self.dropped(counters, totals.dropped_messages)
    }

    fn dropped(&mut self, counters: &Counters, unread: u64) -> fmt::Result {
        let help = "Requests, replies and commands that were dropped, by reason";
        let reasons = DropReason::all().map(|reason| (reason.label(), counters.dropped(reason)));
        let reasons = reasons.chain([("peer_not_reading", unread)]);
        self.counted_by("broker_dropped_messages", help, "reason", reasons)
    }

    /// A counter for each value of one label. What has not happened yet is there, too, with zero:
    /// the first of its kind would be no rise to Prometheus if its series began with it.
    fn counted_by<L: EncodeLabelValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        counts: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in counts {
            ConstCounter::new(count).encode(family.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }

    fn relay(&mut self, relay: &RelayReport, counters: &Counters) -> fmt::Result {
        let rows = [
            ("relay_forwarded_requests", "Requests sent to other nodes", counters.forwarded),
            (
                "relay_returned_requests",
                "Requests that came back, and no worker had had",
                counters.returned,
            ),
            (
                "relay_recalled_requests",
                "Requests asked back for a worker elsewhere",
                counters.recalled,
            ),
            ("relay_received_requests", "Requests of other nodes", counters.forwards_received),
            ("relay_sent_replies", "Final replies sent to other nodes", counters.forwards_replied),
            ("relay_malformed_messages", "Messages that no node sends", relay.totals.malformed),
        ];
        rows.into_iter().try_for_each(|(name, help, value)| self.counter(name, help, value))?;
        let help =
            "Waiting requests for services that only nodes offer which this one cannot reach";
        self.gauge("relay_unreachable_requests", help, relay.unreachable_requests)?;
        let help = "Messages that wait for nodes that read slowly";
        self.gauge("relay_outgoing_messages", help, relay.totals.waiting_messages)?;
        let help = "Bytes that wait for nodes that read slowly";
        self.bytes("relay_outgoing", help, relay.totals.waiting_bytes)?;
        self.relay_links(&relay.links)?;
        self.relay_losses(&relay.totals)
    }

    fn relay_links(&mut self, links: &[LinkState]) -> fmt::Result {
        let help = "Whether a link is there, by the other node and what this node is on it";
        let mut family =
            self.0.encode_descriptor("relay_link_up", help, None, MetricType::Gauge)?;
        for link in links {
            for (role, is_up) in [("origin", link.to), ("owner", link.from)] {
                let labels = [("peer", link.node.as_str()), ("role", role)];
                ConstGauge::new(i64::from(is_up)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn relay_losses(&mut self, totals: &RelayTotals) -> fmt::Result {
        let help = "Links that were made, by wire version";
        let mut made: BTreeMap<u16, u64> =
            (RELAY_WIRE.min..=RELAY_WIRE.max).map(|wire| (wire, 0)).collect();
        made.extend(&totals.made);
        self.counted_by("relay_made_links", help, "wire", made)?;
        let help = "Links that ended, by reason";
        let count = |loss| totals.lost.get(&loss).copied().unwrap_or_default();
        let lost = LinkLoss::ALL.into_iter().map(|loss| (loss.label(), count(loss)));
        self.counted_by("relay_lost_links", help, "reason", lost)?;
        let help = "Links that were refused, by reason and what this node would have been";
        let mut family =
            self.0.encode_descriptor("relay_refused_links", help, None, MetricType::Counter)?;
        for (role, refused) in [("origin", &totals.refused_here), ("owner", &totals.refused)] {
            for reason in RefusalReason::LABELS {
                let labels = [("reason", reason), ("role", role)];
                let count = refused.get(reason).copied().unwrap_or_default();
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn reads(&mut self, reads: ReadTotals) -> fmt::Result {
        self.counter("lookups", "Questions to the cluster", reads.lookups)?;
        self.counter("lookup_rounds", "Rounds of reads that carried them", reads.rounds)?;
        let help = "Questions to the cluster that found no quorum";
        self.counter("lookups_without_quorum", help, reads.without_quorum)
    }

    fn raft(&mut self, status: &ClusterStatus) -> fmt::Result {
        self.gauge("raft_term", "Term", status.term)?;
        let help = "Whether this node leads";
        self.gauge("raft_is_leader", help, i64::from(status.is_leader()))?;
        let help = "Whether this node knows a leader";
        self.gauge("raft_has_leader", help, i64::from(status.leader.is_some()))?;
        let help = "Last entry of the log known to be committed";
        self.gauge("raft_committed_index", help, status.committed_index)?;
        self.gauge("raft_applied_index", "Last applied entry", status.applied_index)?;
        self.gauge("raft_last_log_index", "Last entry of the log", status.last_log_index)?;
        let help = "Entry up to which the last snapshot stands for the log";
        self.gauge("raft_snapshot_index", help, status.snapshot_index)?;
        let help = "Calls to other nodes, by the format that both speak";
        let formats = status.call_formats.iter().copied();
        self.counted_by("raft_sent_calls", help, "format", formats)?;
        let help = "Calls of other nodes that were refused because of who called, by reason";
        let refused = status.refused_calls.iter().copied();
        self.counted_by("raft_refused_calls", help, "reason", refused)?;
        let help = "Commits to the data directory, with their syncs";
        self.histogram("raft_commit_duration", help, &status.commit_times)?;
        self.upgrade(&status.upgrade)?;
        let help = "Whether a change of members is not finished, as the log of this node shows it";
        let is_changing = i64::from(status.member_change.is_some());
        self.gauge("raft_member_change_in_progress", help, is_changing)?;
        let help =
            "Voters that the leader, or a node without one, has not heard for an election timeout";
        self.gauge("raft_unheard_voters", help, status.unheard_voters)?;
        self.members(&status.members)
    }

    fn upgrade(&mut self, upgrade: &UpgradeStatus) -> fmt::Result {
        let version = upgrade.cluster_version.map_or_else(String::new, |known| known.to_string());
        let help = "The cluster's version, as this node knows it";
        self.info("cluster_version", help, &[("version", version.as_str())])?;
        let help = "Whether all members run a newer version than the cluster's";
        self.gauge("cluster_upgrade_pending", help, i64::from(upgrade.target.is_some()))
    }

    fn members(&mut self, members: &[MemberStatus]) -> fmt::Result {
        let help = "Members of the cluster, by role";
        let mut family = self.0.encode_descriptor("raft_members", help, None, MetricType::Gauge)?;
        for (role, label) in [(Role::Voter, "voter"), (Role::Learner, "learner")] {
            let count = members.iter().filter(|member| member.role == role).count();
            let labels = [("role", label)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        let unheard =
            members.iter().filter_map(|member| Some((member.name.as_str(), member.unheard_for?)));
        let help = "How long a member has been unheard: by the leader, or by a node without one";
        let (name, unit) = ("raft_member_unheard", Some(&Unit::Seconds));
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (member, time) in unheard {
            let labels = [("member", member)];
            ConstGauge::new(time.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn catalog(&mut self, catalog: CatalogTotals) -> fmt::Result {
        let help = "Services that the cluster offers";
        self.gauge("catalog_services", help, catalog.services)?;
        let help = "Nodes that the catalog knows, by state";
        let mut family =
            self.0.encode_descriptor("catalog_nodes", help, None, MetricType::Gauge)?;
        let counts = [catalog.up, catalog.draining, catalog.gone];
        for (state, count) in ["up", "draining", "gone"].into_iter().zip(counts) {
            let labels = [("state", state)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn link(&mut self, link: &LinkTotals) -> fmt::Result {
        let rows = [
            ("cluster_calls", "Calls to other nodes", link.sent),
            ("cluster_answered_calls", "Calls answered in time", link.answered),
            ("cluster_timed_out_calls", "Calls not answered in time", link.timed_out),
            ("cluster_lost_calls", "Calls whose connection was lost first", link.lost),
            ("cluster_refused_calls", "Calls not made: too many waited", link.refused),
            ("cluster_late_answers", "Answers that came too late", link.late_answers),
            ("cluster_received_calls", "Calls of other nodes", link.received),
            ("cluster_dropped_calls", "Calls of other nodes that were dropped", link.dropped),
            ("cluster_malformed_messages", "Messages that were no calls", link.malformed),
            ("cluster_lost_answers", "Answers that could not be sent", link.lost_answers),
            ("cluster_keys_errors", "Failures to read cluster.keys_dir again", link.keys_errors),
        ];
        rows.into_iter().try_for_each(|(name, help, value)| self.counter(name, help, value))?;
        self.gauge("cluster_node_keys", "Nodes whose key is in cluster.keys_dir", link.node_keys)
    }
}
