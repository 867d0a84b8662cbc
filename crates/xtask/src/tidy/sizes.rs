//! Files that can be read in one go.

use super::{Tree, Violation};

/// Of a source file, tests included.
const SOURCE_LINES_MAX: usize = 600;
/// Of documents that promise to be short.
const DOCUMENT_LINES_MAX: [(&str, usize); 2] = [("README.md", 150), ("docs/architecture.md", 250)];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let sources = tree
        .files()
        .filter(|(path, _)| path.ends_with(".rs") || path.ends_with(".py"))
        .map(|(path, text)| (path, text, SOURCE_LINES_MAX));
    let documents = DOCUMENT_LINES_MAX
        .into_iter()
        .filter_map(|(path, lines_max)| tree.text(path).map(|text| (path, text, lines_max)));
    sources
        .chain(documents)
        .filter_map(|(path, text, lines_max)| {
            let lines = text.lines().count();
            let rule = || format!("{lines} lines; at most {lines_max}: cut the file by topic");
            (lines > lines_max).then(|| Violation::new(path, lines, rule()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_601_lines_is_too_long() {
        let tree = Tree::of([("a.rs", &"\n".repeat(600)), ("b.rs", &"\n".repeat(601))]);

        let violations = check(&tree);

        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].file, "b.rs");
    }

    #[test]
    fn readme_is_held_to_its_own_limit() {
        assert_eq!(check(&Tree::of([("README.md", &"\n".repeat(151))])).len(), 1);
    }
}
