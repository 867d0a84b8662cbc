//! The command lines of the documents: where they stand, and what runs them.
//!
//! Directly above each block of command lines a comment that readers do not see says who runs it:
//!
//! ```text
//! <!-- run -->                      `cargo xtask test readme` runs the block as it stands
//! <!-- run: NAME_OF_A_TEST -->      this test, or these, with commas between, runs these commands
//! <!-- not run: REASON -->          an example; the reason says why it is not run
//! ```

/// Documents with commands for readers, besides all of `docs`.
const PAGES: [&str; 4] =
    ["README.md", "CONTRIBUTING.md", "deploy/README.md", "deploy/procedures/README.md"];
/// The folder of the others.
const FOLDER: &str = "docs/";

/// What the first word of a command line may be. A program that is missing here is found in a block of the
/// language `sh` only.
const PROGRAMS: [&str; 42] = [
    "apt",
    "apt-get",
    "bash",
    "cargo",
    "cat",
    "cp",
    "curl",
    "docker",
    "docker-compose",
    "export",
    "for",
    "git",
    "haproxy",
    "helm",
    "ip",
    "journalctl",
    "kill",
    "kind",
    "kubectl",
    "kustomize",
    "ln",
    "majordomo",
    "make",
    "mkdir",
    "nft",
    "openssl",
    "pip",
    "podman",
    "promtool",
    "python3",
    "rm",
    "rustup",
    "scp",
    "sh",
    "ssh",
    "sudo",
    "systemctl",
    "tar",
    "ulimit",
    "until",
    "wget",
    "while",
];
/// The languages of blocks that are commands, whatever they begin with.
const LANGUAGES: [&str; 4] = ["sh", "bash", "shell", "console"];

/// Who runs a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Marking {
    /// `cargo xtask test readme`.
    AsItStands,
    /// These tests.
    By(Vec<String>),
    /// Nothing, for this reason.
    Example(String),
}

/// One block of command lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The line of its first command, counted from 1.
    pub(crate) line: usize,
    /// Without the indentation or the fences.
    pub(crate) text: String,
    pub(crate) marking: Option<Marking>,
}

/// Whether this is a document whose commands must say who runs them.
pub(crate) fn is_page(path: &str) -> bool {
    let is_below = path.strip_prefix(FOLDER).is_some_and(|name| !name.contains('/'));
    PAGES.contains(&path) || (is_below && path.ends_with(".md"))
}

/// The blocks of command lines of a page, in order.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    // The last line with text above what is read now.
    let mut above = "";
    let mut lines = page.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let (language, text, first) = if let Some(language) = line.trim_start().strip_prefix("```")
        {
            let block = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| !line.trim_start().starts_with("```"));
            (language.trim(), block.collect::<Vec<_>>().join("\n"), index + 2)
        } else if is_indented(line)
            && (above.is_empty() || is_marking(above) || previous_is_blank(page, index))
        {
            let mut block = vec![line.trim_start()];
            while let Some((_, line)) = lines.next_if(|(_, line)| is_indented(line)) {
                block.push(line.trim_start());
            }
            ("", block.join("\n"), index + 1)
        } else {
            if !line.trim().is_empty() {
                above = line;
            }
            continue;
        };
        if LANGUAGES.contains(&language)
            || (language.is_empty() && !is_drawing(&text) && text.lines().any(is_command))
        {
            blocks.push(Block { line: first, text, marking: marking(above) });
        }
        above = "a block";
    }
    blocks
}

fn is_drawing(text: &str) -> bool {
    text.contains(['─', '│', '►', '▼'])
}

fn is_indented(line: &str) -> bool {
    line.starts_with("    ") && !line.trim().is_empty()
}

fn previous_is_blank(page: &str, index: usize) -> bool {
    index
        .checked_sub(1)
        .and_then(|before| page.lines().nth(before))
        .is_none_or(|line| line.trim().is_empty())
}

/// Whether a line begins with a program, after a prompt and variables that are set for it.
fn is_command(line: &str) -> bool {
    let is_variable = |word: &&str| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
    };
    let line = line.trim_start();
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let Some(first) = line.split_whitespace().find(|word| !is_variable(word)) else { return false };
    PROGRAMS.contains(&first)
        || first.starts_with("./")
        || (first.contains('/') && first.ends_with(".sh"))
}

fn is_marking(line: &str) -> bool {
    marking(line).is_some()
}

fn marking(line: &str) -> Option<Marking> {
    let words = line.trim().strip_prefix("<!--")?.strip_suffix("-->")?.trim();
    if words == "run" {
        return Some(Marking::AsItStands);
    }
    if let Some(tests) = words.strip_prefix("run:") {
        let names = tests.split(',').map(|name| name.trim().trim_matches('`').to_owned());
        return Some(Marking::By(names.collect()));
    }
    words.strip_prefix("not run:").map(|reason| Marking::Example(reason.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn markings(page: &str) -> Vec<(usize, Option<Marking>)> {
        blocks(page).into_iter().map(|block| (block.line, block.marking)).collect()
    }

    #[test]
    fn blocks_are_found_with_what_runs_them() {
        let page = "# x\n\n<!-- run -->\n```sh\na &   # b\n```\n\nText:\n\n<!-- not run: needs a registry -->\n    \
                    docker push x\n    x y\n\n<!-- run: one_test, other_test -->\n\n    $ majordomo call x\n    \
                    200\n\nText.\n\n    X=1 ./y.sh\n";
        let by = Marking::By(vec!["one_test".to_owned(), "other_test".to_owned()]);
        let example = Marking::Example("needs a registry".to_owned());
        assert_eq!(
            markings(page),
            [(5, Some(Marking::AsItStands)), (11, Some(example)), (16, Some(by)), (21, None)]
        );
        assert_eq!(blocks(page)[1].text, "docker push x\nx y");
    }

    #[test]
    fn drawings_settings_and_lists_are_no_commands() {
        let page = "```\nkill ──► node\n```\n```toml\nkill = 1\n```\n\n    [drain]\n    announce = \"3s\"\n\n\
                    1. x\n    cargo test\n";
        assert_eq!(markings(page), []);
    }

    #[test]
    fn a_marking_is_for_the_next_block_only() {
        let page = "<!-- run -->\n\n    cargo a\n\n    cargo b\n";
        assert_eq!(markings(page), [(3, Some(Marking::AsItStands)), (5, None)]);
    }

    #[test]
    fn pages_are_those_for_readers() {
        let pages = ["README.md", "docs/operating.md", "deploy/README.md"];
        assert!(pages.iter().all(|page| is_page(page)));
        assert!(
            !["docs/decisions/0001-record-decisions.md", "CHANGELOG.md"]
                .iter()
                .any(|page| is_page(page))
        );
    }
}
