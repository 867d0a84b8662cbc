//! What a node must know of itself to take part.

use mdp_catalog::NodeName;

use crate::IsolationWatch;

/// What a node must know of itself to take part.
#[derive(Debug)]
pub struct Membership {
    /// Its name.
    pub node: NodeName,
    /// By what the catalog tells this process from every other one under that name.
    pub process: u64,
    /// How right `mmi.service` has to be.
    pub consistency: Consistency,
    /// Whether a long isolation is told to the engine; `None`: nobody wants to know.
    pub isolation: Option<IsolationWatch>,
}

/// How right `mmi.service` has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// As of a moment after the question, whichever node is asked.
    Linearizable,
    /// As far as the asked node has heard: at once, also without a quorum, and maybe old.
    Local,
}
