//! Lock files of workspaces beside this one, which depend on its crates.

use std::collections::BTreeSet;

use super::{Tree, Violation};
use crate::toml;

/// A dependency that a crate got since would be written into the lock file by the next build there.
pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    // The one of this workspace stands at its root.
    let others = tree.ending("/Cargo.lock");
    others.flat_map(|(path, text)| check_lock(tree, path, text)).collect()
}

fn check_lock(tree: &Tree, path: &str, text: &str) -> Vec<Violation> {
    let entries = toml::entries(text);
    let names = entries.iter().filter(|entry| entry.path() == "package.name");
    let locked: BTreeSet<&str> = names.map(|entry| entry.value.trim_matches('"')).collect();
    let mut violations = Vec::new();
    for name in &locked {
        let Some(manifest) = tree.text(&format!("crates/{name}/Cargo.toml")) else { continue };
        let missing = needed(manifest).into_iter().filter(|needed| !locked.contains(needed));
        violations.extend(missing.map(|missing| {
            let rule = format!(
                "`{missing}`, which `{name}` needs, is missing: run `cargo update --workspace` beside it"
            );
            Violation::new(path, 1, rule)
        }));
    }
    violations
}

/// What a crate needs when another one uses it, whatever the features.
fn needed(manifest: &str) -> Vec<&str> {
    let needed = toml::entries(manifest)
        .into_iter()
        .filter(|entry| entry.table == "dependencies" && !entry.value.contains("optional = true"));
    needed.map(|entry| entry.key.split('.').next().unwrap_or(entry.key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependency_that_is_not_locked_elsewhere_is_found() {
        let manifest = "[dependencies]\nserde.workspace = true\nslab = { workspace = true }\n\
                        mdp-mutants = { workspace = true, optional = true }\n\
                        [dev-dependencies]\nzmq.workspace = true\n";
        let lock = "[[package]]\nname = \"mdp-x\"\n[[package]]\nname = \"serde\"\n";
        let tree = Tree::of([
            ("crates/mdp-x/Cargo.toml", manifest),
            ("bench/y/Cargo.lock", lock),
            ("Cargo.lock", lock),
        ]);

        let violations = check(&tree);

        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].file, "bench/y/Cargo.lock");
        assert!(violations[0].rule.contains("`slab`, which `mdp-x` needs"), "{violations:?}");
    }
}
