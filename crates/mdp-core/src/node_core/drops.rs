//! What was dropped, for the log.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use mdp_broker::{Broker, DROPPED_SERVICES_MAX, DropReason};
use mdp_transport::SharedFrame;
use mdp_wire::ServiceName;

/// How often it is said that messages were dropped.
const DROPS_INTERVAL: Duration = Duration::from_secs(10);

/// What was dropped, as far as it was said: one line for each reason now and then, however much it is.
#[derive(Debug, Default)]
pub(super) struct DropLog {
    logged_at: Option<Instant>,
    said: BTreeMap<DropReason, u64>,
}

impl DropLog {
    /// Says what was dropped since the last time, unless that was a moment ago: the first of a burst
    /// at once, the others together.
    pub(super) fn look(&mut self, now: Instant, broker: &mut Broker<SharedFrame>) {
        let news = self.news(now, &broker.counters().dropped);
        if news.is_empty() {
            return;
        }
        let services = broker.take_dropped_services();
        for (reason, count) in news {
            let services = services.get(&reason).map(|names| tracing::field::display(List(names)));
            tracing::warn!(reason = reason.label(), count, services, "messages dropped");
        }
    }

    fn news(
        &mut self,
        now: Instant,
        dropped: &BTreeMap<DropReason, u64>,
    ) -> Vec<(DropReason, u64)> {
        let is_due =
            self.logged_at.is_none_or(|at| now.saturating_duration_since(at) >= DROPS_INTERVAL);
        if !is_due {
            return Vec::new();
        }
        let mut news = Vec::new();
        for (reason, count) in dropped {
            let said = self.said.entry(*reason).or_default();
            if *count > *said {
                news.push((*reason, *count - *said));
                *said = *count;
            }
        }
        if !news.is_empty() {
            self.logged_at = Some(now);
        }
        news
    }
}

/// Some names; the engine gives no more than a few.
struct List<'a>(&'a [ServiceName]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{name}")?;
        }
        if self.0.len() == DROPPED_SERVICES_MAX { f.write_str(",..") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_told_once_and_not_all_the_time() {
        let (mut log, now) = (DropLog::default(), crate::any_instant());
        let dropped = |count| BTreeMap::from([(DropReason::Expired, count)]);

        assert_eq!(log.news(now, &dropped(0)), []);
        // The first of a burst is told at once.
        let first = now + DROPS_INTERVAL / 2;
        assert_eq!(log.news(first, &dropped(1)), [(DropReason::Expired, 1)]);
        assert_eq!(log.news(first + DROPS_INTERVAL / 2, &dropped(5)), []);
        assert_eq!(log.news(first + DROPS_INTERVAL, &dropped(7)), [(DropReason::Expired, 6)]);
        assert_eq!(log.news(first + DROPS_INTERVAL * 2, &dropped(7)), []);
        assert_eq!(log.news(first + DROPS_INTERVAL * 2, &dropped(8)), [(DropReason::Expired, 1)]);
    }

    #[test]
    fn a_few_services_are_named_and_the_line_says_that_there_may_be_more() {
        let names = ["a", "b", "c"].map(|name| ServiceName::try_from(name).unwrap());
        assert_eq!(List(&names[..2]).to_string(), "a,b");
        assert_eq!(List(&names).to_string(), "a,b,c,..");
    }
}
