//! Random sequences of everything that can happen, against a model of what must and must not
//! follow: twenty peers, both versions, malformed messages, a cluster that withholds its answers.
//!
//! `MAJORDOMO_CASES` sets the number of sequences, `MAJORDOMO_SEED` the seed that makes them.

mod model;
mod op;
mod peers;
mod world;

use std::{cell::RefCell, collections::BTreeSet};

use mdp_broker::{Counters, DropReason};
use proptest::{
    collection::vec,
    test_runner::{Config, RngSeed, TestCaseError, TestRunner},
};

use self::world::{World, settings};

/// Steps of one sequence at most.
const STEPS_MAX: usize = 100;

/// What all sequences together have reached.
#[derive(Default)]
struct Coverage {
    counters: Counters,
    reasons: BTreeSet<DropReason>,
    ends: BTreeSet<&'static str>,
}

impl Coverage {
    fn add(&mut self, world: &World) {
        let counters = world.counters();
        self.reasons.extend(counters.dropped.keys());
        self.ends.extend(world.ends());
        self.counters.dispatched += counters.dispatched;
        self.counters.replied += counters.replied;
        self.counters.partials += counters.partials;
        self.counters.redispatched += counters.redispatched;
        self.counters.registrations += counters.registrations;
        self.counters.refused_registrations += counters.refused_registrations;
        self.counters.pauses += counters.pauses;
    }

    /// A test that never gets anywhere would pass, too.
    fn assert_wide(&self) {
        let wanted = [
            DropReason::Expired,
            DropReason::AttemptsExhausted,
            DropReason::OutcomeUnknown,
            DropReason::PartiallyAnswered,
            DropReason::PartialsTooLarge,
            DropReason::QueueFull,
            DropReason::ServiceQueueFull,
            DropReason::ClientQueueFull,
            DropReason::Shed,
            DropReason::TooManyServices,
            DropReason::ClientGone,
            DropReason::Draining,
            DropReason::UnknownToken,
            DropReason::NotRegistered,
        ];
        let missing: Vec<_> = wanted.iter().filter(|r| !self.reasons.contains(r)).collect();
        assert!(missing.is_empty(), "never dropped for {missing:?}");
        assert_eq!(self.ends.len(), 6, "every way to end a registration: {:?}", self.ends);
        let counters = &self.counters;
        let counts = [
            counters.dispatched,
            counters.replied,
            counters.partials,
            counters.redispatched,
            counters.registrations,
            counters.refused_registrations,
            counters.pauses,
        ];
        assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
    }
}

pub(crate) fn number(name: &str, default: u64) -> u64 {
    let asked = std::env::var(name).ok();
    asked.map_or(default, |number| number.parse().expect("a number"))
}

#[test]
fn whatever_happens_the_model_holds() {
    let cases = u32::try_from(number("MAJORDOMO_CASES", 10_000)).unwrap();
    let rng_seed = RngSeed::Fixed(number("MAJORDOMO_SEED", 1));
    let config = Config { cases, rng_seed, failure_persistence: None, ..Config::default() };
    let coverage = RefCell::new(Coverage::default());

    let outcome = TestRunner::new(config).run(&vec(op::op(), 1..STEPS_MAX), |ops| {
        let mut world = World::new(settings());
        let held = ops.into_iter().try_for_each(|op| world.run(op)).and_then(|()| world.finish());
        held.map_err(TestCaseError::fail)?;
        coverage.borrow_mut().add(&world);
        Ok(())
    });

    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    if cases >= 1_000 {
        coverage.borrow().assert_wide();
    }
}
