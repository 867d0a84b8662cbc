//! Runs seeds of the cluster simulation; `cargo xtask sim` builds and starts it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "it speaks to people, and its progress goes by the real clock"
)]

use std::{
    io::{IsTerminal as _, Write as _, stdout},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use mdp_sim::{Campaign, Options, Progress, SAFETY, Violation, plan_of, regressions};

const USAGE: &str = "Runs seeds of the cluster simulation.

Usage: mdp-sim [OPTIONS]

  --seed S         the first seed (default 1)
  --seeds N        how many seeds (default 1)
  --seconds T      for how many simulated seconds faults come (default 20)
  --threads T      how many seeds run at the same time (default: as many as the machine has cores)
  --replay         prints what the seed decides, and everything as it happens
  --resume FILE    notes finished parts there, and leaves those out that are noted
  --json           the last line as JSON
  --list-mutants   lists the seeded bugs that a build with them can be told to have";

/// Violations were found.
const EXIT_VIOLATION: u8 = 1;
/// The arguments are wrong.
const EXIT_USAGE: u8 = 2;
/// How often progress is said.
const SAY_INTERVAL: Duration = Duration::from_secs(2);
/// So many of the last events are shown for a violation.
const SHOWN_EVENTS: usize = 80;

struct Request {
    campaign: Campaign,
    wants_json: bool,
    lists_mutants: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let request = match parse(&arguments) {
        Ok(Some(request)) => request,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(argument) => {
            eprintln!("mdp-sim: {argument:?} is not understood\n\n{USAGE}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if request.lists_mutants {
        for mutant in mdp_mutants::Mutant::ALL {
            println!("{}\t{}", mutant.name(), mutant.what());
        }
        return ExitCode::SUCCESS;
    }
    perform(&request)
}

fn parse(arguments: &[String]) -> Result<Option<Request>, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut campaign =
        Campaign { first: 1, count: 1, options: Options::default(), threads: cores, resume: None };
    let (mut wants_json, mut lists_mutants) = (false, false);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().ok_or_else(|| argument.clone())?;
            value.parse::<u64>().map_err(|_| value.clone())
        };
        match argument.as_str() {
            "--seed" => campaign.first = number()?,
            "--seeds" => campaign.count = number()?,
            "--seconds" => campaign.options.safety = Duration::from_secs(number()?),
            "--threads" => campaign.threads = usize::try_from(number()?.max(1)).unwrap_or(cores),
            "--replay" => campaign.options.is_loud = true,
            "--resume" => {
                let path = arguments.next().ok_or_else(|| argument.clone())?;
                campaign.resume = Some(PathBuf::from(path));
            }
            "--json" => wants_json = true,
            "--list-mutants" => lists_mutants = true,
            "--help" | "-h" => return Ok(None),
            _ => return Err(argument.clone()),
        }
    }
    Ok(Some(Request { campaign, wants_json, lists_mutants }))
}

fn perform(request: &Request) -> ExitCode {
    let Request { campaign, wants_json, .. } = request;
    if campaign.options.is_loud {
        println!("{}", plan_of(campaign.first, &campaign.options));
    }
    let began = Instant::now();
    let said = std::sync::atomic::AtomicU64::new(0);
    let tell = |progress: &Progress| {
        let now = began.elapsed();
        let slot = now.as_secs() / SAY_INTERVAL.as_secs();
        if said.fetch_max(slot, std::sync::atomic::Ordering::Relaxed) < slot {
            say_progress(progress, now);
        }
    };
    if campaign.count > 1 && !campaign.options.is_loud {
        let kept: Vec<u64> = regressions().collect();
        if let Err(violation) = campaign.run_part(&kept, Progress::default(), &|_| {}) {
            return report(&violation, &campaign.options);
        }
    }
    match campaign.run(&tell) {
        Err(error) => {
            eprintln!("mdp-sim: cannot note what is done: {error}");
            ExitCode::from(EXIT_USAGE)
        }
        Ok(Err(violation)) => report(&violation, &campaign.options),
        Ok(Ok(progress)) => {
            say_end(&progress, began.elapsed(), *wants_json);
            ExitCode::SUCCESS
        }
    }
}

fn say_progress(progress: &Progress, took: Duration) {
    let Progress { passed, of, simulated, .. } = progress;
    let rate = f64_of(*passed) / took.as_secs_f64();
    let speed = simulated.as_secs_f64() / took.as_secs_f64();
    let line = format!("sim: {passed} of {of} seeds, {rate:.1} a second, {speed:.0} x real time");
    if stdout().is_terminal() {
        print!("\r{line}");
        // A terminal that is gone does not matter here.
        match stdout().flush() {
            Ok(()) | Err(_) => {}
        }
    } else {
        println!("{line}");
    }
}

fn say_end(progress: &Progress, took: Duration, wants_json: bool) {
    let Progress { passed, simulated, faults, changes, answered, looked_up, trace, .. } = progress;
    let Progress { calls, newer_calls, links, newer_links, upgraded, .. } = progress;
    let speed = simulated.as_secs_f64() / took.as_secs_f64().max(0.001);
    if stdout().is_terminal() {
        println!();
    }
    println!(
        "sim: {:.0} simulated seconds in {:.1} s, {speed:.0} x real time; {faults} faults, \
         {changes} changes of members, {answered} requests and {looked_up} lookups answered; \
         {newer_calls} of {calls} calls and {newer_links} of {links} links between nodes in the next \
         version's format; {upgraded} clusters rose to it",
        simulated.as_secs_f64(),
        took.as_secs_f64(),
    );
    if wants_json {
        println!(
            "{{\"seeds\":{passed},\"violations\":0,\"trace\":\"{trace:016x}\",\"speed\":{speed:.1},\
             \"faults\":{faults},\"changes\":{changes},\"requests\":{answered},\"lookups\":{looked_up},\
             \"calls\":{calls},\"newer_calls\":{newer_calls},\"links\":{links},\"newer_links\":{newer_links},\
             \"upgraded\":{upgraded}}}"
        );
    } else {
        println!("sim: {passed} seeds passed, 0 violations, trace {trace:016x}");
    }
}

fn report(violation: &Violation, options: &Options) -> ExitCode {
    println!();
    if !options.is_loud {
        println!("{}", plan_of(violation.seed, options));
    }
    let hidden = violation.window.len().saturating_sub(SHOWN_EVENTS);
    for line in violation.window.iter().skip(hidden) {
        println!("{line}");
    }
    let seconds = match options.safety {
        SAFETY => String::new(),
        other => format!(" --seconds {}", other.as_secs()),
    };
    println!("violation: {violation}");
    println!("repeat it: cargo xtask sim --seed {} --seeds 1 --replay{seconds}", violation.seed);
    ExitCode::from(EXIT_VIOLATION)
}

fn f64_of(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
