//! Aligned columns.

use std::fmt;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Between two columns.
const GAP: &str = "  ";

/// How far a word may be shortened.
const WORD_MIN: usize = 8;

/// A text of at most this many columns of the screen: both ends, which tell names apart.
pub(crate) fn shortened(text: &str, columns_max: usize) -> String {
    if text.width() <= columns_max {
        return text.to_owned();
    }
    let kept = columns_max.saturating_sub(1);
    let start = head(text.chars(), kept.div_ceil(2));
    let end = head(text.chars().rev(), kept / 2);
    format!("{start}\u{2026}{}", end.chars().rev().collect::<String>())
}

/// The first characters that fit into so many columns of the screen.
fn head(characters: impl Iterator<Item = char>, columns_max: usize) -> String {
    let mut columns = 0_usize;
    let fits = |character: &char| {
        columns = columns.saturating_add(character.width().unwrap_or(0));
        columns <= columns_max
    };
    characters.take_while(fits).collect()
}

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
        self.rows.push(cells.into_iter().map(escape).collect());
    }

    /// Makes the lines fit into this many columns of a terminal: columns with these titles are left
    /// out, in this order, as far as needed; then the cells of the widest columns of words are
    /// shortened.
    pub(crate) fn fit(&mut self, columns_max: usize, dispensable: &[&str]) {
        for title in dispensable {
            if self.line_width() <= columns_max {
                return;
            }
            let titles = self.rows.first().map_or(&[][..], Vec::as_slice);
            let Some(column) = titles.iter().position(|other| other == title) else { continue };
            self.columns.remove(column);
            for row in self.rows.iter_mut().filter(|row| row.len() > column) {
                row.remove(column);
            }
        }
        while self.line_width() > columns_max {
            let excess = self.line_width() - columns_max;
            let words = (0..self.columns.len())
                .filter(|column| matches!(self.columns.get(*column), Some(Align::Left)));
            let Some(widest) = words.max_by_key(|column| self.width(*column)) else { return };
            let width = self.width(widest);
            let shorter = width.saturating_sub(excess).max(WORD_MIN);
            if shorter >= width {
                return;
            }
            for cell in self.rows.iter_mut().filter_map(|row| row.get_mut(widest)) {
                *cell = shortened(cell, shorter);
            }
        }
    }

    fn line_width(&self) -> usize {
        let gaps = GAP.len() * self.columns.len().saturating_sub(1);
        (0..self.columns.len()).map(|column| self.width(column)).sum::<usize>() + gaps
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.width()).max().unwrap_or(0)
    }
}

/// Escapes the characters that could steer a terminal, and no others.
fn escape(cell: String) -> String {
    if !cell.chars().any(is_steering) {
        return cell;
    }
    let escaped = cell.chars().map(|character| {
        if is_steering(character) {
            character.escape_default().to_string()
        } else {
            character.into()
        }
    });
    escaped.collect()
}

/// Controls, separators of lines and paragraphs, and what turns the direction of writing.
pub(crate) fn is_steering(character: char) -> bool {
    let turns = ['\u{61c}', '\u{200e}', '\u{200f}'].contains(&character)
        || ('\u{2028}'..='\u{202e}').contains(&character)
        || ('\u{2066}'..='\u{2069}').contains(&character);
    character.is_control() || turns
}

/// The cell, and blanks on the side where the column is not even, to fill a width on the screen: a
/// Chinese character takes two columns, an accent none.
fn padded(cell: &str, align: Align, width: usize) -> String {
    let blanks = " ".repeat(width.saturating_sub(cell.width()));
    match align {
        Align::Left => format!("{cell}{blanks}"),
        Align::Right => format!("{blanks}{cell}"),
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width(column)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, align), width) in row.iter().zip(&self.columns).zip(&widths) {
                let gap = if line.is_empty() { "" } else { GAP };
                line.push_str(gap);
                line.push_str(&padded(cell, *align, *width));
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

    #[test]
    fn texts_are_shortened_in_the_middle() {
        assert_eq!(shortened("orders.create", 13), "orders.create");
        assert_eq!(shortened("orders.create", 9), "orde\u{2026}eate");
        assert_eq!(shortened("größe.größe", 4), "gr\u{2026}e");
        assert_eq!(shortened("日本語の名前", 8), "日本\u{2026}前");
    }

    #[test]
    fn table_fits_by_leaving_columns_out_and_then_by_shortening_words() {
        let mut table =
            Table::new(&[("NAME", Align::Left), ("N", Align::Right), ("M", Align::Right)]);
        table.row(["a-long-name-of-a-service".into(), "1234".into(), "567".into()]);

        let fitted = |columns_max| {
            let mut table = table.clone();
            table.fit(columns_max, &["M", "N"]);
            table.to_string().lines().last().unwrap().to_owned()
        };
        assert_eq!(fitted(80), "a-long-name-of-a-service  1234  567");
        assert_eq!(fitted(30), "a-long-name-of-a-service  1234");
        assert_eq!(fitted(24), "a-long-name-of-a-service");
        assert_eq!(fitted(11), "a-lon\u{2026}rvice");
        // Not so short that nothing is left of it.
        assert_eq!(fitted(2), "a-lo\u{2026}ice");
    }

    #[test]
    fn columns_are_aligned_on_the_screen() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right)]);
        table.row(["日本語".into(), "7".into()]);
        table.row(["gro\u{308}ße".into(), "12".into()]);
        table.row(["a\u{202e}b".into(), "1".into()]);

        let rows = ["NAME         N", "日本語       7", "gro\u{308}ße       12", "a\\u{202e}b   1"];
        assert_eq!(table.to_string(), rows.join("\n") + "\n");
    }
}
