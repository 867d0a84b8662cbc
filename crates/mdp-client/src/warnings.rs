//! What is said in the log at once, and again only now and then.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tracing::field;

/// How long the same warning is not said again.
const REPEATED_AFTER: Duration = Duration::from_secs(60);

/// Different warnings that are remembered. More are not said until the oldest may be repeated.
const REMEMBERED_MAX: usize = 32;

/// What has to be said in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// The same for the same trouble.
    pub(crate) text: String,
    /// The time between two heartbeats of a broker, as it was measured.
    pub(crate) broker_interval: Option<Duration>,
}

/// Says each warning of a worker once, and then at most once a minute: all its connections together,
/// for they meet the same trouble at the same time.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    said_at: BTreeMap<String, Instant>,
}

impl Warnings {
    /// Logs the complaint, unless its text was said a short time ago.
    pub(crate) fn warn(&mut self, now: Instant, complaint: &Complaint) {
        let Complaint { text, broker_interval } = complaint;
        if self.admits(now, text) {
            tracing::warn!(broker_interval = broker_interval.map(field::debug), "{text}");
        }
    }

    fn admits(&mut self, now: Instant, text: &str) -> bool {
        self.said_at.retain(|_, at| now.saturating_duration_since(*at) < REPEATED_AFTER);
        if self.said_at.contains_key(text) || self.said_at.len() >= REMEMBERED_MAX {
            return false;
        }
        self.said_at.insert(text.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_warning_is_said_once_a_minute_and_others_at_once() {
        let (mut warnings, now) = (Warnings::default(), Instant::now());

        assert!(warnings.admits(now, "a") && warnings.admits(now, "b"));
        assert!(!warnings.admits(now + REPEATED_AFTER / 2, "a"));
        assert!(warnings.admits(now + REPEATED_AFTER, "a"));
    }

    #[test]
    fn warnings_are_bounded() {
        let (mut warnings, now) = (Warnings::default(), Instant::now());

        let admitted = (0..100).filter(|n| warnings.admits(now, &n.to_string())).count();

        assert_eq!(admitted, REMEMBERED_MAX);
    }
}
