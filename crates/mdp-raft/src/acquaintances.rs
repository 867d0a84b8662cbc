//! Whether nodes that are no voters of this node's log are voters of its cluster: this node asks those
//! that it knows, and remembers for a while what they said.
//!
//! Any program can call with any id, and so cause questions. They are limited by rate, and those about
//! callers with the name of a known node have permits of their own. The first of these questions is who
//! that node is, and one answer to it serves all callers with its name: made-up ids under the name of a
//! node that lives cannot keep that node out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use mdp_rate_limiter::{Admission, Bucket, Limit};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    BoxFuture,
    admission::is_voter,
    calls::{Call, Request},
    clock::{Instant, now},
    hub::{Hub, lock},
    peers::Target,
    runtime::Runtime,
};

/// For how long it holds that a member knows an id.
const CONFIRMED_FOR: Duration = Duration::from_secs(10);
/// For how long it holds that none does, and which id the node of a name has.
const UNKNOWN_FOR: Duration = Duration::from_millis(500);
/// Of how many ids it is remembered what the others say.
const IDS_MAX: usize = 64;
/// The longest name that is remembered, in bytes: no node has a longer one.
const NAME_BYTES_MAX: usize = 63;
/// About how many ids others may be asked at once: once for callers with the names of known nodes, and
/// once for all others.
const QUESTIONS_MAX: usize = 2;
/// How many questions callers may cause, each of those two classes: in a flood, 20 in a second.
const QUESTIONS: Limit = Limit { most: 10, interval: Duration::from_millis(50) };
/// How long a question waits for its turn.
const QUESTION_TURN: Duration = Duration::from_millis(500);

/// What this node knows of ids that are no members of its log.
#[derive(Debug)]
pub(crate) struct Acquaintances<R: Runtime> {
    /// By id and name: where nodes have keys, a name is its caller's own, and what is known of an id under one
    /// name says nothing of it under another.
    ids: Mutex<BTreeMap<(u64, String), Acquaintance<R>>>,
    /// Which id the known node of a name has. The names are those of members and seeds.
    names: Mutex<BTreeMap<String, Namesake<R>>>,
    about_known_names: Questions<R>,
    about_others: Questions<R>,
}

#[derive(Clone, Copy, Debug)]
struct Acquaintance<R: Runtime> {
    is_known: bool,
    until: Instant<R>,
}

/// Who answered at the address of a name, and until when that holds; locked while it is asked.
type Namesake<R> = Arc<tokio::sync::Mutex<Option<(Option<u64>, Instant<R>)>>>;

/// The questions that callers of one class may cause.
#[derive(Debug)]
struct Questions<R: Runtime> {
    permits: Semaphore,
    bucket: Mutex<Bucket<Instant<R>>>,
}

impl<R: Runtime> Default for Questions<R> {
    fn default() -> Self {
        Self { permits: Semaphore::new(QUESTIONS_MAX), bucket: Mutex::new(Bucket::full(QUESTIONS)) }
    }
}

impl<R: Runtime> Questions<R> {
    async fn permit(&self, hub: &Hub<R>) -> Option<SemaphorePermit<'_>> {
        hub.timeout(QUESTION_TURN, self.permits.acquire()).await.ok()?.ok()
    }

    fn may_ask(&self) -> bool {
        lock(&self.bucket).admit(now::<R>()) != Admission::Throttled
    }
}

impl<R: Runtime> Default for Acquaintances<R> {
    fn default() -> Self {
        Self {
            ids: Mutex::default(),
            names: Mutex::default(),
            about_known_names: Questions::default(),
            about_others: Questions::default(),
        }
    }
}

impl<R: Runtime> Acquaintances<R> {
    /// Remembers what was found out about an id.
    fn remember(&self, (id, name): (u64, &str), is_known: bool) {
        if name.len() > NAME_BYTES_MAX {
            return;
        }
        let now = now::<R>();
        let mut ids = lock(&self.ids);
        ids.retain(|_, known| known.until > now);
        if ids.len() >= IDS_MAX
            && let Some(first) =
                ids.iter().min_by_key(|(_, known)| known.until).map(|(who, _)| who.clone())
        {
            ids.remove(&first);
        }
        let until = now + if is_known { CONFIRMED_FOR } else { UNKNOWN_FOR };
        ids.insert((id, name.to_owned()), Acquaintance { is_known, until });
    }

