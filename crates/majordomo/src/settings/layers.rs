//! The layers of a configuration: built-in defaults, then a file, then the environment, then flags.
//! Each value knows where it came from.

use std::{
    ffi::OsString,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use config::{Config, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::{
    keys::{self, KEYS, PATTERN_KEY, SERVICE_KEYS, SERVICE_SECTION},
    problem::{Problem, Problems, origin_of},
    variables as hints,
};

/// Environment variables that begin with this are configuration.
pub(crate) const VARIABLE_PREFIX: &str = "MAJORDOMO__";

/// Parts the section from the key in the name of a variable.
const VARIABLE_SEPARATOR: &str = "__";

/// A configuration file is written by a person; one that is longer than 1 MiB is another file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a configuration comes from, besides the built-in defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// The process' environment.
    pub(crate) variables: Vec<(OsString, OsString)>,
    /// Flags: key, value and the flag's name.
    pub(crate) flags: Vec<FlagValue>,
}

/// A flag that sets a key.
#[derive(Clone, Debug)]
pub(crate) struct FlagValue {
    /// The key, as in `broker.bind`.
    pub(crate) key: &'static str,
    /// The value that was given.
    pub(crate) value: String,
    /// The flag, as in `--bind`.
    pub(crate) flag: &'static str,
}

/// All layers, merged.
#[derive(Clone, Debug)]
pub(crate) struct Merged {
    /// The value of each key, in the order of [`KEYS`].
    pub(crate) values: Vec<Value>,
    /// The `[[service]]` rules in order.
    pub(crate) rules: Vec<Map<String, Value>>,
    /// Variables that are most likely meant otherwise.
    pub(crate) warnings: Vec<String>,
}

/// Reads and merges every layer. Unknown keys are found here, layer by layer.
pub(crate) fn merge(sources: &Sources) -> Result<Merged, Problems> {
    let mut problems = Vec::new();
    let file = sources.file.as_deref().map(read_file).transpose()?;
    if let Some(file) = &file {
        check_shape(file, &mut problems);
    }
    let variables = variables(&sources.variables, &mut problems);
    if !problems.is_empty() {
        problems.sort();
        return Err(Problems(problems));
    }
    let file = file.unwrap_or_default();
    let mut warnings = hints::nearly_keys(&sources.variables);
    warnings.extend(hints::empty(&variables, &file));
    let defaults = KEYS.iter().map(|key| layer_value(key.name, "default", key.default)).collect();
    let flags = sources
        .flags
        .iter()
        .map(|given| layer_value(given.key, &format!("flag {}", given.flag), &given.value));
    let merged = Config::builder()
        .add_source(Layer(defaults))
        .add_source(Layer(file))
        .add_source(Layer(variables))
        .add_source(Layer(flags.collect()))
        .build()
        .map_err(|error| Problem::other(error.to_string()))?;
    Ok(Merged { values: values_of(&merged.cache), rules: rules_of(&merged.cache), warnings })
}

fn values_of(root: &Value) -> Vec<Value> {
    let value_of = |key: &keys::Key| {
        let section = table(root).and_then(|root| root.get(key.section()));
        section.and_then(table).and_then(|section| section.get(key.last())).cloned()
    };
    KEYS.iter().map(|key| value_of(key).unwrap_or_else(|| Value::from(ValueKind::Nil))).collect()
}

fn rules_of(root: &Value) -> Vec<Map<String, Value>> {
    let rules = table(root).and_then(|root| root.get(SERVICE_SECTION)).map(|rules| &rules.kind);
    let Some(ValueKind::Array(rules)) = rules else { return Vec::new() };
    rules.iter().filter_map(table).cloned().collect()
}

fn table(value: &Value) -> Option<&Map<String, Value>> {
    let ValueKind::Table(table) = &value.kind else { return None };
    Some(table)
}

fn layer_value(key: &str, origin: &str, value: &str) -> (String, Value) {
    (key.to_owned(), Value::new(Some(&origin.to_owned()), value))
}

/// One layer whose values carry their origin.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The tables of a file; every value carries the file's name.
fn read_file(path: &Path) -> Result<Map<String, Value>, Problem> {
    let origin = format!("file {}", path.display());
    let file = fs::File::open(path).map_err(|error| {
        Problem::other(format!("{origin} cannot be opened (flag --config): {error}"))
    })?;
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| Problem::other(format!("{origin} cannot be read: {error}")))?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(Problem::other(format!("{origin} is longer than {FILE_BYTES_MAX} bytes")));
    }
    let mut tables = File::from_str(&text, FileFormat::Toml).collect().map_err(|error| {
        let cause = if let ConfigError::FileParse { cause, .. } = error {
            cause.to_string()
        } else {
            error.to_string()
        };
        Problem::other(format!("{origin} is not valid TOML: {}", cause.trim_end()))
    })?;
    tables.values_mut().for_each(|value| mark(value, &origin));
    Ok(tables)
}

