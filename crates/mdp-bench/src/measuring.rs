//! The options that all comparing programs have: which broker, for how long, how often.

use std::{
    env,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

/// Options of a program that measures a broker several times.
#[derive(Clone, Debug, Args)]
pub struct Measuring {
    /// The broker; `majordomo` beside this program unless given.
    #[arg(long, env = "MAJORDOMO_BIN")]
    program: Option<PathBuf>,
    /// Short measurements, for a glance or a guard.
    #[arg(long)]
    pub quick: bool,
    /// How many times each is measured.
    #[arg(long)]
    rounds: Option<usize>,
    /// How long each measurement takes, in seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// JSON instead of tables.
    #[arg(long)]
    pub json: bool,
}

/// How often and for how long something is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How many times.
    pub rounds: usize,
    /// What is not counted at the beginning of each.
    pub warmup: Duration,
    /// What is.
    pub duration: Duration,
}

impl Pace {
    /// This many rounds, each of so many milliseconds after a warm-up.
    #[must_use]
    pub const fn of(rounds: usize, warmup_ms: u64, duration_ms: u64) -> Self {
        let warmup = Duration::from_millis(warmup_ms);
        Self { rounds, warmup, duration: Duration::from_millis(duration_ms) }
    }
}

impl Measuring {
    /// What is asked for: one of these two, unless options say otherwise.
    ///
    /// # Errors
    /// `--seconds` is no length of time.
    pub fn pace(&self, quick: Pace, thorough: Pace) -> anyhow::Result<Pace> {
        let usual = if self.quick { quick } else { thorough };
        let duration = match self.seconds {
            Some(seconds) => Duration::try_from_secs_f64(seconds).context("--seconds")?,
            None => usual.duration,
        };
        Ok(Pace { rounds: self.rounds.unwrap_or(usual.rounds), duration, ..usual })
    }

    /// The broker given, or the one beside this program.
    ///
    /// # Errors
    /// This program's own path is unknown.
    pub fn program(&self) -> anyhow::Result<PathBuf> {
        self.program.clone().map_or_else(|| sibling("majordomo"), Ok)
    }
}

/// The program of this name beside this one.
///
/// # Errors
/// This program's own path is unknown.
pub fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    Ok(env::current_exe().context("this program's own path is unknown")?.with_file_name(name))
}

/// What a program says of its version, in one line.
///
/// # Errors
/// It does not run, or says nothing.
pub fn version_of(program: &Path) -> anyhow::Result<String> {
    let asked = || format!("{} --version", program.display());
    let output = Command::new(program).arg("--version").output().with_context(asked)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().next().filter(|line| !line.is_empty());
    Ok(line.with_context(|| format!("{} says nothing", asked()))?.to_owned())
}

/// The exit code of a program that ended so; an error is said on standard error, and is 2.
pub fn ended(program: &str, result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        // An error that cannot be shown is an error all the same.
        drop(writeln!(io::stderr(), "{program}: {error:#}"));
        ExitCode::from(2)
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        measuring: Measuring,
    }

    const QUICK: Pace = Pace::of(3, 100, 400);
    const THOROUGH: Pace = Pace::of(9, 300, 1_000);

    fn parse(arguments: &[&str]) -> Measuring {
        let arguments = ["bench"].iter().chain(arguments);
        Arguments::try_parse_from(arguments).unwrap().measuring
    }

    #[test]
    fn pace_is_the_usual_one_unless_options_say_otherwise() {
        assert_eq!(parse(&[]).pace(QUICK, THOROUGH).unwrap(), THOROUGH);
        assert_eq!(parse(&["--quick"]).pace(QUICK, THOROUGH).unwrap(), QUICK);

        let own = parse(&["--quick", "--rounds", "7", "--seconds", "2.5"]);
        assert_eq!(own.pace(QUICK, THOROUGH).unwrap(), Pace::of(7, 100, 2_500));
    }

    #[test]
    fn seconds_must_be_a_length_of_time() {
        assert!(parse(&["--seconds=-1"]).pace(QUICK, THOROUGH).is_err());
    }

    #[test]
    fn version_is_the_first_line_that_a_program_says_of_it() {
        assert!(version_of(Path::new("cargo")).unwrap().starts_with("cargo 1."));
        let error = format!("{:#}", version_of(Path::new("/no/such/program")).unwrap_err());
        assert!(error.contains("/no/such/program --version"), "{error}");
    }

    #[test]
    fn program_is_the_one_given_or_the_one_beside_this_one() {
        let given = parse(&["--program", "/opt/majordomo"]).program().unwrap();
        assert_eq!(given, PathBuf::from("/opt/majordomo"));
        assert_eq!(sibling("other").unwrap().parent(), env::current_exe().unwrap().parent());
    }
}
