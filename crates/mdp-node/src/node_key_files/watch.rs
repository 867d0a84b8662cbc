//! Reads `cluster.keys_dir` again and again, and tells the threads with links when it has changed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mdp_catalog::NodeName;
use mdp_core::{LinkSecurity, NodeKeys};
use mdp_transport::{PublicKey, SecretKey};
use tokio::runtime::Handle;

use super::{NodeKeyFiles, NodeKeysError};
use crate::{
    cluster_link::{LinkCaller, LinkCounters},
    inbox::{Message, Postbox},
};

/// How often the directory is read: a key that was removed is of no use after twice this time.
const READ_EVERY: Duration = Duration::from_secs(2);

/// Whom the keys are for.
pub(crate) struct Listeners {
    /// The thread of calls between nodes.
    pub(crate) link: LinkCaller,
    /// The broker thread.
    pub(crate) broker: Postbox,
    /// Where failures are counted.
    pub(crate) counters: Arc<LinkCounters>,
}

/// The directory as it was read last.
struct Watch {
    files: NodeKeyFiles,
    own: SecretKey,
    /// This node.
    node: NodeName,
    nodes: BTreeMap<NodeName, PublicKey>,
    listeners: Listeners,
    /// What a thread was too busy to be told.
    pending: [Option<Arc<NodeKeys>>; 2],
    /// What was wrong last, which is said once.
    problem: Option<String>,
}

/// Reads the directory every two seconds, as long as the runtime lives. The node has the secret key of the start: another
/// one needs a new start.
///
/// # Errors
/// The files can not be read any more.
pub(crate) fn watch(
    runtime: &Handle,
    (files, node): (NodeKeyFiles, &NodeName),
    keys: &NodeKeys,
    listeners: Listeners,
) -> Result<(), NodeKeysError> {
    let own = files.own_key()?;
    let nodes = keys.nodes().map(|(name, key)| (name.clone(), *key)).collect();
    let (node, pending) = (node.clone(), [None, None]);
    let mut watch = Watch { files, own, node, nodes, listeners, pending, problem: None };
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(READ_EVERY).await;
            let files = watch.files.clone();
            match tokio::task::spawn_blocking(move || files.nodes()).await {
                Ok(nodes) => watch.take(nodes),
                Err(error) => tracing::error!(%error, "the keys of nodes could not be read"),
            }
            watch.tell();
        }
    });
    Ok(())
}

impl Watch {
    fn take(&mut self, nodes: Result<BTreeMap<NodeName, PublicKey>, NodeKeysError>) {
        let keys = nodes.and_then(|nodes| {
            if nodes == self.nodes {
                return Ok(None);
            }
            // An empty folder, as of a volume that is not mounted, would end all links, or all encryption.
            let own = nodes.iter().any(|(_, key)| *key == self.own.public());
            if !own && self.files.security == LinkSecurity::Require {
                return Err(self.files.not_own(&self.node));
            }
            let keys = self.files.keys(self.own.clone(), nodes.clone())?;
            Ok(Some((nodes, Arc::new(keys))))
        });
        match keys {
            Ok(changed) => {
                self.problem = None;
                if let Some((nodes, keys)) = changed {
                    log_changes(&self.nodes, &nodes);
                    self.nodes = nodes;
                    self.pending = [Some(Arc::clone(&keys)), Some(keys)];
                }
            }
            Err(error) => {
                self.listeners.counters.count_keys_error();
                let problem = error.to_string();
                if self.problem.as_ref() != Some(&problem) {
                    tracing::error!("the keys of nodes stay as they were: {problem}");
                }
                self.problem = Some(problem);
            }
        }
    }

    /// Tells what changed. A thread that takes nothing now is told the next time.
    fn tell(&mut self) {
        let [link, broker] = &mut self.pending;
        if link.as_ref().is_some_and(|keys| self.listeners.link.set_keys(Arc::clone(keys)).is_ok())
        {
            *link = None;
        }
        let post = |keys: &Arc<NodeKeys>| {
            self.listeners.broker.post(Message::NodeKeys(Arc::clone(keys))).is_ok()
        };
        if broker.as_ref().is_some_and(post) {
            *broker = None;
        }
    }
}

fn log_changes(before: &BTreeMap<NodeName, PublicKey>, after: &BTreeMap<NodeName, PublicKey>) {
    let missing = |of: &BTreeMap<NodeName, PublicKey>, from: &BTreeMap<NodeName, PublicKey>| {
        let names = of.keys().filter(|name| !from.contains_key(*name)).map(NodeName::as_str);
        names.collect::<Vec<_>>().join(",")
    };
    let changed =
        before.iter().filter(|(name, key)| after.get(*name).is_some_and(|now| now != *key));
    let changed: Vec<_> = changed.map(|(name, _)| name.as_str()).collect();
    let (added, removed, changed) =
        (missing(after, before), missing(before, after), changed.join(","));
    tracing::info!(added, removed, changed, "the keys of nodes have changed");
}
