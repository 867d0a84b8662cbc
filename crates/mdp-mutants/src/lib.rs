//! Seeded bugs: mistakes that somebody could make, each in its place in the code, to show that the
//! tests would find them (`cargo xtask mutants`).
//!
//! In every build but one [`is_on`] is the constant `false`, and the compiler removes the bugs. With
//! the feature `seeded` the environment chooses one of them, `MAJORDOMO_MUTANT=NAME`, for the whole
//! process.

/// The variable of the environment that chooses a bug by its name.
pub const VARIABLE: &str = "MAJORDOMO_MUTANT";

macro_rules! mutants {
    ($($variant:ident $name:literal $what:literal,)+) => {
        /// A bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "`what` says what each of them is")]
        pub enum Mutant {
            $($variant,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// By what it is chosen.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What is wrong with it, in a few words.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$variant => $what,)+
                }
            }
        }
    };
}

mutants! {
    // The catalog.
    EpochNotRaised "epoch-not-raised" "a node that starts again keeps its old epoch",
    NodeUpKeepsOffers "node-up-keeps-offers" "a new life begins with the offers of the old one",
    NodeGoneKeepsOffers "node-gone-keeps-offers" "what a lost node offered stays offered",
    VoidLifeOffers "void-life-offers" "an offer of a life that is over counts",
    StaleSeqApplied "stale-seq-applied" "an offer or withdrawal that was overtaken counts",
    VersionRisesEarly "version-rises-early" "the cluster's version rises before all nodes run it",
    // The engine.
    EarlyHeartbeat "early-heartbeat" "a worker is acknowledged before its registration is proven",
    OldProofCounts "old-proof-counts" "a proof older than the READY acknowledges it",
    VoidOffersForgotten "void-offers-forgotten" "a node whose life was ended does not offer anew",
    UnknownOutcomeTrusted "unknown-outcome-trusted" "a proposal without an answer counts as applied",
    ReservedNameAccepted "reserved-name-accepted" "a worker may register an mmi.* name",
    ExpiryAfterPause "expiry-after-pause" "the time of a pause counts against the workers",
    HeartbeatForgotten "heartbeat-forgotten" "idle workers get no heartbeats",
    DeadWorkerStaysIdle "dead-worker-stays-idle" "requests are handed to workers that are gone",
    AtMostOnceRepeated "at-most-once-repeated" "what may have been executed is dispatched again",
    AttemptsNotCounted "attempts-not-counted" "requests are dispatched again without limit",
    RepeatedAfterPartial "repeated-after-partial" "dispatched again after a part of the reply",
    DoubleDispatch "double-dispatch" "a recalled request is dispatched before it came back",
    ForwardedAgain "forwarded-again" "a forwarded request is forwarded once more",
    LinkLossIgnored "link-loss-ignored" "requests at a node that is lost are forgotten",
    WrongClient "wrong-client" "a reply goes to the client of another request",
    LeakedBytes "leaked-bytes" "the bytes of an answered request stay counted",
    TtlIgnored "ttl-ignored" "requests wait for ever",
    // Links between nodes.
    SentToldUnsent "sent-told-unsent" "requests that were sent count as not sent when a link is lost",
    LostLinkStays "lost-link-stays" "a link stays although its connection is lost",
    OlderGreetingWins "older-greeting-wins" "a greeting that comes late replaces a newer link",
    LinkNamesRepeat "link-names-repeat" "a new link is called what an earlier one was called",
    ForeignNodeWelcomed "foreign-node-welcomed" "a greeting for another node or cluster makes a link",
    PauseCountsOnLinks "pause-counts-on-links" "the time of a pause counts against other nodes",
    // Connections.
    UnsentForgotten "unsent-forgotten" "requests that never left count as sent",
    BlockedForgotten "blocked-forgotten" "what a peer had no room for is never written",
    MessageLimitIgnored "message-limit-ignored" "a message grows beyond its limit",
    MessageBeforeReadyTaken "message-before-ready-taken" "a peer that did not introduce itself is served",
    VouchNotChecked "vouch-not-checked" "a vouch for another key or another server is taken",
    FrameNumberNotChecked "frame-number-not-checked" "frames may be repeated, left out and moved",
    // The turn of a node, and how it leaves.
    TimersBeforeReading "timers-before-reading" "deadlines count before what came was read",
    DrainNotFlushed "drain-not-flushed" "a drained node ends before its last replies left",
    // The copy of the catalog that answers.
    RoundReused "round-reused" "a lookup joins a round that was under way",
    AnsweredUnapplied "answered-unapplied" "a lookup is answered before its index is applied",
    // Consensus.
    StaleRead "stale-read" "a follower reads without asking the leader",
    ReadWithoutQuorum "read-without-quorum" "a leader reads without asking a quorum",
    WrongQuorum "wrong-quorum" "two nodes of five count as a majority",
    AnsweredBeforeDisk "answered-before-disk" "entries count as written before they are on disk",
    VoteBeforeDisk "vote-before-disk" "a vote is given before it is on disk",
    ExpiryAfterLeaderPause "expiry-after-leader-pause" "a leader that stood still ends the lives of all",
    NoGraceOfNewLeader "no-grace-of-new-leader" "a new leader counts silence before its election",
    MembersChangedUnasked "members-changed-unasked" "members are changed without asking who answers",
    JointLeftStanding "joint-left-standing" "a change of members that was left half done stays so",
    WatermarkIgnored "watermark-ignored" "a database that lost commits is used",
    WritesAfterFailure "writes-after-failure" "the store goes on after an error of the disk",
}

/// Whether this bug was chosen. Without the feature `seeded`: never.
#[cfg(not(feature = "seeded"))]
#[must_use]
#[inline]
pub const fn is_on(_: Mutant) -> bool {
    false
}

/// Whether this bug was chosen.
///
/// # Panics
/// [`VARIABLE`] names a bug that there is not.
#[cfg(feature = "seeded")]
#[must_use]
#[inline]
pub fn is_on(mutant: Mutant) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(chosen) == Some(mutant)
}

#[cfg(feature = "seeded")]
#[expect(clippy::panic, reason = "a run without the bug that was asked for would prove nothing")]
fn chosen() -> Option<Mutant> {
    let name = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty())?;
    let found = Mutant::ALL.iter().find(|mutant| mutant.name() == name);
    let Some(mutant) = found else { panic!("{VARIABLE} = {name:?}: there is no such bug") };
    Some(*mutant)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
        assert!(names.len() >= 20);
    }

    #[cfg(not(feature = "seeded"))]
    #[test]
    fn no_bug_is_on_unless_bugs_are_seeded() {
        assert!(Mutant::ALL.iter().all(|mutant| !is_on(*mutant)));
    }
}
