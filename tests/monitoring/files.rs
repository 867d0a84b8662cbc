//! The dashboard and the rules as they are shipped, made ready for a test of a minute.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::prometheus::NAMESPACE;

/// What every metric of this project begins with.
const PREFIX: &str = "majordomo_";

/// The ranges of the dashboard and of the rules, and how long they are here.
const RANGE: &str = "10s";

/// How long an alert has to hold.
const FOR: &str = "1s";

fn read(name: &str) -> String {
    let folder = "../deploy/kubernetes/components/monitoring";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The groups of rules for Prometheus itself, with short times.
pub(crate) fn rules() -> String {
    let text = read("rules.yaml");
    let (_, spec) = text.split_once("\nspec:\n").unwrap();
    let lines = spec.lines().map(|line| line.strip_prefix("  ").unwrap_or(line));
    let lines = lines.map(|line| match line.split_once("for: ") {
        Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: {FOR}\n"),
        _ => format!("{}\n", with_short_ranges(line)),
    });
    lines.collect()
}

/// Title and expression of each panel of the dashboard.
pub(crate) fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let of_panel = |panel: &Value| {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let expressions = targets
            .into_iter()
            .map(|target| target["expr"].as_str().unwrap().replace("$namespace", NAMESPACE));
        expressions
            .map(|text| (title.clone(), text.replace("$__rate_interval", RANGE)))
            .collect::<Vec<_>>()
    };
    panels.flat_map(of_panel).collect()
}

/// `[5m]` as `[10s]`, and `offset 15m` as `offset 10s`.
fn with_short_ranges(text: &str) -> String {
    let mut short = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((_, behind)) = after.split_once(']') else { break };
        short += &format!("{before}[{RANGE}]");
        rest = behind;
    }
    (short + rest).replace("offset 15m", &format!("offset {RANGE}"))
}

/// The selectors of an expression: names of metrics, with the labels that are asked for.
pub(crate) fn selectors(expression: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find(PREFIX) {
        let from = rest.get(at..).unwrap();
        let name = from.find(|c| !is_part(c)).unwrap_or(from.len());
        let labels = from.get(name..).filter(|labels| labels.starts_with('{'));
        let end = labels.and_then(|labels| labels.find('}')).map_or(name, |end| name + end + 1);
        found.push(from.get(..end).unwrap().to_owned());
        rest = from.get(end..).unwrap();
    }
    found
}

#[test]
fn selectors_are_found_with_their_labels() {
    let text = r#"sum by (le) (rate(majordomo_a_total{x=~"a|b"}[5m])) / majordomo_b > 0"#;
    assert_eq!(selectors(text), [r#"majordomo_a_total{x=~"a|b"}"#, "majordomo_b"]);
}

#[test]
fn times_are_shortened() {
    let text = "max(a) - max(a offset 15m) + rate(b[5m]) + c[1h]";
    let short = "max(a) - max(a offset 10s) + rate(b[10s]) + c[10s]";
    assert_eq!(with_short_ranges(text), short);
    let rules = rules();
    assert!(rules.starts_with("groups:\n- name: majordomo\n"), "{rules}");
    assert!(rules.contains("    for: 1s\n") && !rules.contains("m]"), "{rules}");
}
