//! What the schemas allow and users came to grief by.

use std::{collections::BTreeMap, path::Path};

use super::{read, render::Render};
use crate::run::Failure;

/// Ranges for documentation (RFC 5737): placeholders that let no client in until they are replaced.
const PLACEHOLDERS: [&str; 3] = ["192.0.2.", "198.51.100.", "203.0.113."];
/// Within how many seconds a node that stands still is killed, by each probe that may kill it.
const KILLED_WITHIN_SECONDS: u64 = 75;
const KILLING_PROBES: [&str; 2] = ["startupProbe", "livenessProbe"];
const AUTOSCALER: &str = "deploy/kubernetes/examples/worker/hpa/autoscaler.yaml";
const ADAPTER_RULES: &str = "deploy/kubernetes/examples/worker/hpa/adapter-rules.yaml";
/// Where users read how to deploy.
const DOCUMENTS: [&str; 5] = [
    "README.md",
    "deploy/README.md",
    "docs/operating.md",
    "deploy/kubernetes/overlays/canary/kustomization.yaml",
    "deploy/kubernetes/overlays/prod/kustomization.yaml",
];
/// `kubectl kustomize` renders, and has no such command.
const NOT_IN_KUBECTL: &str = "kustomize edit";

/// Everything that is looked for.
pub(super) fn check(root: &Path, renders: &[Render]) -> Result<(), Failure> {
    for render in renders {
        let wrong = open_block(&render.text).or_else(|| slow_probe(&render.text));
        if let Some(wrong) = wrong {
            return Err(Failure::new(format!("{}: {wrong}", render.name)));
        }
    }
    let (autoscaler, rules) = (read(root, AUTOSCALER)?, read(root, ADAPTER_RULES)?);
    if let Some(metric) = without_rule(&autoscaler, &rules) {
        return Err(Failure::new(format!("{ADAPTER_RULES} has no rule for {metric}")));
    }
    for document in DOCUMENTS {
        if read(root, document)?.contains(NOT_IN_KUBECTL) {
            return Err(Failure::new(format!("{document}: kubectl has no `{NOT_IN_KUBECTL}`")));
        }
    }
    Ok(())
}

/// A range of addresses in a NetworkPolicy that is real, or that has no exception for the pods.
fn open_block(render: &str) -> Option<String> {
    let lines: Vec<&str> = render.lines().map(str::trim).collect();
    lines.windows(3).filter(|window| window.first() == Some(&"- ipBlock:")).find_map(|window| {
        let [_, cidr, except] = window else { return None };
        let range = cidr.strip_prefix("cidr: ")?;
        if !PLACEHOLDERS.iter().any(|placeholder| range.starts_with(placeholder)) {
            return Some(format!("{range} may hold pods: take a range for documentation"));
        }
        (*except != "except:").then(|| format!("{range} has no `except` for the pods"))
    })
}

/// A probe that lets a node which stands still be there for too long.
fn slow_probe(render: &str) -> Option<String> {
    KILLING_PROBES.into_iter().find_map(|probe| {
        let fields = fields_of(render, probe)?;
        let number = |key| fields.get(key).and_then(|value| value.parse::<u64>().ok());
        let Some(grace) = number("terminationGracePeriodSeconds") else {
            return Some(format!(
                "{probe} leaves a process that stands still the pod's grace period"
            ));
        };
        let (period, failures) = (number("periodSeconds")?, number("failureThreshold")?);
        let seconds = period * failures + number("timeoutSeconds").unwrap_or(1) + grace;
        let is_slow = seconds > KILLED_WITHIN_SECONDS;
        is_slow.then(|| format!("{probe} takes {seconds} s, not at most {KILLED_WITHIN_SECONDS}"))
    })
}

/// The plain fields of a block, wherever it first stands.
fn fields_of<'a>(render: &'a str, block: &str) -> Option<BTreeMap<&'a str, &'a str>> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = render.lines().skip_while(|line| line.trim() != format!("{block}:"));
    let outer = indent(lines.next()?);
    let inner = lines.take_while(|line| indent(line) > outer);
    Some(inner.filter_map(|line| line.trim().split_once(": ")).collect())
}

/// An external metric that the autoscaler asks for, and that no rule of the adapter makes.
fn without_rule<'a>(autoscaler: &'a str, rules: &str) -> Option<&'a str> {
    let names = autoscaler.lines().filter_map(|line| line.trim().strip_prefix("name: "));
    let mut metrics = names.filter(|name| name.starts_with("majordomo_"));
    metrics.find(|metric| !rules.contains(&format!("seriesQuery: '{metric}{{")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_or_whole_range_is_open() {
        let block = |cidr: &str, rest: &str| format!("  - ipBlock:\n      cidr: {cidr}\n{rest}");
        let except = "      except:\n      - 203.0.113.128/25\n";

        assert_eq!(open_block(&block("203.0.113.0/24", except)), None);
        let real = open_block(&block("10.0.0.0/8", except)).unwrap();
        assert!(real.starts_with("10.0.0.0/8 may hold pods"), "{real}");
        let whole = open_block(&block("203.0.113.0/24", "    ports:\n")).unwrap();
        assert!(whole.contains("no `except`"), "{whole}");
    }

    #[test]
    fn probe_with_the_grace_period_of_the_pod_is_slow() {
        let probe = |rest: &str| {
            format!(
                "        livenessProbe:\n          failureThreshold: 6\n          periodSeconds: 10\n{rest}        name: x\n"
            )
        };
        let grace = |seconds| format!("          terminationGracePeriodSeconds: {seconds}\n");

        assert_eq!(slow_probe("kind: Service\n"), None);
        assert_eq!(slow_probe(&probe(&grace(5))), None);
        assert!(slow_probe(&probe("")).unwrap().contains("the pod's grace period"));
        assert!(slow_probe(&probe(&grace(60))).unwrap().contains("takes 121 s"));
    }

    #[test]
    fn metric_without_a_rule_is_found() {
        let autoscaler = "  name: echo\n        name: majordomo_a\n        name: majordomo_b\n";
        let rule = |name: &str| format!("  - seriesQuery: '{name}{{namespace!=\"\"}}'\n");

        assert_eq!(without_rule(autoscaler, &rule("majordomo_a")), Some("majordomo_b"));
        let both = rule("majordomo_a") + &rule("majordomo_b");
        assert_eq!(without_rule(autoscaler, &both), None);
    }
}
