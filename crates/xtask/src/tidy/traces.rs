//! Nothing that only its author's machine knows, and nothing left for later.

use std::env;

use super::{Tree, Violation};
use crate::workspace::Workspace;

/// Where people's files live. Written in two parts, so that this file does not accuse itself.
const HOMES: [&str; 3] = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// What is not finished, or not run.
const MARKS: [(&str, &str); 5] = [
    (concat!("TO", "DO"), "do it, or open an issue and leave no mark"),
    (concat!("FIX", "ME"), "fix it, or open an issue and leave no mark"),
    (concat!("XX", "X"), "say what is meant"),
    (concat!("todo", "!("), "write it"),
    (concat!("#[ign", "ore"), "a test that is not run proves nothing: make it fast, or a soak"),
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, line, text) in lines(tree) {
        if let Some(home) = HOMES.iter().find(|home| names_path(text, home)) {
            let rule = format!("`{home}` is a place on somebody's machine: use a relative path");
            violations.push(Violation::new(path, line, rule));
        }
        if !path.ends_with(".rs") && !path.ends_with(".py") {
            continue;
        }
        if let Some((mark, rule)) = MARKS.iter().find(|(mark, _)| text.contains(mark)) {
            violations.push(Violation::new(path, line, format!("`{mark}`: {rule}")));
        }
    }
    violations
}

/// The same for the place where this checkout happens to lie.
pub(super) fn of_this_machine(tree: &Tree, workspace: &Workspace) -> Vec<Violation> {
    let mut places = vec![workspace.root.to_string_lossy().into_owned()];
    places.extend(env::var("HOME").ok());
    // `/src` or `/build` may be a root in CI and a word in a document.
    places.retain(|place| place.matches('/').count() > 1);
    let mut violations = Vec::new();
    for (path, line, text) in lines(tree) {
        if let Some(place) = places.iter().find(|place| names_path(text, place)) {
            let rule = format!("`{place}` is a place on this machine: use a relative path");
            violations.push(Violation::new(path, line, rule));
        }
    }
    violations
}

fn lines(tree: &Tree) -> impl Iterator<Item = (&str, usize, &str)> {
    let written = tree.files().filter(|(path, _)| *path != "Cargo.lock");
    written.flat_map(|(path, text)| {
        text.lines().enumerate().map(move |(index, line)| (path, index + 1, line))
    })
}

/// Whether the path begins here and not in the middle of another.
fn names_path(text: &str, place: &str) -> bool {
    text.match_indices(place).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|c| {
            !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '/' | '}' | '*' | '~')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_found_and_parts_of_other_paths_are_not() {
        let home = HOMES[1];
        let tree = Tree::of([
            ("a.md", &format!("see `{home}me/x`")),
            ("b.md", &format!("site{home}page")),
        ]);

        let files: Vec<String> = check(&tree).into_iter().map(|violation| violation.file).collect();

        assert_eq!(files, ["a.md"]);
    }

    #[test]
    fn marks_are_found_in_sources_only() {
        let text = format!("// {}: later", MARKS[0].0);
        let tree = Tree::of([("a.rs", &text), ("a.md", &text)]);

        assert_eq!(check(&tree).len(), 1);
    }
}
