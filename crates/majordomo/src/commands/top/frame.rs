//! One look at everything, as text and as JSON.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::{Value, json};

use super::Asked;
use crate::{
    commands::view::{cell, items, last_known, state_cell},
    table::{Align, Table, shortened},
};

/// How many services are shown.
const SERVICES_MAX: usize = 40;

/// What is left out of the table of nodes where it does not fit, first to last.
const NODE_DISPENSABLE: [&str; 9] =
    ["RELAY/S", "P50", "VERSION", "REPLY/S", "CPU", "IDLE", "OLDEST", "DROP/S", "MEM"];

/// Of what the text is shown on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Size {
    /// Of a file or a pipe.
    pub(super) const ENDLESS: Self = Self { columns: usize::MAX, rows: usize::MAX };
}

/// One look.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    asked: &'a [Asked],
}

/// A service as all nodes that were asked have it together.
#[derive(Debug, Default)]
struct Service {
    nodes: BTreeSet<String>,
    workers: u64,
    idle: u64,
    queued: u64,
}

impl<'a> Frame<'a> {
    pub(super) const fn of(asked: &'a [Asked]) -> Self {
        Self { asked }
    }

    /// The view of a node that hears a majority, if there is one, and knows most of the log.
    fn cluster(&self) -> Option<&Value> {
        let views = self.asked.iter().filter_map(|asked| asked.cluster.as_ref());
        views.max_by_key(|view| {
            (last_known(view).is_empty(), view.get("applied_index").and_then(Value::as_u64))
        })
    }

    fn asked_as(&self, name: &str) -> Option<&Asked> {
        self.asked.iter().find(|asked| {
            asked.cluster.as_ref().is_some_and(|cluster| cell(cluster, "node") == name)
        })
    }

    /// The look as text: trouble first, so that a terminal that is too low cuts what is well.
    pub(super) fn text(&self, size: Size) -> String {
        let mut lines: Vec<String> = self.failures(size);
        if let Some(cluster) = self.cluster() {
            let said = last_known(cluster).trim_end();
            lines.extend([said.to_owned()].into_iter().filter(|said| !said.is_empty()));
            lines.push(format!(
                "cluster version {}, term {}, {} leads",
                cell(cluster, "cluster_version"),
                cell(cluster, "term"),
                cell(cluster, "leader"),
            ));
            lines.push(String::new());
            let mut nodes = self.nodes(cluster);
            nodes.fit(size.columns, &NODE_DISPENSABLE);
            lines.extend(nodes.to_string().lines().map(str::to_owned));
            lines.push(String::new());
            // The header, and the line that says how many there are more.
            let left = size.rows.saturating_sub(lines.len() + 2).min(SERVICES_MAX);
            let (mut services, left_out) = self.services(left);
            services.fit(size.columns, &["IDLE"]);
            lines.extend(services.to_string().lines().map(str::to_owned));
            if left_out > 0 {
                lines.push(format!("and {left_out} more"));
            }
        }
        lines.join("\n") + "\n"
    }

