//! Which version a machine runs: clusters of two versions are upgraded and rolled back.

use mdp_catalog::SoftwareVersion;
use mdp_wire::relay::WireRange;

use crate::Rng;

/// Makes the draws of versions independent of all others: a seed has the same faults with them.
const SALT: u64 = 0x0bad_5eed_0f0e_71e5;

/// How many of a thousand seeds have two versions.
const MIXED: u32 = 333;
/// How many of a thousand such seeds are upgraded for good: nobody goes back, and the cluster's version
/// rises once everybody runs the next one.
const FORWARD: u32 = 500;
/// How many of a thousand starts of such a seed are upgrades or rollbacks.
const CHANGED: u32 = 400;

/// A version of the program, as far as other nodes notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// This version.
    This,
    /// The next one, which knows one more format of calls, and of relayed requests.
    Next,
}

impl Release {
    pub(crate) const fn call_formats(self) -> WireRange {
        match self {
            Self::This => mdp_raft::FORMATS,
            Self::Next => mdp_raft::NEXT_FORMATS,
        }
    }

    pub(crate) const fn relay_wire(self) -> WireRange {
        match self {
            Self::This => mdp_wire::relay::WIRE,
            Self::Next => mdp_wire::relay::NEXT_WIRE,
        }
    }

    /// What it calls itself towards other nodes, for people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::This => env!("CARGO_PKG_VERSION"),
            Self::Next => concat!(env!("CARGO_PKG_VERSION"), "-next"),
        }
    }

    pub(crate) fn version(self) -> SoftwareVersion {
        let this: SoftwareVersion = env!("CARGO_PKG_VERSION").parse().unwrap_or_default();
        match self {
            Self::This => this,
            Self::Next => SoftwareVersion { minor: this.minor + 1, ..this },
        }
    }
}

/// Which version a machine runs from its next start on.
#[derive(Debug)]
pub(crate) struct Releases {
    /// `None`: everybody runs this version, always.
    rng: Option<Rng>,
    now: Release,
    course: Course,
}

/// Where the versions of a seed go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// To and fro, and the cluster's version is held at this one.
    Both,
    /// Only forward.
    Forward,
}

impl Releases {
    /// Those of one machine, of which the first ones are the seeds of the cluster.
    pub(crate) fn draw(seed: u64, site: usize, seeds: usize) -> Self {
        let mut of_all = Rng::new(seed ^ SALT);
        let is_mixed = of_all.chance(MIXED);
        let course = if of_all.chance(FORWARD) { Course::Forward } else { Course::Both };
        let number = u64::try_from(site).unwrap_or(u64::MAX);
        let mut rng = Rng::new(seed.wrapping_mul(31).wrapping_add(number) ^ SALT);
        let is_next = match course {
            Course::Both => rng.chance(500),
            // Whoever joins later may find a cluster that has risen.
            Course::Forward => site >= seeds,
        };
        let now = if is_mixed && is_next { Release::Next } else { Release::This };
        Self { rng: is_mixed.then_some(rng), now, course }
    }

    /// The version above which the cluster's must not rise, because machines may go back.
    pub(crate) fn hold(&self) -> Option<SoftwareVersion> {
        (self.course == Course::Both).then(|| Release::This.version())
    }

    /// The version that runs now.
    pub(crate) const fn now(&self) -> Release {
        self.now
    }

    /// The next version runs from now on. `false`: it does already.
    pub(crate) fn upgrade(&mut self) -> bool {
        std::mem::replace(&mut self.now, Release::Next) == Release::This
    }

    /// The machine starts again, now and then with the other version.
    pub(crate) fn change(&mut self) {
        if let Some(rng) = &mut self.rng
            && rng.chance(CHANGED)
        {
            self.now = match (self.now, self.course) {
                (Release::This, _) | (Release::Next, Course::Forward) => Release::Next,
                (Release::Next, Course::Both) => Release::This,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_seeds_has_two_versions_and_changes_them() {
        let mut mixed = 0;
        for seed in 0..1_000 {
            let mut machines: Vec<_> = (0..3).map(|site| Releases::draw(seed, site, 3)).collect();
            let before: Vec<_> = machines.iter().map(Releases::now).collect();
            let is_mixed = machines[0].rng.is_some();
            mixed += usize::from(is_mixed);
            for _ in 0..20 {
                machines.iter_mut().for_each(Releases::change);
            }
            if machines[0].hold().is_none() {
                assert!(before.iter().all(|release| *release == Release::This));
                let all_rose = machines.iter().all(|machine| machine.now() == Release::Next);
                assert_eq!(is_mixed, all_rose, "seed {seed}");
            }
            let is_same = before.iter().all(|release| *release == Release::This);
            assert!(is_mixed || is_same);
        }
        assert!((250..450).contains(&mixed), "{mixed}");
    }

    #[test]
    fn next_version_speaks_one_more_format() {
        assert_eq!(Release::Next.call_formats().max, Release::This.call_formats().max + 1);
        assert_eq!(Release::Next.relay_wire().max, Release::This.relay_wire().max + 1);
        assert!(Release::Next.version() > Release::This.version());
    }
}
