//! A task is a row of stages; each is announced, timed and summed up at the end.

use std::time::{Duration, Instant};

use crate::{run::Failure, say, totals::Totals};

/// One part of a task, done.
#[derive(Debug)]
struct Stage {
    name: String,
    took: Duration,
    failure: Option<Failure>,
    totals: Totals,
}

/// The stages of one task.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    stages: Vec<Stage>,
}

impl Stages {
    /// Runs a stage to its end, whatever the ones before it said. Whether it succeeded.
    pub(crate) fn run(&mut self, name: &str, stage: impl FnOnce() -> Result<(), Failure>) -> bool {
        self.perform(name, |_| stage())
    }

    /// The same for a stage whose runners count tests. One that fails has at least one failure: a
    /// build that fails counts no tests, but nobody shall read "0 failed".
    pub(crate) fn count(
        &mut self,
        name: &str,
        stage: impl FnOnce(&mut Totals) -> Result<(), Failure>,
    ) -> bool {
        self.perform(name, |totals| {
            stage(totals).inspect_err(|_| totals.failed = totals.failed.max(1))
        })
    }

    fn perform(
        &mut self,
        name: &str,
        stage: impl FnOnce(&mut Totals) -> Result<(), Failure>,
    ) -> bool {
        say::line(&format!("==> {name} ..."));
        let started = Instant::now();
        let mut totals = Totals::default();
        let failure = stage(&mut totals).err();
        let took = started.elapsed();
        match &failure {
            None => say::line(&format!("==> {name} ... {}", say::duration(took))),
            Some(failure) => say::line(&format!("==> {name} ... FAILED: {failure}")),
        }
        let succeeded = failure.is_none();
        self.stages.push(Stage { name: name.to_owned(), took, failure, totals });
        succeeded
    }

    /// Says what each stage did and took. Fails if one of them failed.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        say::line("");
        self.stages.iter().for_each(|stage| say::line(&summary(stage)));
        let failed: Vec<&str> = self
            .stages
            .iter()
            .filter(|stage| stage.failure.is_some())
            .map(|stage| stage.name.as_str())
            .collect();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!("failed: {}", failed.join(", "))))
        }
    }

    /// The sum so far.
    pub(crate) fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        self.stages.iter().for_each(|stage| sum.add(&stage.totals));
        sum
    }
}

fn summary(stage: &Stage) -> String {
    let verdict = if stage.failure.is_none() { "ok" } else { "FAILED" };
    let Totals { passed, failed, .. } = &stage.totals;
    let counted = if passed + failed > 0 {
        format!("  {passed} passed, {failed} failed")
    } else {
        String::new()
    };
    format!("    {:<22} {verdict:<7} {:>12}{counted}", stage.name, say::duration(stage.took))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_stage_does_not_stop_the_next_and_fails_the_task() {
        let mut stages = Stages::default();

        assert!(!stages.count("first", |_| Err(Failure::new("no"))));
        assert!(stages.run("second", || Ok(())));

        assert_eq!(stages.totals().failed, 1);
        assert_eq!(stages.finish(), Err(Failure::new("failed: first")));
    }

    #[test]
    fn counts_of_stages_are_summed() {
        let mut stages = Stages::default();
        for _ in 0..2 {
            stages.count("tests", |totals| {
                totals.read_line("test result: ok. 3 passed; 0 failed");
                Ok(())
            });
        }

        assert_eq!(stages.totals().passed, 6);
    }
}