    fn recall(&self, (id, name): (u64, &str)) -> Option<bool> {
        let now = now::<R>();
        lock(&self.ids)
            .get(&(id, name.to_owned()))
            .filter(|known| known.until > now)
            .map(|known| known.is_known)
    }

    fn questions(&self, is_known_name: bool) -> &Questions<R> {
        if is_known_name { &self.about_known_names } else { &self.about_others }
    }

    /// The entry of a name that is one of these.
    fn namesake(&self, name: &str, known: &BTreeSet<String>) -> Namesake<R> {
        let mut names = lock(&self.names);
        names.retain(|name, _| known.contains(name));
        Arc::clone(names.entry(name.to_owned()).or_default())
    }
}

/// Whether the caller is a voter as far as this node knows, or as others do. Learners lead no node, and any
/// program can become one.
pub(crate) async fn is_acquainted(hub: &Hub<impl Runtime>, call: &Call) -> bool {
    if is_voter(hub, call.from) {
        return true;
    }
    let acquaintances = &hub.state.acquaintances;
    let who = (call.from, call.from_name.as_str());
    if let Some(is_known) = acquaintances.recall(who) {
        return is_known;
    }
    let Some(cluster) = call.cluster else { return false };
    let questions: Vec<BoxFuture<'_, Result<(), ()>>> = vec![
        Box::pin(async { has_its_name(hub, cluster, call).await.then_some(()).ok_or(()) }),
        Box::pin(async { is_vouched_for(hub, cluster, call).await.then_some(()).ok_or(()) }),
    ];
    let is_known = futures_util::future::select_ok(questions).await.is_ok();
    if is_known {
        acquaintances.remember(who, true);
    }
    is_known
}

/// Asks a newcomer's address who is there, as far as newcomers may cause questions: whether it is the one
/// that asks.
pub(crate) async fn answers_itself(
    hub: &Hub<impl Runtime>,
    (id, name): (u64, &str),
    endpoint: &str,
) -> bool {
    let is_known_name = known_names(hub).contains(name);
    let questions = hub.state.acquaintances.questions(is_known_name);
    let Some(_permit) = questions.permit(hub).await.filter(|_| questions.may_ask()) else {
        return false;
    };
    let target = Target { id: None, name: name.to_owned(), endpoint: endpoint.to_owned() };
    let hello = crate::formation::hello(hub, &target).await;
    hello.is_ok_and(|hello| hello.id == id && hello.name == name)
}

/// The names of the nodes that this node trusts to say who is a voter.
fn known_names(hub: &Hub<impl Runtime>) -> BTreeSet<String> {
    let seeds = hub.config.seeds.iter().map(|seed| seed.name.as_str().to_owned());
    let membership = hub.membership();
    seeds.chain(membership.nodes().map(|(_, member)| member.name.clone())).collect()
}

/// Whether the caller is who answers at the address of the seed, or of the voter, whose name it has, in the
/// same cluster.
async fn has_its_name(hub: &Hub<impl Runtime>, cluster: u128, call: &Call) -> bool {
    let name = call.from_name.as_str();
    let Some(endpoint) = address_of(hub, name) else { return false };
    let namesake = hub.state.acquaintances.namesake(name, &known_names(hub));
    let turn = hub.timeout(QUESTION_TURN, namesake.lock()).await;
    let Ok(mut known) = turn else { return false };
    if let Some((id, _)) = known.filter(|(_, until)| *until > hub.now()) {
        return id == Some(call.from);
    }
    let target = Target { id: None, name: name.to_owned(), endpoint };
    let hello = Request::Hello { seeds: hub.seed_list() };
    let id = hub.peers.who_is_at(&target, cluster, hello).await;
    *known = Some((id, hub.now() + UNKNOWN_FOR));
    id == Some(call.from)
}

