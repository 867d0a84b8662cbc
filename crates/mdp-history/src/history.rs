//! Records the history of one service.

use crate::{Action, Operation, Verdict, check};

/// What is called; the answer of a lookup is known only when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A registration begins to count.
    Add(u8),
    /// A registration ends to count.
    Remove(u8),
    /// `mmi.service` is asked.
    Lookup,
}

/// An operation of one [`History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId(usize);

/// The operations on one service, which nobody offers at the start. Times are in any unit, of one
/// clock.
///
/// A registration or removal that is called and never returns may take effect at any later time,
/// or never. A lookup without an answer says nothing and is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    operations: Vec<Recorded>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recorded {
    /// A lookup without an answer.
    Asked {
        called_at: u64,
    },
    Operation(Operation),
    Forgotten,
}

impl History {
    /// Nothing has happened.
    #[must_use]
    pub const fn new() -> Self {
        Self { operations: Vec::new() }
    }

    /// An operation begins.
    pub fn call(&mut self, call: Call, at: u64) -> OpId {
        let open = |action| {
            let (returned_at, is_optional) = (None, false);
            Recorded::Operation(Operation { action, called_at: at, returned_at, is_optional })
        };
        let recorded = match call {
            Call::Add(registration) => open(Action::Add(registration)),
            Call::Remove(registration) => open(Action::Remove(registration)),
            Call::Lookup => Recorded::Asked { called_at: at },
        };
        self.operations.push(recorded);
        OpId(self.operations.len() - 1)
    }

    /// An open registration or removal has taken effect.
    ///
    /// # Panics
    /// It is a lookup, or not open.
    pub fn return_(&mut self, id: OpId, at: u64) {
        let operation = self.open(id);
        *operation = Operation { returned_at: Some(at), ..*operation };
    }

    /// An open registration or removal has taken effect, or never will.
    ///
    /// # Panics
    /// It is a lookup, or not open.
    pub fn return_or_never(&mut self, id: OpId, at: u64) {
        let operation = self.open(id);
        *operation = Operation { returned_at: Some(at), is_optional: true, ..*operation };
    }

    /// A lookup is answered: somebody offers the service, or nobody.
    ///
    /// # Panics
    /// It is no lookup, or not open.
    pub fn answer(&mut self, id: OpId, found: bool, at: u64) {
        let recorded = self.recorded(id);
        let Recorded::Asked { called_at } = *recorded else {
            panic!("{id:?} is no open lookup: {recorded:?}");
        };
        let (action, returned_at) = (Action::Lookup { found }, Some(at));
        *recorded =
            Recorded::Operation(Operation { action, called_at, returned_at, is_optional: false });
    }

    /// Drops an operation: a lookup without an answer, or what certainly had no effect.
    ///
    /// # Panics
    /// The number is of another history.
    pub fn forget(&mut self, id: OpId) {
        *self.recorded(id) = Recorded::Forgotten;
    }

    /// Adds an operation that is over, or that never returns.
    pub fn push(&mut self, operation: Operation) {
        self.operations.push(Recorded::Operation(operation));
    }

    /// Nothing is under way any more: what is open has taken effect, or never will, and lookups
    /// without an answer get none.
    pub fn settle(&mut self, at: u64) {
        for recorded in &mut self.operations {
            match recorded {
                Recorded::Asked { .. } => *recorded = Recorded::Forgotten,
                Recorded::Operation(operation) if operation.returned_at.is_none() => {
                    *operation =
                        Operation { returned_at: Some(at), is_optional: true, ..*operation };
                }
                Recorded::Operation(_) | Recorded::Forgotten => {}
            }
        }
    }

    /// The operations without those that say nothing, in the order of the calls.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        let known = |recorded: &Recorded| match recorded {
            Recorded::Operation(operation) => Some(*operation),
            Recorded::Asked { .. } | Recorded::Forgotten => None,
        };
        self.operations.iter().filter_map(known).collect()
    }

    /// Whether some order explains every answer so far.
    pub fn check(&self) -> Verdict {
        check(&self.operations())
    }

    fn open(&mut self, id: OpId) -> &mut Operation {
        let recorded = self.recorded(id);
        let before = *recorded;
        match recorded {
            Recorded::Operation(operation) if operation.returned_at.is_none() => operation,
            Recorded::Operation(_) | Recorded::Asked { .. } | Recorded::Forgotten => {
                panic!("{id:?} is no open registration or removal: {before:?}")
            }
        }
    }

    fn recorded(&mut self, id: OpId) -> &mut Recorded {
        let recorded = self.operations.get_mut(id.0);
        recorded.unwrap_or_else(|| panic!("{id:?} is of another history"))
    }
}

#[cfg(test)]
mod tests;
