//! One look at everything, as text and as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Asked;
use crate::{
    commands::view::{cell, items},
    table::{Align, Table},
};

/// How many services are shown.
const SERVICES_MAX: usize = 40;

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

    /// The view of the node that knows most of the log.
    fn cluster(&self) -> Option<&Value> {
        let views = self.asked.iter().filter_map(|asked| asked.cluster.as_ref());
        views.max_by_key(|view| view.get("applied_index").and_then(Value::as_u64))
    }

    fn asked_as(&self, name: &str) -> Option<&Asked> {
        self.asked.iter().find(|asked| {
            asked.cluster.as_ref().is_some_and(|cluster| cell(cluster, "node") == name)
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(cluster) = self.cluster() {
            text += &format!(
                "cluster version {}, term {}, {} leads\n\n",
                cell(cluster, "cluster_version"),
                cell(cluster, "term"),
                cell(cluster, "leader"),
            );
            text += &self.nodes(cluster).to_string();
            text += "\n";
            text += &self.services().to_string();
        }
        for failure in self.asked.iter().filter_map(|asked| asked.failure.as_ref()) {
            text += &format!("\n{failure}\n");
        }
        text
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
        for node in items(cluster, "nodes") {
            let name = cell(node, "name");
            let mark = if name == leader { "*" } else { "" };
            let mut row = vec![format!("{name}{mark}"), cell(node, "state"), cell(node, "version")];
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

    /// The services with the most waiting requests first.
    fn services(&self) -> Table {
        let mut table = Table::new(&[
            ("SERVICE", Align::Left),
            ("QUEUED", Align::Right),
            ("WORKERS", Align::Right),
            ("IDLE", Align::Right),
            ("NODES", Align::Left),
        ]);
        let mut services: Vec<(String, Service)> = self.services_by_name().into_iter().collect();
        services.sort_by_key(|(_, service)| std::cmp::Reverse(service.queued));
        let left_out = services.len().saturating_sub(SERVICES_MAX);
        for (name, service) in services.into_iter().take(SERVICES_MAX) {
            let Service { nodes, workers, idle, queued } = service;
            let nodes = nodes.into_iter().collect::<Vec<_>>().join(", ");
            let [queued, workers, idle] = [queued, workers, idle].map(|count| count.to_string());
            table.row([name, queued, workers, idle, nodes]);
        }
        if left_out > 0 {
            table.row([format!("and {left_out} more"), String::new()]);
        }
        table
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
