//! Clippy reads only the nearest `clippy.toml`, so the core crates repeat what the root says.

use super::{Tree, Violation};
use crate::toml;

/// The crates without clock, socket and thread.
const CORE: [&str; 4] = ["mdp-wire", "mdp-catalog", "mdp-broker", "mdp-sim"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let paths: Vec<String> = CORE
        .iter()
        .filter(|name| tree.has(&format!("crates/{name}/Cargo.toml")))
        .map(|name| format!("crates/{name}/clippy.toml"))
        .collect();
    let Some((first, model)) = paths.iter().find_map(|path| Some((path, tree.text(path)?))) else {
        return Vec::new();
    };
    let mut violations: Vec<Violation> = paths
        .iter()
        .filter(|path| tree.text(path) != Some(model))
        .map(|path| Violation::new(path.as_str(), 1, format!("must be equal to {first}")))
        .collect();

    let core = toml::entries(model);
    for entry in toml::entries(tree.text("clippy.toml").unwrap_or_default()) {
        let repeated = core.iter().any(|own| own.key == entry.key && own.value == entry.value);
        if !repeated && entry.key != "disallowed-methods" {
            let rule = format!(
                "`{}` is not the same in the clippy.toml files of the core crates",
                entry.key
            );
            violations.push(Violation::new("clippy.toml", entry.line, rule));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(root: &str, wire: &str, broker: &str) -> Vec<String> {
        let tree = Tree::of([
            ("clippy.toml", root),
            ("crates/mdp-wire/Cargo.toml", ""),
            ("crates/mdp-wire/clippy.toml", wire),
            ("crates/mdp-broker/Cargo.toml", ""),
            ("crates/mdp-broker/clippy.toml", broker),
        ]);
        check(&tree).into_iter().map(|violation| violation.file).collect()
    }

    #[test]
    fn core_files_must_be_equal() {
        assert!(violations("", "a = 1", "a = 1").is_empty());
        assert_eq!(violations("", "a = 1", "a = 2"), ["crates/mdp-broker/clippy.toml"]);
    }

    #[test]
    fn settings_of_the_root_must_be_repeated() {
        assert_eq!(violations("a = 1\nb = 2", "a = 1", "a = 1"), ["clippy.toml"]);
    }
}
