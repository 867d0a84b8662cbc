//! What the audience sees: numbered steps, what was typed, what came back, how long it took.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    players::{Player, Players},
    run::{self, Failure},
    say,
};

/// The steps so far.
#[derive(Debug)]
pub(super) struct Show {
    began: Instant,
    steps: usize,
    measured: Vec<(&'static str, String)>,
}

impl Show {
    pub(super) fn begin() -> Self {
        say::line("\nMajordomo, three nodes. Each line with a $ is a process that really runs.");
        Self { began: Instant::now(), steps: 0, measured: Vec::new() }
    }

    pub(super) fn step(&mut self, title: &str) {
        self.steps += 1;
        say::line(&format!("\n {}. {title}", self.steps));
    }

    /// Shows what a person would type; the endpoint comes from the environment.
    pub(super) fn does(&self, command: &str) {
        say::line(&format!("    $ {command}"));
    }

    pub(super) fn came_back(&self, text: &str) {
        for line in text.lines() {
            say::line(&format!("      {line}"));
        }
    }

    /// Shows rows in columns, the first row being the headings.
    pub(super) fn table<const N: usize>(&self, rows: &[[String; N]]) {
        self.came_back(&aligned(rows));
    }

    /// Starts a process that goes on while the show does.
    pub(super) fn start(&self, command: Command) -> Result<Player, Failure> {
        self.does(&run::shown(&command));
        Player::start(command)
    }

    /// Calls a service, waits for the reply and shows both.
    pub(super) fn call(
        &self,
        players: &Players,
        arguments: &[&str],
    ) -> Result<(String, Duration), Failure> {
        let mut command = players.call("client", arguments);
        self.does(&run::shown(&command));
        let started = Instant::now();
        let answer = run::output(&mut command)?.trim_end().to_owned();
        let took = started.elapsed();
        self.came_back(&answer);
        Ok((answer, took))
    }

    /// Keeps a time for the summary.
    pub(super) fn took(&mut self, what: &'static str, time: Duration) {
        self.measured(what, say::duration(time));
    }

    /// Keeps a figure for the summary.
    pub(super) fn measured(&mut self, what: &'static str, figure: String) {
        self.measured.push((what, figure));
    }

    pub(super) fn end(&self) {
        say::line("\n    What was measured");
        for (what, figure) in &self.measured {
            say::line(&format!("    {what:<48} {figure:>9}"));
        }
        say::line(&format!(
            "\nAll of it as it should be, in {}.",
            say::duration(self.began.elapsed())
        ));
    }
}

/// Every column as wide as its widest cell.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  "));
        cells.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["NODE", "TERM"], ["node-1", "2"]].map(|row| row.map(String::from));
        assert_eq!(aligned(&rows), "NODE    TERM\nnode-1  2");
    }
}
