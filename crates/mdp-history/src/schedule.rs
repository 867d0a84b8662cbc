//! The calls and returns of a history by time.

use crate::{OPEN_MAX, Operation};

/// Something that the search has to take note of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) moment: Moment,
    /// Which operation of the history.
    pub(crate) index: usize,
    /// The operation's place while it is open; none if too many are open.
    pub(crate) slot: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    Call,
    Return,
}

/// Calls and returns by time. At equal times calls come first: what overlaps may be swapped.
///
/// Lookups that may be wrong, for want of an answer, say nothing and are left out. Registrations
/// and removals have slots of their own, and so have lookups. What never returns has a slot below
/// those of all that never return and were called before.
pub(crate) fn events(history: &[Operation]) -> Vec<Event> {
    let mut moments = Vec::with_capacity(history.len() * 2);
    for (index, operation) in history.iter().enumerate() {
        if operation.action.is_lookup() && operation.may_never_happen() {
            continue;
        }
        moments.push((operation.called_at, Moment::Call, index));
        // An operation takes some time, even if the clock did not see it.
        let returned_at = operation.returned_at.map(|at| at.max(operation.called_at));
        moments.extend(returned_at.map(|at| (at, Moment::Return, index)));
    }
    moments.sort_unstable();
    let mut slots = Slots { of_operation: vec![None; history.len()], lookups: 0, mutators: 0 };
    let slotted = |(_, moment, index)| {
        let operation: Option<&Operation> = history.get(index);
        let is_lookup = operation.is_some_and(|it| it.action.is_lookup());
        let slot = match (moment, operation.and_then(|it| it.returned_at)) {
            (Moment::Call, Some(_)) => slots.take(index, is_lookup),
            (Moment::Call, None) => slots.take_for_ever(),
            (Moment::Return, _) => slots.free(index, is_lookup),
        };
        Event { moment, index, slot }
    };
    moments.into_iter().map(slotted).collect()
}

struct Slots {
    of_operation: Vec<Option<u8>>,
    /// Bits of the slots that are taken.
    lookups: u128,
    mutators: u128,
}

impl Slots {
    fn taken(&mut self, is_lookup: bool) -> &mut u128 {
        if is_lookup { &mut self.lookups } else { &mut self.mutators }
    }

    fn take(&mut self, index: usize, is_lookup: bool) -> Option<u8> {
        let taken = self.taken(is_lookup);
        let slot = u8::try_from(taken.trailing_ones()).ok().filter(|slot| *slot < OPEN_MAX)?;
        *taken |= 1 << slot;
        *self.of_operation.get_mut(index)? = Some(slot);
        Some(slot)
    }

    /// For a registration or removal.
    fn take_for_ever(&mut self) -> Option<u8> {
        let taken = u8::try_from(self.mutators.leading_ones()).ok();
        let slot = (OPEN_MAX - 1).checked_sub(taken?)?;
        self.mutators |= 1 << slot;
        Some(slot)
    }

    fn free(&mut self, index: usize, is_lookup: bool) -> Option<u8> {
        let slot = (*self.of_operation.get(index)?)?;
        *self.taken(is_lookup) &= !(1 << slot);
        Some(slot)
    }
}
