//! How many tests passed and failed, read from what the runners print.

/// A sum over runners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    failed_names: Vec<String>,
    /// Since the last line `failures:`. The last such list of a runner has the names alone.
    listed: Vec<String>,
    /// `unittest` says how many ran on one line and how they ended on a later one.
    unittest_ran: u64,
}

impl Totals {
    /// Takes one line of a runner's output; lines that say nothing about totals change nothing.
    pub(crate) fn read_line(&mut self, line: &str) {
        if line == "failures:" {
            self.listed.clear();
        } else if let Some(name) = line.strip_prefix("    ").filter(|name| is_name(name)) {
            self.listed.push(name.to_owned());
        } else if let Some(name) =
            line.strip_prefix("FAIL: ").or_else(|| line.strip_prefix("ERROR: "))
        {
            self.failed_names.push(name.to_owned());
        } else if let Some((_, libtest)) = line.split_once("test result:") {
            let listed = std::mem::take(&mut self.listed);
            if number_before(libtest, " failed") > 0 {
                self.failed_names.extend(listed);
            }
            self.passed += number_before(libtest, " passed");
            self.failed += number_before(libtest, " failed");
        } else if let Some(ran) = line.strip_prefix("Ran ").filter(|rest| rest.contains(" test")) {
            self.unittest_ran = number_before(ran, " test");
        } else if self.unittest_ran > 0 && (line.starts_with("OK") || line.starts_with("FAILED")) {
            let failed = number_after(line, "failures=") + number_after(line, "errors=");
            let neither = number_after(line, "skipped=") + number_after(line, "expected failures=");
            self.failed += failed;
            self.passed += self.unittest_ran.saturating_sub(failed + neither);
            self.unittest_ran = 0;
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failed_names.extend_from_slice(&other.failed_names);
    }

    /// The tests that failed, as their runners name them.
    pub(crate) fn failed_names(&self) -> &[String] {
        &self.failed_names
    }
}

/// Of a test: a path, or a file with an item and a line. Its output is indented, too.
fn is_name(text: &str) -> bool {
    !text.starts_with(' ') && !text.is_empty()
}

/// The digits that end where `unit` begins, or 0.
fn number_before(text: &str, unit: &str) -> u64 {
    let Some((before, _)) = text.split_once(unit) else { return 0 };
    let digits = before.trim_end().rsplit(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The digits that follow `label`, or 0. A label that only ends a longer one does not count.
fn number_after(text: &str, label: &str) -> u64 {
    let own = |at: usize| {
        text.get(..at).is_none_or(|before| before.ends_with(['(', ',']) || before.ends_with(", "))
    };
    let Some((at, _)) = text.match_indices(label).find(|(at, _)| own(*at)) else { return 0 };
    let rest = text.get(at + label.len()..).unwrap_or_default();
    rest.split(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(lines: &[&str]) -> (u64, u64) {
        let mut totals = Totals::default();
        lines.iter().for_each(|line| totals.read_line(line));
        (totals.passed, totals.failed)
    }

    #[test]
    fn libtest_results_are_summed() {
        let lines = [
            "test bounds ... ok",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out",
            "test result: \u{1b}[31mFAILED\u{1b}[0m. 3 passed; 2 failed; 0 ignored",
        ];
        assert_eq!(totals(&lines), (15, 2));
    }

    #[test]
    fn failed_tests_are_named() {
        let mut totals = Totals::default();
        for line in [
            "test result: ok. 1 passed; 0 failed",
            "failures:",
            "",
            "---- topic::fails stdout ----",
            "    an indented line of its output",
            "",
            "failures:",
            "    topic::fails",
            "    topic::too",
            "",
            "test result: FAILED. 1 passed; 2 failed",
            "    a line of something else",
            "test result: ok. 1 passed; 0 failed",
            "FAIL: test_peer (test_guide_client.Guide.test_peer)",
        ] {
            totals.read_line(line);
        }

        let names = ["topic::fails", "topic::too", "test_peer (test_guide_client.Guide.test_peer)"];
        assert_eq!(totals.failed_names(), names);
    }

    #[test]
    fn unittest_results_are_summed() {
        assert_eq!(totals(&["Ran 7 tests in 3.001s", "", "OK"]), (7, 0));
        assert_eq!(totals(&["Ran 1 test in 0.1s", "OK"]), (1, 0));
        let failed = ["Ran 9 tests in 1s", "FAILED (failures=1, errors=2, skipped=1)"];
        assert_eq!(totals(&failed), (5, 3));
        let expected = ["Ran 4 tests in 1s", "OK (expected failures=1)"];
        assert_eq!(totals(&expected), (3, 0));
    }

    #[test]
    fn other_lines_change_nothing() {
        assert_eq!(totals(&["OK", "FAILED", "Ran out of ideas", "7 passed"]), (0, 0));
    }
}
