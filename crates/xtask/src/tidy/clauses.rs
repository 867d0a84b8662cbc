//! Every clause of the specifications, every choice of ours and every case of a cluster has a test
//! that exists.

use std::collections::{BTreeMap, BTreeSet};

use super::{Tree, Violation};

const PAGE: &str = "docs/protocol.md";
/// How many clauses each list has, counted from 01.
const LISTS: [(&str, usize); 5] =
    [("MDP7", 49), ("MDP18", 15), ("MMI8", 6), ("AM", 21), (CASES, 24)];
/// Tests of these say in their documentation which one they are for.
const CASES: &str = "CL";
/// A row whose clause asks nothing of a program says so, and why, with these words first.
const UNTESTABLE: &str = "none:";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let Some(page) = tree.text(PAGE) else {
        return vec![Violation::new(PAGE, 1, "is missing: it maps each clause to code and test")];
    };
    let tests = tests(tree);
    let mut missing: BTreeSet<String> = LISTS
        .iter()
        .flat_map(|(list, count)| (1..=*count).map(move |number| format!("{list}-{number:02}")))
        .collect();
    let mut violations = Vec::new();
    for (index, line) in page.lines().enumerate() {
        let Some(Row { clause, code, tests: last }) = Row::read(line) else { continue };
        missing.remove(clause);
        violations.extend(
            code.and_then(|code| wrong_place(tree, code))
                .map(|rule| Violation::new(PAGE, index + 1, format!("{clause}: {rule}"))),
        );
        let named = names(last);
        if named.is_empty() && !last.to_lowercase().starts_with(UNTESTABLE) {
            let rule =
                format!("{clause} names no test; `{UNTESTABLE} why` if there is nothing to test");
            violations.push(Violation::new(PAGE, index + 1, rule));
        }
        let is_case = clause.strip_prefix(CASES).is_some_and(|number| number.starts_with('-'));
        let says_so = |name: &&str| tests.get(name).is_some_and(|doc| doc.contains(clause));
        if is_case && !named.is_empty() && !named.iter().any(says_so) {
            let rule = format!("{clause}: no documentation of a test that the row names says so");
            violations.push(Violation::new(PAGE, index + 1, rule));
        }
        for name in named.into_iter().filter(|name| !tests.contains_key(name)) {
            let rule = format!("{clause}: there is no test `{name}`");
            violations.push(Violation::new(PAGE, index + 1, rule));
        }
    }
    violations.extend(
        missing.iter().map(|clause| {
            Violation::new(PAGE, page.lines().count(), format!("{clause} has no row"))
        }),
    );
    violations
}

/// One clause: the first cell of a table's row, and its last two.
struct Row<'a> {
    clause: &'a str,
    code: Option<&'a str>,
    tests: &'a str,
}

impl<'a> Row<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let cells = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        let (first, rest) = cells.split_once('|')?;
        let clause = first.trim().trim_matches('`');
        let (list, number) = clause.rsplit_once('-')?;
        let is_clause = LISTS.iter().any(|(name, _)| *name == list)
            && number.len() == 2
            && number.bytes().all(|byte| byte.is_ascii_digit());
        let mut cells = rest.rsplit('|').map(str::trim);
        let tests = cells.next()?;
        is_clause.then(|| Self { clause, code: cells.next(), tests })
    }
}

/// What is wrong with a place in the code: "mdp-wire `client.rs`: `Request::encode`; `decode.rs`".
fn wrong_place(tree: &Tree, code: &str) -> Option<String> {
    let (mut folder, mut file) = (String::new(), None);
    for (index, piece) in code.split('`').enumerate() {
        if index % 2 == 0 {
            let words = piece.split([' ', ';', ':', ',']);
            if let Some(name) = words.rev().find(|word| !word.is_empty()) {
                folder = format!("crates/{name}/src");
            }
        } else if piece.ends_with(".rs") {
            let path = format!("{folder}/{piece}");
            file = tree.text(&path);
            if file.is_none() {
                return Some(format!("there is no {path}"));
            }
        } else {
            let item = piece.rsplit("::").next().unwrap_or(piece);
            if !file.is_some_and(|text| text.contains(item)) {
                return Some(format!("`{piece}` is not where the row says"));
            }
        }
    }
    None
}

