//! Random histories: legal ones of a real sequential object, and others.

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};

use crate::{Action, Operation};

/// How many registrations a generated history has at most.
const REGISTRATIONS: u8 = 4;

/// The time between operations in a history in which few overlap.
pub(crate) const SPARSE: u64 = 5;

/// The same for one in which most overlap.
pub(crate) const DENSE: u64 = 1;

/// One operation at the real object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    kind: u8,
    registration: u8,
    /// Since the step before.
    gap: u64,
    /// How long before its effect it is called.
    before: u64,
    /// How long after its effect it returns.
    after: u64,
    fate: u8,
}

/// A change of a history that may make it illegal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mutation {
    Flip(usize),
    Delay(usize, u64),
    Shorten(usize),
    Require(usize),
    Drop(usize),
}

/// At most so many steps, at most so far apart.
pub(crate) fn steps(count_max: usize, gap_max: u64) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..6_u8, 0..REGISTRATIONS, 0..=gap_max, 0..8_u64, 0..8_u64, 0..12_u8).prop_map(
        |(kind, registration, gap, before, after, fate)| Step {
            kind,
            registration,
            gap,
            before,
            after,
            fate,
        },
    );
    prop::collection::vec(step, 1..=count_max)
}

pub(crate) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let at = 0..64_usize;
    let mutation = prop_oneof![
        4 => at.clone().prop_map(Mutation::Flip),
        2 => (at.clone(), 1..20_u64).prop_map(|(at, by)| Mutation::Delay(at, by)),
        2 => at.clone().prop_map(Mutation::Shorten),
        1 => at.clone().prop_map(Mutation::Require),
        1 => at.prop_map(Mutation::Drop),
    ];
    prop::collection::vec(mutation, 1..4)
}

/// What the object answers, with times around the moment of each effect.
pub(crate) fn legal(steps: &[Step]) -> Vec<Operation> {
    let (mut now, mut registered) = (20, 0_u8);
    let mut history = Vec::new();
    for step in steps {
        now += step.gap;
        let action = match step.kind {
            0 | 1 => Action::Add(step.registration),
            2 => Action::Remove(step.registration),
            _ => Action::Lookup { found: registered != 0 },
        };
        let is_lookup = action.is_lookup();
        let (called_at, returned_at) = (now - step.before, Some(now + step.after));
        let over = Operation { action, called_at, returned_at, is_optional: false };
        // Some never return, with or without effect, and some may have no effect.
        let (operation, has_effect) = match step.fate {
            0 => (Operation { returned_at: None, ..over }, true),
            1 => (Operation { returned_at: None, ..over }, false),
            2 if !is_lookup => (Operation { is_optional: true, ..over }, true),
            3 if !is_lookup => (Operation { is_optional: true, ..over }, false),
            _ => (over, true),
        };
        history.push(operation);
        match action {
            Action::Add(registration) if has_effect => registered |= 1 << registration,
            Action::Remove(registration) if has_effect => registered &= !(1 << registration),
            Action::Add(_) | Action::Remove(_) | Action::Lookup { .. } => {}
        }
    }
    history
}

pub(crate) fn mutated(mut history: Vec<Operation>, mutations: &[Mutation]) -> Vec<Operation> {
    for mutation in mutations {
        let length = history.len();
        let (Mutation::Flip(at)
        | Mutation::Delay(at, _)
        | Mutation::Shorten(at)
        | Mutation::Require(at)
        | Mutation::Drop(at)) = mutation;
        let Some(operation) = history.get_mut(at % length.max(1)) else { break };
        match mutation {
            Mutation::Flip(_) => {
                if let Action::Lookup { found } = &mut operation.action {
                    *found = !*found;
                }
            }
            Mutation::Delay(_, by) => {
                operation.called_at += by;
                operation.returned_at = operation.returned_at.map(|at| at + by);
            }
            Mutation::Shorten(_) => operation.returned_at = Some(operation.called_at),
            Mutation::Require(_) => {
                operation.is_optional = false;
                operation.returned_at.get_or_insert(operation.called_at + 5);
            }
            Mutation::Drop(_) => {
                history.remove(at % length);
            }
        }
    }
    history
}

/// Always the same cases.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let rng_seed = RngSeed::Fixed(7);
    TestRunner::new(Config { cases, rng_seed, failure_persistence: None, ..Config::default() })
}