    /// The nodes that do not answer, a line for each, in at most a third of the rows.
    fn failures(&self, size: Size) -> Vec<String> {
        let failures: Vec<_> = self.asked.iter().filter_map(|one| one.failure.as_ref()).collect();
        let shown = failures.len().min((size.rows / 3).max(1));
        let mut lines: Vec<String> = failures
            .iter()
            .take(shown)
            .map(|failure| shortened(&failure.brief(), size.columns))
            .collect();
        if failures.len() > shown {
            lines.push(format!("and {} more do not answer", failures.len() - shown));
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines
    }

    fn nodes(&self, cluster: &Value) -> Table {
        let right = |title| (title, Align::Right);
        let mut table = Table::new(&[
            ("NODE", Align::Left),
            ("STATE", Align::Left),
            ("VERSION", Align::Left),
            right("REQ/S"),
            right("REPLY/S"),
            right("RELAY/S"),
            right("DROP/S"),
            right("P50"),
            right("P99"),
            right("QUEUED"),
            right("OLDEST"),
            right("WORKERS"),
            right("IDLE"),
            right("CPU"),
            right("MEM"),
        ]);
        let leader = cell(cluster, "leader");
        let mut nodes: Vec<&Value> = items(cluster, "nodes").iter().collect();
        nodes.sort_by_key(|node| cell(node, "state") == "up");
        for node in nodes {
            let name = cell(node, "name");
            let mark = if name == leader { "*" } else { "" };
            let mut row = vec![format!("{name}{mark}"), state_cell(node), cell(node, "version")];
            row.extend(self.numbers(&name));
            table.row(row);
        }
        table
    }

    /// Of a node that was asked itself: nobody else knows them.
    fn numbers(&self, name: &str) -> Vec<String> {
        let asked = self.asked_as(name);
        let Some(sample) = asked.and_then(|asked| asked.last.as_ref()) else {
            return vec!["-".to_owned(); 12];
        };
        let rates = asked.and_then(|asked| asked.rates);
        let rate =
            |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
        let number = |name: &str| format!("{:.0}", sample.number(name));
        vec![
            rate(rates.map(|rates| rates.requests)),
            rate(rates.map(|rates| rates.replies)),
            rate(rates.map(|rates| rates.forwarded)),
            rate(rates.map(|rates| rates.dropped)),
            within(rates.and_then(|rates| rates.p50)),
            within(rates.and_then(|rates| rates.p99)),
            number("broker_queued_requests"),
            format!("{:.1} s", sample.number("broker_oldest_request_age_seconds")),
            number("broker_workers"),
            number("broker_idle_workers"),
            rates.map_or_else(|| "-".to_owned(), |rates| format!("{:.0} %", rates.cpu * 100.0)),
            format!("{:.0} MiB", sample.number("process_resident_memory_bytes") / 1_048_576.0),
        ]
    }

    fn services_by_name(&self) -> BTreeMap<String, Service> {
        let mut services = BTreeMap::<String, Service>::new();
        for page in self.asked.iter().filter_map(|asked| asked.services.as_ref()) {
            for entry in items(page, "services") {
                let service = services.entry(cell(entry, "name")).or_default();
                let count = |key: &str| entry.get(key).and_then(Value::as_u64).unwrap_or_default();
                let nodes = items(entry, "nodes").iter().filter_map(Value::as_str);
                service.nodes.extend(nodes.map(str::to_owned));
                service.workers += count("workers");
                service.idle += count("idle");
                service.queued += count("queued");
            }
        }
        services
    }

    /// Services that requests wait for without any worker first, then those with the most waiting
    /// requests; and how many are left out.
    fn services(&self, services_max: usize) -> (Table, usize) {
        let mut table = Table::new(&[
            ("SERVICE", Align::Left),
            ("QUEUED", Align::Right),
            ("WORKERS", Align::Right),
            ("IDLE", Align::Right),
            ("NODES", Align::Left),
        ]);
        let mut services: Vec<(String, Service)> = self.services_by_name().into_iter().collect();
        let is_served = |service: &Service| service.queued == 0 || !service.nodes.is_empty();
        services.sort_by_key(|(_, service)| (is_served(service), Reverse(service.queued)));
        let left_out = services.len().saturating_sub(services_max);
        for (name, service) in services.into_iter().take(services_max) {
            let Service { nodes, workers, idle, queued } = service;
            let nodes = nodes.into_iter().collect::<Vec<_>>().join(", ");
            let nodes = if nodes.is_empty() { "-".to_owned() } else { nodes };
            let [queued, workers, idle] = [queued, workers, idle].map(|count| count.to_string());
            table.row([name, queued, workers, idle, nodes]);
        }
        (table, left_out)
    }

    pub(super) fn json(&self) -> Value {
        let nodes: Vec<Value> = self
            .asked
            .iter()
            .map(|asked| {
                let number = |name| asked.last.as_ref().map(|sample| sample.number(name));
                let rates = asked.rates;
                json!({
                    "node": asked.cluster.as_ref().and_then(|cluster| cluster.get("node")),
                    "failure": asked.failure.as_ref().map(ToString::to_string),
                    "requests_per_second": rates.map(|rates| rates.requests),
                    "replies_per_second": rates.map(|rates| rates.replies),
                    "relayed_per_second": rates.map(|rates| rates.forwarded),
                    "dropped_per_second": rates.map(|rates| rates.dropped),
                    "cpu": rates.map(|rates| rates.cpu),
                    "p50_seconds": rates.and_then(|rates| rates.p50),
                    "p99_seconds": rates.and_then(|rates| rates.p99),
                    "queued": number("broker_queued_requests"),
                    "oldest_seconds": number("broker_oldest_request_age_seconds"),
                    "workers": number("broker_workers"),
                    "idle": number("broker_idle_workers"),
                    "resident_bytes": number("process_resident_memory_bytes"),
                })
            })
            .collect();
        let services: Vec<Value> = self
            .services_by_name()
            .into_iter()
            .map(|(name, service)| {
                let Service { nodes, workers, idle, queued } = service;
                json!({
                    "name": name, "nodes": nodes, "workers": workers, "idle": idle, "queued": queued,
                })
            })
            .collect();
        json!({ "cluster": self.cluster(), "nodes": nodes, "services": services })
    }
}

/// The bound of a bucket, in seconds, as a person reads it.
fn within(bound: Option<f64>) -> String {
    match bound {
        None => "-".to_owned(),
        Some(bound) if bound.is_infinite() => ">60 s".to_owned(),
        Some(bound) if bound < 1.0 => format!("<{} ms", bound * 1_000.0),
        Some(bound) => format!("<{bound} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_read_well() {
        let bounds = [None, Some(0.0025), Some(2.5), Some(f64::INFINITY)].map(within);
        assert_eq!(bounds, ["-", "<2.5 ms", "<2.5 s", ">60 s"]);
    }
}
