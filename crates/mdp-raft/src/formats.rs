//! In which format nodes call each other, while a cluster is made of two versions.
//!
//! Every node has a range of formats, and every call and every answer says which. The first call
//! to an address goes out in the oldest format of the range, for nothing is known yet; later ones
//! in the newest that both ends know. An answer comes in the format of its call.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use mdp_wire::relay::WireRange;

use crate::hub::lock;

/// The formats of calls that this version speaks.
pub const FORMATS: WireRange = WireRange { min: 1, max: 1 };

/// Those of the program that stands in for the next version in tests.
#[cfg(feature = "test-next")]
pub const NEXT_FORMATS: WireRange = WireRange { min: 1, max: 2 };

/// Of how many addresses the format is remembered. A cluster has fewer; when addresses change so
/// often that it is reached, all are learnt anew.
const ADDRESSES_MAX: usize = 64;

/// Which format to speak with whom. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Formats {
    own: WireRange,
    learnt: Arc<Mutex<Learnt>>,
}

#[derive(Debug)]
struct Learnt {
    /// The newest format that both ends know, by address.
    newest: BTreeMap<String, u16>,
    /// How many calls were sent in each format.
    sent: BTreeMap<u16, u64>,
}

impl Formats {
    pub(crate) fn new(own: WireRange) -> Self {
        let sent = (own.min..=own.max).map(|format| (format, 0)).collect();
        let learnt = Learnt { newest: BTreeMap::new(), sent };
        Self { own, learnt: Arc::new(Mutex::new(learnt)) }
    }

    /// The formats of this node.
    pub(crate) const fn own(&self) -> WireRange {
        self.own
    }

    /// The format of a call that goes to this address now.
    pub(crate) fn of_call(&self, endpoint: &str) -> u16 {
        let format = self.newest(endpoint);
        let mut learnt = lock(&self.learnt);
        *learnt.sent.entry(format).or_default() += 1;
        format
    }

    /// The newest format that whoever is at this address is known to speak, too.
    pub(crate) fn newest(&self, endpoint: &str) -> u16 {
        lock(&self.learnt).newest.get(endpoint).copied().unwrap_or(self.own.min)
    }

    /// Whoever is at this address knows these formats. Returns whether there is a common one.
    pub(crate) fn learn(&self, endpoint: &str, theirs: WireRange) -> bool {
        let common = self.own.newest_common(theirs);
        let mut learnt = lock(&self.learnt);
        match common {
            Some(format) if learnt.newest.get(endpoint) == Some(&format) => {}
            Some(format) => {
                if learnt.newest.len() >= ADDRESSES_MAX {
                    learnt.newest.clear();
                }
                learnt.newest.insert(endpoint.to_owned(), format);
            }
            None => drop(learnt.newest.remove(endpoint)),
        }
        common.is_some()
    }

    /// Somebody else may be at this address now: begin with the oldest format again.
    pub(crate) fn forget(&self, endpoint: &str) {
        lock(&self.learnt).newest.remove(endpoint);
    }

    /// How many calls were sent in each format of this node.
    pub(crate) fn sent(&self) -> Vec<(u16, u64)> {
        lock(&self.learnt).sent.iter().map(|(format, count)| (*format, *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(min: u16, max: u16) -> WireRange {
        WireRange { min, max }
    }

    #[test]
    fn first_call_is_in_the_oldest_format_and_later_ones_in_the_newest_common_one() {
        let formats = Formats::new(range(1, 3));
        assert_eq!(formats.of_call("n2"), 1);
        assert!(formats.learn("n2", range(1, 2)));
        assert_eq!((formats.of_call("n2"), formats.of_call("n3")), (2, 1));

        formats.forget("n2");

        assert_eq!(formats.of_call("n2"), 1);
        assert_eq!(formats.sent(), [(1, 3), (2, 1), (3, 0)]);
    }

    #[test]
    fn no_common_format_is_told_and_forgotten() {
        let formats = Formats::new(range(1, 2));
        assert!(formats.learn("n2", range(2, 3)));
        assert!(!formats.learn("n2", range(3, 4)));
        assert_eq!(formats.of_call("n2"), 1);
    }

    #[test]
    fn addresses_that_come_and_go_are_not_kept_for_ever() {
        let formats = Formats::new(range(1, 2));
        for number in 0..1_000 {
            formats.learn(&format!("n{number}"), range(1, 2));
        }
        assert!(lock(&formats.learnt).newest.len() <= ADDRESSES_MAX);
    }
}
