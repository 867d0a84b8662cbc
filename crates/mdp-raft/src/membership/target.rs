//! The member that a removal is meant for, while the removal waits or is tried again.

use std::collections::BTreeSet;

use super::{Changed, ids_of, unknown_member};
use crate::{
    calls::{Change, Refusal},
    clock::Instant,
    hub::Hub,
    reads::read_index_until,
    runtime::Runtime,
    transport::BoxFuture,
    types::Membership,
};

/// The member that is to be removed, as it was when that was asked for.
///
/// Meanwhile its name may pass to another node: node 2 is asked to remove node 3, asks the leader, and
/// hears nothing for 7 s; another node is asked the same, node 3 is removed, and a new node joins as
/// "node-3". The second attempt must not remove that one.
#[derive(Clone, Debug)]
pub(crate) struct RemovalTarget(Option<Meant>);

#[derive(Clone, Debug)]
struct Meant {
    name: String,
    ids: BTreeSet<u64>,
}

impl RemovalTarget {
    /// Of a change that is no removal, or of no member that this node knows: anything will do.
    pub(crate) fn of(hub: &Hub<impl Runtime>, change: &Change) -> Self {
        let Change::Remove { name } = change else { return Self(None) };
        let ids = ids_of(&committed(hub), name);
        Self((!ids.is_empty()).then(|| Meant { name: name.clone(), ids }))
    }

    /// Refuses, if the member that was meant is none any more.
    pub(crate) fn check(&self, hub: &Hub<impl Runtime>) -> Changed {
        let Some(Meant { name, ids }) = &self.0 else { return Ok(()) };
        let members = committed(hub);
        if ids.iter().any(|id| members.get_node(id).is_some()) {
            return Ok(());
        }
        if ids_of(&members, name).is_empty() {
            return Err(unknown_member(hub, name));
        }
        let reason = format!(
            "the node that was {name} when its removal was asked for is no member any more, and another \
             one has its name; ask again to remove that one"
        );
        Err(Refusal::Change { reason })
    }

    /// Before another attempt: waits until this node knows what the leader knows now. One that was cut
    /// off may hear of the leader before it has its entries. False if that takes too long.
    pub(crate) async fn is_known_now<R: Runtime>(
        &self,
        hub: &Hub<R>,
        deadline: Instant<R>,
    ) -> bool {
        if self.0.is_none() {
            return true;
        }
        // On the heap: it would make the futures of all changes deeper than the compiler looks.
        let current: BoxFuture<'_, Option<()>> = Box::pin(async {
            let index = read_index_until(hub, deadline).await?;
            hub.until(|metrics| metrics.last_applied.is_some_and(|applied| applied.index >= index))
                .await;
            Some(())
        });
        matches!(hub.timeout_at(deadline, current).await, Ok(Some(())))
    }
}

fn committed(hub: &Hub<impl Runtime>) -> Membership {
    hub.metrics().committed_membership_config.membership().clone()
}
