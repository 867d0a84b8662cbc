//! A handful of seeds from their beginning to their end. `cargo xtask sim` runs many more.

#![cfg(test)]

use std::time::Duration;

use mdp_sim::{Options, Outcome, regressions, run};

/// Shorter than `cargo xtask sim`, for these tests are not built for speed.
const SHORT: Options = Options { safety: Duration::from_secs(8), is_loud: false };

fn passes(seed: u64, options: &Options) -> Outcome {
    let outcome = run(seed, options);
    if let Err(violation) = &outcome.verdict {
        panic!("{violation}\n{}", violation.window.join("\n"));
    }
    outcome
}

#[test]
fn same_seed_gives_the_same_trace() {
    for seed in 1..=6 {
        let (one, other) = (run(seed, &SHORT), run(seed, &SHORT));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.steps, other.steps, "seed {seed}");
    }
}

#[test]
fn other_seeds_give_other_traces() {
    assert_ne!(run(1, &SHORT).trace, run(2, &SHORT).trace);
}

#[test]
fn ten_seeds_pass() {
    for seed in 1..=10 {
        let outcome = passes(seed, &SHORT);
        assert!(outcome.simulated >= SHORT.safety, "seed {seed}");
    }
}

#[test]
fn seeds_that_once_found_something_pass() {
    for seed in regressions() {
        assert!(passes(seed, &Options::default()).steps > 0, "seed {seed}");
    }
}
