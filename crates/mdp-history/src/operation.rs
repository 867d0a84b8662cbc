//! What a history is made of.

use std::fmt;

/// How many registrations a history of one service may have: they are numbered from 0.
pub const REGISTRATIONS_MAX: u8 = 64;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A registration begins to count.
    Add(u8),
    /// A registration ends to count.
    Remove(u8),
    /// `mmi.service` was asked, and said that somebody offers the service, or nobody.
    Lookup {
        /// Somebody does.
        found: bool,
    },
}

impl Action {
    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_lookup(self) -> bool {
        matches!(self, Self::Lookup { .. })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(registration) => write!(f, "add {registration}"),
            Self::Remove(registration) => write!(f, "remove {registration}"),
            Self::Lookup { found: true } => f.write_str("lookup: found"),
            Self::Lookup { found: false } => f.write_str("lookup: nobody"),
        }
    }
}

/// An operation with its times, in any unit, of one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it does.
    pub action: Action,
    /// When it began.
    pub called_at: u64,
    /// When it had taken effect at the latest. None: it may take effect at any later time.
    pub returned_at: Option<u64>,
    /// It may also never take effect. So may one that never returned.
    pub is_optional: bool,
}

impl Operation {
    /// Whether a history is explained without it as well.
    #[must_use]
    pub const fn may_never_happen(&self) -> bool {
        self.is_optional || self.returned_at.is_none()
    }
}
