//! The comparison as text.

use std::{fmt, io};

use super::{Comparison, ContenderResult, Figure, Sample};

const HEADINGS: [&str; 12] = [
    "load",
    "broker",
    "CPU us/req",
    "ratio",
    "switches",
    "p50 us",
    "ratio",
    "p99 us",
    "req/s",
    "errors",
    "ours CPU",
    "ours p50",
];

/// How many columns, from the left, hold words.
const WORDS: usize = 2;

/// Writes one line for each load and broker.
///
/// # Errors
/// The writer's.
pub fn write_table(out: &mut dyn io::Write, comparison: &Comparison) -> io::Result<()> {
    let mut rows = vec![HEADINGS.map(String::from)];
    for result in &comparison.scenarios {
        for (index, contender) in result.contenders.iter().enumerate() {
            let load = if index == 0 { result.scenario.to_string() } else { String::new() };
            rows.push(row(load, contender, index > 0));
        }
    }
    write_rows(out, &rows)
}

/// Writes the promises and what came of them.
///
/// # Errors
/// The writer's.
pub fn write_figures(out: &mut dyn io::Write, figures: &[Figure]) -> io::Result<()> {
    let width = figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or(0);
    for figure in figures {
        let Figure { name, measured, ratio, target } = figure;
        let verdict = if figure.is_met() { "met" } else { "MISSED" };
        writeln!(out, "{name:<width$}  {measured:>10}  {ratio:.2} (target {target:.2}) {verdict}")?;
    }
    Ok(())
}

fn row(load: String, contender: &ContenderResult, is_compared: bool) -> [String; 12] {
    let ContenderResult { name, median, ratio, ours, .. } = contender;
    let of_floor = |ratio: f64| if is_compared { format!("{ratio:.2}") } else { String::new() };
    let of_ours = |figure: fn(&Sample) -> f64| {
        ours.as_ref().map_or_else(String::new, |ours| format!("{:.2}", figure(ours)))
    };
    [
        load,
        name.clone(),
        format!("{:.2}", median.cpu_us),
        of_floor(ratio.cpu_us),
        format!("{:.2}", median.switches),
        format!("{:.0}", median.p50_us),
        of_floor(ratio.p50_us),
        format!("{:.0}", median.p99_us),
        format!("{:.0}", median.requests_per_second),
        format!("{:.0}", median.errors),
        of_ours(|ours| ours.cpu_us),
        of_ours(|ours| ours.p50_us),
    ]
}

/// Writes rows in columns; the first two hold words, the others numbers.
///
/// # Errors
/// The writer's.
pub fn write_rows<const N: usize>(out: &mut dyn io::Write, rows: &[[String; N]]) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            write_cell(&mut line, cell, width, column < WORDS).map_err(io::Error::other)?;
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn write_cell(line: &mut dyn fmt::Write, cell: &str, width: usize, is_word: bool) -> fmt::Result {
    match is_word {
        true => write!(line, "{cell:<width$}  "),
        false => write!(line, "{cell:>width$}  "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_aligned_left_and_numbers_right() {
        let rows = [["load", "broker", "us"], ["a", "b", "7"], ["", "long one", "1234"]];
        let mut out = Vec::new();

        write_rows(&mut out, &rows.map(|row| row.map(String::from))).unwrap();

        let expected = "load  broker      us\na     b            7\n      long one  1234\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
