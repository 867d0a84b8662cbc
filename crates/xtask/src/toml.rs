//! As much TOML as this repository's own files need: tables, keys, and the lines they stand on.

/// One `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// Counted from 1.
    pub(crate) line: usize,
    /// The name of the table, the same for `[name]` and `[[name]]`; empty at the top.
    pub(crate) table: &'a str,
    pub(crate) key: &'a str,
    /// The first line of the value, as it is written.
    pub(crate) value: &'a str,
}

impl Entry<'_> {
    /// `table.key`, or only `key` at the top.
    pub(crate) fn path(&self) -> String {
        if self.table.is_empty() {
            self.key.to_owned()
        } else {
            format!("{}.{}", self.table, self.key)
        }
    }
}

/// Every entry in its order. What follows on further lines of a value is left out.
pub(crate) fn entries(text: &str) -> Vec<Entry<'_>> {
    let (mut entries, mut table, mut depth) = (Vec::new(), "", 0);
    for (index, line) in text.lines().enumerate() {
        let line = without_comment(line).trim();
        if depth > 0 {
            depth += brackets(line);
        } else if let Some(name) = line.strip_prefix('[') {
            table = name.trim_matches(['[', ']', ' ']);
        } else if let Some((key, value)) = line.split_once('=') {
            depth = brackets(value);
            let key = key.trim().trim_matches('"');
            entries.push(Entry { line: index + 1, table, key, value: value.trim() });
        }
    }
    entries
}

/// A `#` inside a string is no comment.
fn without_comment(line: &str) -> &str {
    let mut in_string = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => in_string = !in_string,
            '#' if !in_string => return line.get(..at).unwrap_or(line),
            _ => {}
        }
    }
    line
}

/// How many brackets stay open.
fn brackets(text: &str) -> i32 {
    let mut in_string = false;
    text.chars().fold(0, |depth, c| {
        in_string ^= c == '"';
        match c {
            '[' | '{' if !in_string => depth + 1,
            ']' | '}' if !in_string => depth - 1,
            _ => depth,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r##"
name = "#1"          # a comment
[dependencies]
zmq.workspace = true
serde = { version = "1", features = [
  "derive", # one = two
] }
[[service]]
pattern = "a[b"
list = ["x",
  "y"]
"##;

    #[test]
    fn entries_know_their_line_and_table() {
        let paths: Vec<(usize, String)> =
            entries(TEXT).iter().map(|entry| (entry.line, entry.path())).collect();
        let expected = [
            (2, "name"),
            (4, "dependencies.zmq.workspace"),
            (5, "dependencies.serde"),
            (9, "service.pattern"),
            (10, "service.list"),
        ];
        assert_eq!(paths, expected.map(|(line, path)| (line, path.to_owned())));
    }

    #[test]
    fn values_are_as_written_without_the_comment() {
        assert_eq!(entries(TEXT).first().map(|entry| entry.value), Some(r##""#1""##));
    }
}
