//! Whole clusters in virtual time: the real engine, the real replica and the real consensus, on a
//! network, disks and clocks that come from one seed. Faults are drawn from that seed, too; what must
//! always hold is checked while they happen, and what must hold in the end once they are over.
//!
//! One thread, one seed, one trace: the same seed repeats a run exactly.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a simulation stops at the first surprise, which no peer reaches, and each judge looks at \
              the few events that it is about"
)]

mod actor;
mod actors;
mod calls;
mod campaign;
mod crew;
mod disk;
mod faults;
mod hosts;
mod invariants;
mod machine;
mod network;
mod observation;
mod operator;
mod outcome;
mod plan;
mod port;
mod ports;
mod process;
mod queue;
mod release;
mod rng;
mod roster;
mod shared;
mod trace;
mod truth;
mod turn;
mod view;
mod wires;
mod world;

use std::{cell::Cell, panic, sync::Once};

pub use self::{
    campaign::{Campaign, Progress, regressions},
    outcome::{Options, Outcome, SAFETY, Summary, Violation},
    rng::Rng,
};
use self::{plan::Plan, world::World};

thread_local! {
    /// The seed that this thread runs, for the report of a panic.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A panic is a violation, and says so before it ends the process.
fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if let Some(seed) = SEED.get() {
                say(&format!("violation: seed {seed}: panic: {panicked}"));
                say(&format!("repeat it: cargo xtask sim --seed {seed} --seeds 1 --replay"));
            }
            before(panicked);
        }));
    });
}

/// Runs one seed from its beginning to its end.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Outcome {
    report_panics();
    SEED.set(Some(seed));
    let outcome = run_quietly(seed, options);
    SEED.set(None);
    outcome
}

fn run_quietly(seed: u64, options: &Options) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be made");
    runtime.block_on(async {
        let plan = Plan::draw(seed, options.safety);
        World::new(plan, options).run().await
    })
}

/// What a seed decides before anything happens, for people.
#[must_use]
pub fn plan_of(seed: u64, options: &Options) -> String {
    format!("{:#?}", Plan::draw(seed, options.safety))
}

#[expect(clippy::print_stdout, reason = "a replay is there to be read")]
fn say(line: &str) {
    println!("{line}");
}