/// Gives a value and everything in it an origin.
fn mark(value: &mut Value, origin: &str) {
    let mut kind = std::mem::take(&mut value.kind);
    match &mut kind {
        ValueKind::Table(table) => table.values_mut().for_each(|value| mark(value, origin)),
        ValueKind::Array(items) => items.iter_mut().for_each(|value| mark(value, origin)),
        ValueKind::Nil
        | ValueKind::Boolean(_)
        | ValueKind::I64(_)
        | ValueKind::I128(_)
        | ValueKind::U64(_)
        | ValueKind::U128(_)
        | ValueKind::Float(_)
        | ValueKind::String(_) => {}
    }
    *value = Value::new(Some(&origin.to_owned()), kind);
}

/// Finds keys and sections of a file that do not exist.
fn check_shape(file: &Map<String, Value>, problems: &mut Vec<Problem>) {
    for (section, value) in file {
        if section == SERVICE_SECTION {
            check_rules(value, problems);
            continue;
        }
        match table(value) {
            Some(table) if table.is_empty() && !keys::is_section(section) => {
                let sections = KEYS.iter().map(keys::Key::section).chain([SERVICE_SECTION]);
                problems.push(Problem::unknown(section, value, sections));
            }
            Some(table) => {
                let wrong = table
                    .iter()
                    .filter_map(|(last, value)| wrong_key(&format!("{section}.{last}"), value));
                problems.extend(wrong);
            }
            None if keys::is_section(section) => {
                let wanted = format!("a section: [{section}] on a line of its own");
                problems.push(Problem::value(section, value, &wanted));
            }
            None => {
                let names = KEYS.iter().map(|key| key.name);
                problems.push(Problem::unknown(section, value, names));
            }
        }
    }
}

/// A key that does not exist, or a section where a value should be.
fn wrong_key(name: &str, value: &Value) -> Option<Problem> {
    match keys::find(name) {
        None => Some(Problem::unknown(name, value, KEYS.iter().map(|key| key.name))),
        Some(key) if table(value).is_some() => {
            Some(Problem::value(name, value, &key.kind.wanted()))
        }
        Some(_) => None,
    }
}

fn check_rules(rules: &Value, problems: &mut Vec<Problem>) {
    let wanted = "tables: [[service]] before the keys of each rule";
    let ValueKind::Array(items) = &rules.kind else {
        problems.push(Problem::value(SERVICE_SECTION, rules, wanted));
        return;
    };
    for (index, item) in items.iter().enumerate() {
        let Some(rule) = table(item) else {
            problems.push(Problem::value(&format!("{SERVICE_SECTION}[{index}]"), item, wanted));
            continue;
        };
        let is_known = |name: &str| SERVICE_KEYS.iter().any(|key| key.name == name);
        let names: Vec<String> = SERVICE_KEYS.iter().map(|key| rule_key(index, key.name)).collect();
        let unknown = rule.iter().filter(|(name, _)| !is_known(name)).map(|(name, value)| {
            Problem::unknown(&rule_key(index, name), value, names.iter().map(String::as_str))
        });
        problems.extend(unknown);
        if !rule.contains_key(PATTERN_KEY) {
            problems.push(Problem::other(format!(
                "{SERVICE_SECTION}[{index}] ({}) has no {PATTERN_KEY}: say which services it is for",
                origin_of(item)
            )));
        }
    }
}

/// The name of a key of a rule.
pub(crate) fn rule_key(index: usize, name: &str) -> String {
    format!("{SERVICE_SECTION}[{index}].{name}")
}

/// The keys that the environment sets. Each variable with our prefix must be one of them.
fn variables(
    variables: &[(OsString, OsString)],
    problems: &mut Vec<Problem>,
) -> Map<String, Value> {
    let mut values = Map::new();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let Some(key) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
        let origin = format!("environment variable {name}");
        let Some(value) = value.to_str() else {
            problems.push(Problem::other(format!("{origin} is not UTF-8: {value:?}")));
            continue;
        };
        let key = key.replace(VARIABLE_SEPARATOR, ".").to_lowercase();
        let (key, value) = layer_value(&key, &origin, value);
        if keys::find(&key).is_some() {
            values.insert(key, value);
        } else if key.starts_with(SERVICE_SECTION) {
            let reason = "rules for services stand in a file, as [[service]]";
            problems.push(Problem::refused(&key, &value, reason));
        } else {
            problems.push(unknown_variable(&key, &value));
        }
    }
    values
}

fn unknown_variable(key: &str, value: &Value) -> Problem {
    let names: Vec<(String, String)> =
        KEYS.iter().map(|key| (key.name.to_owned(), key.variable())).collect();
    let meant = super::problem::nearest(key, names.iter().map(|(name, _)| name.as_str()));
    let meant = meant.and_then(keys::find).map(keys::Key::variable);
    let advice = meant.map_or_else(
        || format!("variables are {VARIABLE_PREFIX}SECTION{VARIABLE_SEPARATOR}KEY"),
        |meant| format!("did you mean {meant}?"),
    );
    Problem::refused(key, value, &format!("there is no such key; {advice}"))
}