/// What stands in backticks.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(|name| name.rsplit("::").next().unwrap_or(name))
        .collect()
}

/// Names of functions below a test attribute, with their documentation, and of Python's `test_`
/// methods.
fn tests(tree: &Tree) -> BTreeMap<&str, String> {
    let mut tests = BTreeMap::<&str, String>::new();
    for (_, text) in tree.ending(".rs") {
        let (mut is_test, mut doc) = (false, String::new());
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[") {
                is_test |= line.contains("test]") || line.contains("test(");
            } else if let Some(more) = line.strip_prefix("///") {
                doc.push_str(more);
            } else {
                if let Some(name) = function(line).filter(|_| is_test) {
                    tests.entry(name).or_default().push_str(&doc);
                    is_test = false;
                }
                doc.clear();
            }
        }
    }
    for (_, text) in tree.ending(".py") {
        let methods = text.lines().filter_map(|line| line.trim().strip_prefix("def "));
        let names = methods.filter_map(|rest| rest.split('(').next());
        tests.extend(
            names.filter(|name| name.starts_with("test_")).map(|name| (name, String::new())),
        );
    }
    tests
}

/// `name` of `async fn name(`.
fn function(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let is_declaration =
        before.split_whitespace().all(|word| matches!(word, "async" | "pub" | "pub(crate)"));
    is_declaration.then(|| rest.split(['(', '<']).next()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: &str =
        "#[test]\nfn mdp7_01_one() {}\nfn helper() {}\n#[tokio::test]\nasync fn two() {}\n";

    fn violations_of(rows: &str) -> Vec<String> {
        let tree =
            Tree::of([(PAGE, rows), ("tests/spec/a.rs", TESTS), ("p.py", "  def test_p(self):\n")]);
        let violations = check(&tree).into_iter().map(|violation| violation.rule);
        violations.filter(|rule| !rule.ends_with("has no row")).collect()
    }

    #[test]
    fn row_names_tests_that_exist() {
        assert!(violations_of("| MDP7-01 | what | `mdp7_01_one`, `two`, `test_p` |\n").is_empty());
        assert!(violations_of("| MDP7-01 | what | `spec::a::mdp7_01_one` |\n").is_empty());
        assert_eq!(violations_of("| MDP7-01 | what | `helper` |\n").len(), 1);
        assert_eq!(violations_of("| MDP7-01 | what | soon |\n").len(), 1);
        assert!(violations_of("| MDP7-01 | what | none: describes a client |\n").is_empty());
    }

    #[test]
    fn every_clause_has_a_row() {
        let tree = Tree::of([(PAGE, "| AM-20 | x | none: y |\n")]);
        assert_eq!(check(&tree).len(), 49 + 15 + 6 + 21 + 24 - 1);
    }

    #[test]
    fn places_in_the_code_exist() {
        let place = |code: &str| {
            let tree = Tree::of([
                ("crates/mdp-wire/src/a.rs", "fn one() {}"),
                ("crates/mdp-wire/src/b.rs", ""),
            ]);
            wrong_place(&tree, code)
        };
        assert_eq!(place("mdp-wire `a.rs`: `Some::one`; `b.rs`"), None);
        assert_eq!(place(""), None);
        assert!(place("mdp-wire `c.rs`: `one`").is_some());
        assert!(place("mdp-wire `b.rs`: `one`").is_some());
        assert!(place("mdp-broker `a.rs`: `one`").is_some());
    }

    #[test]
    fn other_tables_are_not_rows() {
        assert!(violations_of("| TSP-01 | x | y |\n| key | MDP7-01 | z |\n").is_empty());
    }

    #[test]
    fn cases_are_named_by_the_documentation_of_a_test() {
        const CASE: &str = "/// CL-07: it\n/// holds.\n#[test]\nfn three() {}\n";
        let violations_of = |row: &str| {
            let tree = Tree::of([(PAGE, row), ("tests/spec/a.rs", TESTS), ("b.rs", CASE)]);
            let violations = check(&tree).into_iter().map(|violation| violation.rule);
            violations.filter(|rule| !rule.ends_with("has no row")).collect::<Vec<_>>()
        };
        assert!(violations_of("| CL-07 | what | `two`, `three` |\n").is_empty());
        assert_eq!(violations_of("| CL-08 | what | `two`, `three` |\n").len(), 1);
    }
}
