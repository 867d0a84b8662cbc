//! What the calls between nodes came to.

/// What the calls between nodes came to, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkTotals {
    /// Requests sent to other nodes.
    pub sent: u64,
    /// Answers that came in time.
    pub answered: u64,
    /// Requests whose time was up before their answer came.
    pub timed_out: u64,
    /// Requests whose connection was lost before their answer came.
    pub lost: u64,
    /// Requests refused because too many waited for the same node, or too many bytes of them.
    pub refused: u64,
    /// Answers that came too late, or that were not asked for.
    pub late_answers: u64,
    /// Requests of other nodes that were received.
    pub received: u64,
    /// Requests of other nodes that were dropped because too many were in progress, or too many bytes of
    /// them, or because this node was not ready for them.
    pub dropped: u64,
    /// Messages that were no requests, and connections of what is no node.
    pub malformed: u64,
    /// Answers that could not be sent any more.
    pub lost_answers: u64,
    /// How many nodes have a key, now.
    pub node_keys: u64,
    /// How often those could not be read again.
    pub keys_errors: u64,
    /// Connections with other nodes that have no encryption, now.
    pub plain_links: u64,
}
