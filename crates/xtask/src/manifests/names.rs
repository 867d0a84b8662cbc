//! Names of alerts and metrics in the files.

use std::{collections::BTreeSet, fs, path::Path};

use crate::run::Failure;

/// What every metric of this project begins with.
const PREFIX: &str = "majordomo_";
/// A test of rules makes its metrics up, but only those that the rules name have an effect.
const SKIPPED: &str = "rules-test.yaml";

/// The names of the alerts.
pub(super) fn alerts(rules: &str) -> Vec<&str> {
    rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

/// The groups of a PrometheusRule, as a file of rules for Prometheus itself.
pub(super) fn groups(rules: &str) -> Result<String, Failure> {
    let (_, spec) = rules
        .split_once("\nspec:\n")
        .ok_or_else(|| Failure::new("the PrometheusRule has no `spec:`"))?;
    let lines = spec.lines().map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line)));
    Ok(lines.collect())
}

/// `FILE: METRIC` for every metric in a folder that is not known.
pub(super) fn unknown(folder: &Path, known: &BTreeSet<String>) -> Result<Vec<String>, Failure> {
    let mut unknown = Vec::new();
    let failed = |error| Failure::new(format!("{}: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            unknown.extend(self::unknown(&path, known)?);
        } else if !path.ends_with(SKIPPED) {
            let text = fs::read_to_string(&path).map_err(failed)?;
            let named = metrics(&text).into_iter().filter(|name| !known.contains(*name));
            unknown.extend(named.map(|name| format!("{}: {name}", path.display())));
        }
    }
    Ok(unknown)
}

fn metrics(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    words.filter(|word| word.starts_with(PREFIX)).collect()
}

/// The names under which Prometheus keeps what a page shows: the format adds an ending to some, and
/// a family without a member has only its type.
pub(super) fn shown(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let endings = |kind| match kind {
        "counter" => &["_total"][..],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    types
        .flat_map(|(name, kind)| endings(kind).iter().map(move |end| format!("{name}{end}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_in_expressions() {
        let text = r#""expr": "rate(majordomo_a_total{x=\"majordomo\"}[5m]) - majordomo_b > 0""#;
        assert_eq!(metrics(text), BTreeSet::from(["majordomo_a_total", "majordomo_b"]));
    }

    #[test]
    fn shown_names_have_the_endings_of_their_types() {
        let page = "# TYPE majordomo_a counter\n# TYPE majordomo_b gauge\n# HELP x y\n\
                    # TYPE majordomo_build info\n# TYPE majordomo_h histogram\nmajordomo_z 1\n";
        let names = [
            "majordomo_a_total",
            "majordomo_b",
            "majordomo_build_info",
            "majordomo_h_bucket",
            "majordomo_h_count",
            "majordomo_h_sum",
        ];
        assert_eq!(shown(page), names.map(str::to_owned).into());
    }

    #[test]
    fn groups_are_what_stands_below_the_spec() {
        let rules =
            "kind: PrometheusRule\nspec:\n  groups:\n  - name: x\n    rules:\n    - alert: A\n";
        assert_eq!(groups(rules).unwrap(), "groups:\n- name: x\n  rules:\n  - alert: A\n");
        assert_eq!(alerts(rules), ["A"]);
    }
}
