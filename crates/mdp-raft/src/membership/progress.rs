//! A change of members that is in progress, as this node's log shows it.
//!
//! It is in progress while the newest configuration is not known to be committed, or is a joint one:
//! then decisions need a majority of the voters before it *and* of those after it.

use std::{collections::BTreeSet, fmt, time::Duration};

use openraft_rt::Instant as _;

use crate::{
    hub::{Hub, Metrics, lock},
    runtime::Runtime,
    types::Membership,
};

/// A change of members that is not finished. A node without a leader knows of it what its own log
/// says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The voters before the change, by name.
    pub from: Vec<String>,
    /// The voters after it.
    pub to: Vec<String>,
    /// Whether a majority of both is needed until it is finished.
    pub is_joint: bool,
    /// Whether it is known to be committed. One that is not may be undone when another node leads.
    pub is_committed: bool,
    /// How long this node has known of it.
    pub lasts_for: Duration,
}

impl fmt::Display for MemberChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from.join(", "), self.to.join(", "));
        let seconds = self.lasts_for.as_secs_f64();
        let state = if self.is_committed { "committed" } else { "not committed yet" };
        if from == to && !self.is_joint {
            write!(f, "the voters {from} stay, other members change")?;
        } else {
            write!(f, "from the voters {from} to {to}")?;
        }
        write!(f, ", for {seconds:.1} s, {state}")?;
        if self.is_joint {
            f.write_str("; until it is finished a majority of both is needed")?;
        }
        Ok(())
    }
}

/// Whether the newest configuration is committed, and no joint one.
pub(crate) fn is_settled(metrics: &Metrics<impl Runtime>) -> bool {
    is_committed(metrics) && !is_joint(metrics)
}

/// Whether the newest configuration is known to be committed.
pub(super) fn is_committed(metrics: &Metrics<impl Runtime>) -> bool {
    metrics.membership_config.log_id() == metrics.committed_membership_config.log_id()
}

/// Whether the newest configuration has voters before and after a change.
pub(super) fn is_joint(metrics: &Metrics<impl Runtime>) -> bool {
    metrics.membership_config.membership().get_joint_config().len() > 1
}

/// The change that is in progress, if one is.
pub(crate) fn change(
    hub: &Hub<impl Runtime>,
    metrics: &Metrics<impl Runtime>,
) -> Option<MemberChange> {
    let committed = metrics.committed_membership_config.membership();
    let newest = metrics.membership_config.membership();
    let is_formed = committed.voter_ids().next().is_some() || is_joint(metrics);
    if is_settled(metrics) || !is_formed {
        return None;
    }
    let halves = newest.get_joint_config();
    let to = halves.last()?;
    let from =
        if is_joint(metrics) { halves.first()? } else { committed.get_joint_config().last()? };
    let names = |ids: &BTreeSet<u64>| {
        let mut names: Vec<_> = ids.iter().map(|id| name(&[newest, committed], *id)).collect();
        names.sort_unstable();
        names
    };
    Some(MemberChange {
        from: names(from),
        to: names(to),
        is_joint: is_joint(metrics),
        is_committed: is_committed(metrics),
        lasts_for: lock(&hub.state.change_seen).map_or(Duration::ZERO, |since| since.elapsed()),
    })
}

/// A member's name as one of these configurations has it.
fn name(memberships: &[&Membership], id: u64) -> String {
    let member = memberships.iter().find_map(|membership| membership.get_node(&id));
    member.map_or_else(|| mdp_catalog::NodeId(id).to_string(), |member| member.name.clone())
}

/// Remembers since when a change has been in progress.
pub(super) fn watch(hub: &Hub<impl Runtime>, metrics: &Metrics<impl Runtime>) {
    let mut seen = lock(&hub.state.change_seen);
    if is_settled(metrics) {
        *seen = None;
    } else {
        seen.get_or_insert_with(|| hub.now());
    }
}
