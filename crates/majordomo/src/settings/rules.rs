//! The `[[service]]` rules: what differs for the services whose name a pattern matches.

use std::collections::BTreeMap;

use config::{Map, Value};

use super::{
    keys::{PATTERN_KEY, SERVICE_KEYS},
    kind::Setting,
    layers::rule_key,
    problem::Problem,
};

/// One rule: its pattern and the keys that it sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The value of each key that the rule has, by its name.
    pub(crate) settings: BTreeMap<&'static str, Setting>,
}

impl Rule {
    /// Which services the rule is for.
    pub(crate) fn pattern(&self) -> &str {
        let Some(Setting::Text(pattern)) = self.settings.get(PATTERN_KEY) else { return "" };
        pattern
    }
}

/// Checks every rule.
pub(crate) fn read(tables: &[Map<String, Value>], problems: &mut Vec<Problem>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::with_capacity(tables.len());
    for (index, table) in tables.iter().enumerate() {
        let rule = read_rule(index, table, problems);
        // The first matching rule counts, so a later one may be dead.
        let shadow = rules.iter().position(|earlier| {
            matches!(earlier.pattern(), "*")
                || earlier == &rule
                || earlier.pattern() == rule.pattern()
        });
        if let (Some(earlier), Some(pattern)) = (shadow, table.get(PATTERN_KEY)) {
            let reason = format!(
                "{} comes first and matches every such service",
                rule_key(earlier, PATTERN_KEY)
            );
            problems.push(Problem::refused(&rule_key(index, PATTERN_KEY), pattern, &reason));
        }
        rules.push(rule);
    }
    rules
}

fn read_rule(index: usize, table: &Map<String, Value>, problems: &mut Vec<Problem>) -> Rule {
    let mut rule = Rule::default();
    for key in SERVICE_KEYS {
        let Some(raw) = table.get(key.name) else { continue };
        match key.kind.read(&raw.kind) {
            Ok(setting) => {
                rule.settings.insert(key.name, setting);
            }
            Err(wanted) => problems.push(Problem::value(&rule_key(index, key.name), raw, &wanted)),
        }
    }
    rule
}