fn address_of(hub: &Hub<impl Runtime>, name: &str) -> Option<String> {
    if name == hub.name().as_str() {
        return None;
    }
    if let Some(seed) = hub.config.seeds.iter().find(|seed| seed.name.as_str() == name) {
        return Some(seed.endpoint.clone());
    }
    let membership = hub.membership();
    let voter = membership.voter_ids().find_map(|id| {
        let member = membership.get_node(&id).filter(|member| member.name == name)?;
        Some((id, member))
    });
    voter.map(|(id, member)| hub.peers.target(id, member).endpoint)
}

/// Takes a turn, asks all that this node trusts, and remembers that none knows the caller.
async fn is_vouched_for(hub: &Hub<impl Runtime>, cluster: u128, call: &Call) -> bool {
    let acquaintances = &hub.state.acquaintances;
    let who = (call.from, call.from_name.as_str());
    let questions = acquaintances.questions(known_names(hub).contains(&call.from_name));
    // Beyond that the caller tries again.
    let Some(_permit) = questions.permit(hub).await else { return false };
    if let Some(is_known) = acquaintances.recall(who) {
        return is_known;
    }
    if !questions.may_ask() {
        return false;
    }
    let is_known = does_any_vouch(hub, cluster, call).await;
    acquaintances.remember(who, is_known);
    is_known
}

/// Asks all that this node trusts at once, and waits for the first that knows the caller: who is at the
/// addresses of its members, and of those that its configuration names. By address, not by id: while this
/// node slept, all of them may have lost their volumes and come back as other members.
async fn does_any_vouch(hub: &Hub<impl Runtime>, cluster: u128, call: &Call) -> bool {
    let membership = hub.membership();
    let others = membership.nodes().filter(|(id, _)| **id != hub.id());
    let members = others.map(|(id, member)| Target { id: None, ..hub.peers.target(*id, member) });
    let seeds = hub.config.seeds.iter().filter(|seed| seed.name != *hub.name());
    let trusted: BTreeMap<String, Target> = members
        .chain(seeds.map(Target::seed))
        .map(|target| (target.endpoint.clone(), target))
        .collect();
    let about = (call.from, call.from_name.as_str());
    let questions = trusted.values().map(|target| {
        let question = hub.peers.vouches(target, cluster, about);
        let question: BoxFuture<'_, Result<(), ()>> =
            Box::pin(async { question.await.then_some(()).ok_or(()) });
        question
    });
    let questions: Vec<_> = questions.collect();
    !questions.is_empty() && futures_util::future::select_ok(questions).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_out_of_an_id_is_remembered_of_a_few() {
        let acquaintances = Acquaintances::<crate::Tokio>::default();
        acquaintances.remember((1, "n1"), false);
        for id in 2..2 + u64::try_from(IDS_MAX).unwrap() {
            acquaintances.remember((id, "n2"), true);
        }

        assert_eq!(acquaintances.recall((1, "n1")), None);
        assert_eq!(acquaintances.recall((2, "n2")), Some(true));
        // With keys a name is that of its key: another one that takes the id says nothing with it.
        assert_eq!(acquaintances.recall((2, "n9")), None);
        assert_eq!(lock(&acquaintances.ids).len(), IDS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_cause_a_few_questions_in_a_second_and_none_for_callers_with_known_names() {
        let acquaintances = Acquaintances::<crate::Tokio>::default();
        let asked = |questions: &Questions<crate::Tokio>| {
            (0..1_000).filter(|_| questions.may_ask()).count()
        };
        assert_eq!(asked(acquaintances.questions(false)), 10);
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(asked(acquaintances.questions(false)), 4);

        assert_eq!(asked(acquaintances.questions(true)), 10);
    }

    #[test]
    fn names_are_remembered_of_known_nodes_alone() {
        let acquaintances = Acquaintances::<crate::Tokio>::default();
        acquaintances.namesake("n1", &["n1".to_owned()].into());
        acquaintances.namesake("n2", &["n2".to_owned()].into());

        let names: Vec<String> = lock(&acquaintances.names).keys().cloned().collect();
        assert_eq!(names, ["n2"]);
    }
}
