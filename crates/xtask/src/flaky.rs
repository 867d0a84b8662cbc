//! `soak flaky`: every suite of `test` again and again, and how often each test failed.

use std::collections::BTreeMap;

use crate::{
    run::Failure,
    say,
    stage::Stages,
    suite::{self, Part},
    totals::Totals,
    workspace::Workspace,
};

/// How often each suite is run unless it is said.
const RUNS: u32 = 20;
/// How often at most; all suites together take 25 minutes.
const RUNS_MAX: u32 = 1_000;

/// What is repeated, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flaky {
    /// This suite alone.
    only: Option<Part>,
    runs: u32,
}

impl TryFrom<&[String]> for Flaky {
    type Error = String;

    /// The argument that means nothing.
    fn try_from(arguments: &[String]) -> Result<Self, String> {
        let mut flaky = Self { only: None, runs: RUNS };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if word == "--runs" {
                let count = words.next().ok_or_else(|| word.clone())?;
                let runs = count.parse().ok().filter(|runs| (1..=RUNS_MAX).contains(runs));
                flaky.runs = runs.ok_or_else(|| count.clone())?;
            } else {
                let part = Part::named(word).filter(|_| flaky.only.is_none());
                flaky.only = Some(part.ok_or_else(|| word.clone())?);
            }
        }
        Ok(flaky)
    }
}

/// How often what failed, by suite and test.
#[derive(Debug, Default, PartialEq, Eq)]
struct Failures(BTreeMap<(&'static str, String), u32>);

impl Failures {
    /// A suite that failed without the name of a test counts by its own: it timed out, or is no test program.
    fn add(&mut self, suite: &'static str, names: &[String]) {
        let mut names: Vec<String> = names.to_vec();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            names.push("(the suite itself)".to_owned());
        }
        for name in names {
            *self.0.entry((suite, name)).or_default() += 1;
        }
    }

    fn lines(&self, runs: u32) -> Vec<String> {
        let line = |((suite, test), count): (&(&'static str, String), &u32)| {
            format!("    {suite:<12} {count:>3} of {runs}  {test}")
        };
        self.0.iter().map(line).collect()
    }
}

/// Builds once, then runs the suites one after the other, as often as was asked for. Fails if any of them
/// failed in any run.
pub(crate) fn run(workspace: &Workspace, flaky: Flaky) -> Result<(), Failure> {
    let Flaky { only, runs } = flaky;
    let parts = suite::parts(only);
    let mut stages = Stages::default();
    if !suite::prepare(workspace, &parts, &mut stages)? {
        return stages.finish();
    }
    let mut failures = Failures::default();
    for run in 1..=runs {
        for part in &parts {
            let mut names = Vec::new();
            let succeeded = stages.count(&format!("{} {run}/{runs}", part.name()), |totals| {
                let outcome = part.run(workspace, totals);
                names = totals.failed_names().to_vec();
                outcome
            });
            if !succeeded {
                failures.add(part.name(), &names);
            }
        }
    }
    let Totals { passed, failed, .. } = stages.totals();
    let outcome = stages.finish();
    say::line("");
    if failures.0.is_empty() {
        say::line(&format!("    nothing failed in {runs} runs of {} suites", parts.len()));
    } else {
        say::line(&format!("    failed, of {runs} runs of each suite:"));
        failures.lines(runs).iter().for_each(|line| say::line(line));
    }
    say::line(&format!("{passed} passed, {failed} failed"));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaky(words: &[&str]) -> Result<Flaky, String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Flaky::try_from(words.as_slice())
    }

    #[test]
    fn every_suite_runs_twenty_times_unless_it_is_said() {
        assert_eq!(flaky(&[]), Ok(Flaky { only: None, runs: 20 }));
        let one = Flaky { only: Some(Part::Delivery), runs: 3 };
        assert_eq!(flaky(&["delivery", "--runs", "3"]), Ok(one));
        assert_eq!(flaky(&["--runs", "3", "delivery"]), Ok(one));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (words, wrong) in [
            (&["nothing"][..], "nothing"),
            (&["delivery", "relay"], "relay"),
            (&["--runs"], "--runs"),
            (&["--runs", "0"], "0"),
            (&["--runs", "1001"], "1001"),
            (&["--runs", "many"], "many"),
        ] {
            assert_eq!(flaky(words), Err(wrong.to_owned()), "{words:?}");
        }
    }

    #[test]
    fn failures_are_counted_by_suite_and_test() {
        let mut failures = Failures::default();
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();

        failures.add("delivery", &names(&["a::b", "a::b", "c"]));
        failures.add("delivery", &names(&["c"]));
        failures.add("speed", &[]);

        let lines = [
            "    delivery       1 of 20  a::b",
            "    delivery       2 of 20  c",
            "    speed          1 of 20  (the suite itself)",
        ];
        assert_eq!(failures.lines(20), lines);
    }
}
