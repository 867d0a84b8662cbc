//! Aligned columns.

use std::fmt;

/// Between two columns.
const GAP: &str = "  ";

/// On which side a column is even.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Align {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

/// A header and rows of cells.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of these columns, without a row.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        let header = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        Self { columns: columns.iter().map(|(_, align)| *align).collect(), rows: vec![header] }
    }

    /// Two columns of names and values, without a header.
    pub(crate) fn pairs() -> Self {
        Self { columns: vec![Align::Left, Align::Left], rows: Vec::new() }
    }

    /// Adds a row. Characters that could steer a terminal are written as escapes.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let escape = |cell: String| {
            if cell.chars().any(char::is_control) {
                cell.escape_default().to_string()
            } else {
                cell
            }
        };
        self.rows.push(cells.into_iter().map(escape).collect());
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width(column)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, align), width) in row.iter().zip(&self.columns).zip(&widths) {
                let gap = if line.is_empty() { "" } else { GAP };
                line.push_str(&match align {
                    Align::Left => format!("{gap}{cell:<width$}"),
                    Align::Right => format!("{gap}{cell:>width$}"),
                });
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_escaped() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right)]);
        table.row(["echo\x1b".into(), "7".into()]);
        table.row(["a".into(), "1234".into()]);

        assert_eq!(table.to_string(), "NAME           N\necho\\u{1b}     7\na           1234\n");
    }
}
