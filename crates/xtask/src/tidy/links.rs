//! Links between documents lead somewhere.

use super::{Tree, Violation};

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, text) in tree.ending(".md") {
        for (line, target) in links(text) {
            if let Some(rule) = broken(tree, path, target) {
                violations.push(Violation::new(path, line, rule));
            }
        }
    }
    violations
}

/// Targets of `[text](target)` outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let (mut links, mut in_code) = (Vec::new(), false);
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            // Every second piece lies between backticks.
            for piece in line.split('`').step_by(2) {
                let targets = piece.split("](").skip(1).filter_map(|rest| rest.split(')').next());
                links.extend(targets.map(|target| (index + 1, target)));
            }
        }
    }
    links
}

fn broken(tree: &Tree, path: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() { path.to_owned() } else { resolved(path, file) };
    if !tree.has(&file) {
        return Some(format!("`{target}` leads nowhere: there is no {file}"));
    }
    let text = tree.text(&file).filter(|_| file.ends_with(".md") && !anchor.is_empty())?;
    let found = text.lines().any(|line| slug(line).as_deref() == Some(anchor));
    (!found).then(|| format!("`{target}` leads nowhere: {file} has no such heading"))
}

/// The target, seen from the root.
fn resolved(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The anchor that a heading gets.
fn slug(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken_in(text: &str) -> Vec<usize> {
        let tree = Tree::of([
            ("docs/a.md", text),
            ("docs/b.md", "# One: two `three`\n"),
            ("crates/x/src/lib.rs", ""),
        ]);
        check(&tree).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn relative_links_are_followed() {
        assert!(broken_in("[b](b.md) [x](../crates/x) [l](./../crates/x/src/lib.rs)").is_empty());
        assert_eq!(broken_in("one\n[b](c.md)"), [2]);
        assert_eq!(broken_in("[`code`](c.md)"), [1]);
    }

    #[test]
    fn anchors_are_headings() {
        assert!(broken_in("[b](b.md#one-two-three)").is_empty());
        assert_eq!(broken_in("[b](b.md#two)"), [1]);
    }

    #[test]
    fn code_and_other_sites_are_not_followed() {
        assert!(
            broken_in("`[b](c.md)`\n```\n[b](c.md)\n```\n[b](https://example.org/c.md)").is_empty()
        );
    }
}
