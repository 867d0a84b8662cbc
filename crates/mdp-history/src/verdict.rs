//! What the checker says.

use std::{error, fmt};

use crate::{CONFIGURATIONS_MAX, OPEN_MAX, OPERATIONS_MAX, Operation, REGISTRATIONS_MAX, Window};

/// What the checker says about a history. Only [`Verdict::Legal`] is green.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a verdict that nobody reads proves nothing"]
pub enum Verdict {
    /// Some order explains every answer.
    Legal,
    /// No order does.
    Illegal(Illegal),
    /// The checker cannot tell.
    Inconclusive(Inconclusive),
}

impl Verdict {
    /// Whether some order explains every answer.
    #[must_use]
    pub const fn is_legal(&self) -> bool {
        matches!(self, Self::Legal)
    }

    /// Whether it is certain that no order explains the answers.
    #[must_use]
    pub const fn is_illegal(&self) -> bool {
        matches!(self, Self::Illegal(_))
    }

    /// Whether the checker cannot tell.
    #[must_use]
    pub const fn is_inconclusive(&self) -> bool {
        matches!(self, Self::Inconclusive(_))
    }
}

/// One line, and for an illegal history the window that shows why.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legal => f.write_str("legal"),
            Self::Illegal(illegal) => write!(f, "not linearizable: {illegal}"),
            Self::Inconclusive(reason) => write!(f, "inconclusive: {reason}"),
        }
    }
}

/// No order explains the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Illegal {
    /// The lookup at whose end the last explanation failed.
    pub at: Operation,
    /// The part of the history that shows it.
    pub window: Window,
}

impl Illegal {
    /// The window as aligned text, one operation a line.
    #[must_use]
    pub fn render_window(&self) -> String {
        self.window.render(&self.at)
    }
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no order explains \"{}\"\n{}", self.at.action, self.render_window())
    }
}

impl error::Error for Illegal {}

/// Why the checker cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inconclusive {
    /// More than [`OPEN_MAX`] registrations and removals, or lookups, were open at a time.
    OpenOperations,
    /// A registration has a number from [`REGISTRATIONS_MAX`] on.
    Registrations(u8),
    /// More than [`CONFIGURATIONS_MAX`] explanations competed.
    Explanations,
    /// More than [`OPERATIONS_MAX`] operations, for the second opinion only.
    Operations,
}

impl fmt::Display for Inconclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenOperations => {
                write!(f, "more than {OPEN_MAX} operations are open at the same time")
            }
            Self::Registrations(number) => {
                write!(f, "registration {number}, of at most {REGISTRATIONS_MAX} from 0")
            }
            Self::Explanations => {
                write!(f, "more than {CONFIGURATIONS_MAX} explanations compete")
            }
            Self::Operations => write!(f, "more than {OPERATIONS_MAX} operations"),
        }
    }
}

impl error::Error for Inconclusive {}
