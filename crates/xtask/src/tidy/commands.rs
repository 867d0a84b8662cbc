//! Every command line of the documents says who runs it.

use super::{Tree, Violation};
use crate::commands::{Block, Marking, blocks, is_page};

const HOW: &str = "write directly above the block `<!-- run -->` (`cargo xtask test readme` runs it as it stands), \
                   `<!-- run: NAME_OF_A_TEST -->` or `<!-- not run: REASON -->`";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let pages = tree.files().filter(|(path, _)| is_page(path));
    let all =
        pages.flat_map(|(path, text)| blocks(text).into_iter().map(move |block| (path, block)));
    all.filter_map(|(path, block)| {
        let rule = wrong_with(tree, &block)?;
        Some(Violation::new(path, block.line, rule))
    })
    .collect()
}

fn wrong_with(tree: &Tree, block: &Block) -> Option<String> {
    let first = block.text.lines().next().unwrap_or_default();
    match &block.marking {
        None => Some(format!("nothing says who runs `{first}`: {HOW}")),
        Some(Marking::AsItStands) => None,
        Some(Marking::Example(reason)) if reason.is_empty() => {
            Some(format!("`{first}` is not run, and nothing says why: {HOW}"))
        }
        Some(Marking::Example(_)) => None,
        Some(Marking::By(tests)) => tests.iter().find(|name| !is_test(tree, name)).map(|name| {
            format!("no test is named `{name}`, which is said to run `{first}`: {HOW}")
        }),
    }
}

/// Whether a test of this name stands anywhere.
fn is_test(tree: &Tree, name: &str) -> bool {
    let (rust, python) = (format!("fn {name}("), format!("def {name}("));
    tree.ending(".rs").any(|(_, text)| {
        text.match_indices(&rust).any(|(at, _)| {
            text.get(..at).is_some_and(|before| before.trim_end().ends_with("#[test]"))
        })
    }) || tree.ending(".py").any(|(_, text)| name.starts_with("test_") && text.contains(&python))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_without_a_reason_a_test_or_any_word_are_violations() {
        let page = "<!-- run: there_is_such_a_test -->\n\n    cargo a\n\n<!-- run: there_is_none -->\n\n    cargo b\n\n\
                    <!-- not run: -->\n\n    cargo c\n\n    cargo d\n\n<!-- not run: it takes a day -->\n\n    cargo e\n\
                    \n<!-- run -->\n\n    cargo f\n";
        let code = "#[test]\nfn there_is_such_a_test() {}\nfn there_is_none() {}\n";
        let tree =
            Tree::of([("docs/x.md", page), ("tests/x.rs", code), ("docs/y/z.md", "    cargo x\n")]);

        let found: Vec<(usize, bool)> = check(&tree)
            .into_iter()
            .map(|v| (v.line, v.rule.contains("not run: REASON")))
            .collect();

        assert_eq!(found, [(7, true), (11, true), (13, true)]);
    }
}
