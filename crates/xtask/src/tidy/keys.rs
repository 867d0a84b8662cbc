//! Every configuration key is known to the code, shown with its default in `config/` and
//! explained in `docs/operating.md`.

use std::collections::BTreeMap;

use super::{Tree, Violation};
use crate::toml;

/// The one table of keys.
const CODE: &str = "crates/majordomo/src/settings/keys.rs";
/// Every key with its default.
const EXAMPLE: &str = "config/majordomo.toml";
/// What each key means.
const MANUAL: &str = "docs/operating.md";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let Some(code) = tree.text(CODE) else {
        return vec![Violation::new(CODE, 1, "is missing: it is the one table of keys")];
    };
    let known = known(code);
    let mut violations = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| is_configuration(path)) {
        violations.extend(check_example(path, text, &known));
    }
    let example = tree.text(EXAMPLE).map(uncommented).unwrap_or_default();
    let shown: Vec<String> = toml::entries(&example).iter().map(toml::Entry::path).collect();
    let manual = tree.text(MANUAL).unwrap_or_default();
    for (key, (line, default)) in &known {
        if !shown.contains(key) {
            violations.push(Violation::new(CODE, *line, format!("`{key}` is not in {EXAMPLE}")));
        }
        if !explains(manual, key, default) {
            let rule = format!("`{key}` is not in {MANUAL} with its default `{default}`");
            violations.push(Violation::new(CODE, *line, rule));
        }
    }
    violations
}

fn is_configuration(path: &str) -> bool {
    path.starts_with("config/") && path.ends_with(".toml")
}

/// Key to its line and default, from `key("broker.bind", Kind::Bind, "tcp://127.0.0.1:5555"),`.
/// Keys without a section belong to `[[service]]`.
fn known(code: &str) -> BTreeMap<String, (usize, &str)> {
    let code = code.split("#[cfg(test)]").next().unwrap_or(code);
    let rows = code.lines().enumerate().filter_map(|(index, line)| {
        let arguments = line.trim().strip_prefix("key(")?.strip_suffix("),")?;
        let (name, rest) = arguments.split_once(',')?;
        let name = if name == "PATTERN_KEY" {
            "pattern"
        } else {
            name.strip_prefix('"')?.strip_suffix('"')?
        };
        let (_, default) = rest.strip_suffix('"')?.rsplit_once('"')?;
        let key = if name.contains('.') { name.to_owned() } else { format!("service.{name}") };
        Some((key, (index + 1, default)))
    });
    rows.collect()
}

fn check_example(
    path: &str,
    text: &str,
    known: &BTreeMap<String, (usize, &str)>,
) -> Vec<Violation> {
    let text = uncommented(text);
    let entries = toml::entries(&text);
    let check = |entry: &toml::Entry<'_>| {
        let key = entry.path();
        let Some((_, default)) = known.get(&key) else {
            return Some(format!("`{key}` is no key of {CODE}"));
        };
        let value = plain(entry.value);
        let is_default = path != EXAMPLE || key.starts_with("service.") || value == plain(default);
        (!is_default).then(|| format!("`{key}` is not at its default, `{default}`"))
    };
    entries
        .iter()
        .filter_map(|entry| Some(Violation::new(path, entry.line, check(entry)?)))
        .collect()
}

/// A default as the code has it and as TOML has it: quotes and empty lists make no difference.
fn plain(value: &str) -> String {
    value.trim_matches(['"', '\'', '[', ']']).replace('_', "")
}

/// With the examples that are commented out: `# [[service]]` and `# key = value`, not sentences.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let Some(rest) = line.trim_start().strip_prefix('#') else { return line };
        let rest = rest.trim();
        let key = rest.split_once(" = ").map_or("", |(key, _)| key);
        let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if is_key || (rest.starts_with('[') && rest.ends_with(']')) { rest } else { "" }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether a row of a table begins with the key and has the default in its second cell. Keys of
/// `[[service]]` have no default of their own.
fn explains(manual: &str, key: &str, default: &str) -> bool {
    let (name, has_default) = match key.strip_prefix("service.") {
        Some(name) => (name, false),
        None => (key, true),
    };
    manual.lines().any(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let is_row = cells.next() == Some(format!("`{name}`").as_str());
        let shown = cells.next().unwrap_or_default().trim_matches('`');
        is_row && (!has_default || plain(shown) == plain(default))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = concat!(
        "    key(\"broker.bind\", Kind::Bind, \"tcp://127.0.0.1:5555\"),\n",
        "    key(\"broker.max_workers\", ENTRIES, \"20_000\"),\n",
        "    key(\"delivery\", DELIVERY, \"\"),\n",
    );
    const RIGHT: &str = concat!(
        "[broker]\nbind = \"tcp://127.0.0.1:5555\"\nmax_workers = 20_000\n",
        "# A rule = an example.\n# [[service]]\n# delivery = \"at-most-once\"\n"
    );
    const ROWS: &str = "| `broker.bind` | `tcp://127.0.0.1:5555` | x |\n| `broker.max_workers` | `20_000` | x |\n| `delivery` | |\n";

    fn rules(example: &str, manual: &str) -> Vec<String> {
        let tree = Tree::of([(CODE, KEYS), (EXAMPLE, example), (MANUAL, manual)]);
        check(&tree).into_iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn example_and_manual_agree_with_the_code() {
        assert_eq!(rules(RIGHT, ROWS), [] as [String; 0]);
    }

    #[test]
    fn unknown_missing_and_changed_keys_are_found() {
        let unknown = rules(&RIGHT.replace("[broker]", "[broker]\nbend = 1"), ROWS);
        assert!(unknown[0].contains("`broker.bend` is no key"), "{unknown:?}");
        let changed = rules(&RIGHT.replace("20_000", "10"), ROWS);
        assert!(changed[0].contains("not at its default, `20_000`"), "{changed:?}");
        let missing = rules(&RIGHT.replace("# delivery", "# deliver"), ROWS);
        assert!(missing.iter().any(|rule| rule.contains("`service.delivery` is not in config")));
    }

    #[test]
    fn manual_with_another_default_is_found() {
        assert_eq!(rules(RIGHT, &ROWS.replace("20_000", "2")).len(), 1);
        assert_eq!(rules(RIGHT, "").len(), 3);
    }
}
