//! What a node says at the end of its drain.

use serde_json::Value;

/// A drain receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Requests that were answered while it drained.
    pub finished: u64,
    /// Requests that other nodes took over.
    pub handed_over: u64,
    /// Accepted requests that got no reply.
    pub dropped: u64,
    /// Whether another node leads because of the drain.
    pub leader_moved: bool,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Receipt {
    /// All receipts in a log, oldest first.
    #[must_use]
    pub fn read_all(log: &str) -> Vec<Self> {
        log.lines().filter_map(Self::read).collect()
    }

    fn read(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(r#"{"event":"drained""#)?;
        // In a log of JSON, it may stand in a string or be an object of its own.
        let end = rest.find('}')?;
        let json = format!("{{\"event\":\"drained\"{}}}", rest.get(..end)?);
        let value: Value = serde_json::from_str(&json).ok()?;
        let number = |key: &str| value.get(key).and_then(Value::as_u64);
        Some(Self {
            finished: number("finished")?,
            handed_over: number("handed_over")?,
            dropped: number("dropped")?,
            leader_moved: value.get("leader_moved")?.as_bool()?,
            took_ms: number("took_ms")?,
        })
    }

    /// Several together: the sums, and the longest time.
    #[must_use]
    pub fn sum(receipts: &[Self]) -> Self {
        receipts.iter().fold(Self::default(), |sum, one| Self {
            finished: sum.finished + one.finished,
            handed_over: sum.handed_over + one.handed_over,
            dropped: sum.dropped + one.dropped,
            leader_moved: sum.leader_moved || one.leader_moved,
            took_ms: sum.took_ms.max(one.took_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_read_and_added_up() {
        let log = r#"2026 INFO ready
2026 INFO {"event":"drained","finished":1,"handed_over":2,"dropped":3,"leader_moved":true,"took_ms":50}
2026 INFO {"event":"drained","finished":10,"handed_over":0,"dropped":1,"leader_moved":false,"took_ms":7} x=1"#;

        let receipts = Receipt::read_all(log);

        assert_eq!(receipts.len(), 2);
        let expected =
            Receipt { finished: 11, handed_over: 2, dropped: 4, leader_moved: true, took_ms: 50 };
        assert_eq!(Receipt::sum(&receipts), expected);
    }
}
