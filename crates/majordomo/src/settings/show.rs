//! A checked configuration for people (TOML, with the origin of each value) and for programs (JSON).

use std::fmt;

use serde_json::{Map, Value};

use super::{
    Settings,
    keys::{KEYS, SERVICE_KEYS, SERVICE_SECTION},
    origin_of,
};

/// Origins stand in one column, unless a value is longer than this.
const ORIGIN_COLUMN: usize = 48;

impl Settings {
    /// Every section with its keys.
    pub(crate) fn to_json(&self) -> Value {
        let mut sections = Map::new();
        for (key, known) in self.in_order() {
            let section = sections.entry(key.section()).or_insert_with(|| Map::new().into());
            if let Value::Object(section) = section {
                section.insert(key.last().to_owned(), known.setting.to_json());
            }
        }
        let rules = self.rules.iter().map(|rule| {
            let keys =
                rule.settings.iter().map(|(name, value)| ((*name).to_owned(), value.to_json()));
            Value::Object(keys.collect())
        });
        sections.insert(SERVICE_SECTION.to_owned(), rules.collect());
        Value::Object(sections)
    }

    fn in_order(&self) -> impl Iterator<Item = (&'static super::keys::Key, &super::Known)> {
        KEYS.iter().filter_map(|key| self.values.get(key.name).map(|known| (key, known)))
    }
}

/// TOML that reads back as the same configuration.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = "";
        for (key, known) in self.in_order() {
            if key.section() != section {
                let line_before = if section.is_empty() { "" } else { "\n" };
                section = key.section();
                writeln!(f, "{line_before}[{section}]")?;
            }
            let line = format!("{} = {}", key.last(), known.setting);
            writeln!(f, "{line:<ORIGIN_COLUMN$} # {}", origin_of(&known.raw))?;
        }
        for rule in &self.rules {
            writeln!(f, "\n[[{SERVICE_SECTION}]]")?;
            for key in SERVICE_KEYS {
                if let Some(setting) = rule.settings.get(key.name) {
                    writeln!(f, "{} = {setting}", key.name)?;
                }
            }
        }
        Ok(())
    }
}
