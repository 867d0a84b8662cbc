//! Who has a connection to the administration port.
//!
//! A connection costs its peer nothing, so that silent and idle ones must not keep out a probe: the
//! kubelet would restart the pod. When there are too many, the one that has waited longest for its
//! next request ends; and requests that take long leave some connections to the probes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

/// How many connections there may be at once.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// How many of them one address may have (of IPv6: one /64).
pub(super) const CONNECTIONS_PER_ADDRESS_MAX: usize = 16;
/// How many are kept for probes.
const KEPT_FOR_PROBES: usize = 8;
/// How many of one address are kept for its probes: a kubelet and a scraper may share one.
const KEPT_FOR_PROBES_OF_ADDRESS: usize = 2;
/// With fewer free ones than this, a connection ends with its answer instead of waiting for another
/// request.
const SHORT: usize = 16;

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Slots {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    connections: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    from: Option<IpAddr>,
    state: State,
    end: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// For the head of a request.
    Waits(Instant),
    Probe,
    Request,
    /// Told to end.
    Ends,
}

/// The place of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    id: u64,
    end: Arc<Notify>,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy {
    slot: Arc<Slot>,
}

impl Slots {
    /// A place for a new connection; `None`: it must end at once, for all others are busy. Those of the Unix
    /// socket, which have no address, count as one.
    pub(super) fn admit(self: &Arc<Self>, from: Option<IpAddr>) -> Option<Slot> {
        let from = from.map(network_of);
        let mut table = self.lock();
        if table.count_of(from) >= CONNECTIONS_PER_ADDRESS_MAX {
            table.end_longest_waiting(|entry| entry.from == from)?;
        }
        if table.count() >= CONNECTIONS_MAX {
            table.end_longest_waiting(|_| true)?;
        }
        let id = table.next;
        table.next = table.next.wrapping_add(1);
        let end = Arc::new(Notify::new());
        let state = State::Waits(Instant::now());
        table.connections.insert(id, Entry { from, state, end: Arc::clone(&end) });
        drop(table);
        Some(Slot { slots: Arc::clone(self), id, end })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Waits until another connection needs this place.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }

    /// A request has come; `None`: too many are being answered.
    pub(super) fn begin(self: &Arc<Self>, is_probe: bool) -> Option<Busy> {
        let mut table = self.slots.lock();
        let from = table.connections.get(&self.id)?.from;
        let requests = |entry: &&Entry| entry.state == State::Request;
        let all = table.connections.values().filter(requests).count();
        let own =
            table.connections.values().filter(requests).filter(|entry| entry.from == from).count();
        let has_room = all < CONNECTIONS_MAX - KEPT_FOR_PROBES
            && own < CONNECTIONS_PER_ADDRESS_MAX - KEPT_FOR_PROBES_OF_ADDRESS;
        if !is_probe && !has_room {
            return None;
        }
        let entry = table.connections.get_mut(&self.id)?;
        // One that was told to end goes on to do so.
        if entry.state == State::Ends {
            return None;
        }
        entry.state = if is_probe { State::Probe } else { State::Request };
        drop(table);
        Some(Busy { slot: Arc::clone(self) })
    }

    /// Whether another connection may soon need this place.
    pub(super) fn is_short(&self) -> bool {
        CONNECTIONS_MAX.saturating_sub(self.slots.lock().count()) < SHORT
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().connections.remove(&self.id);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(entry) = self.slot.slots.lock().connections.get_mut(&self.slot.id) {
            entry.state = State::Waits(Instant::now());
        }
    }
}

impl Table {
    /// Those that were told to end are as good as gone.
    fn living(&self) -> impl Iterator<Item = &Entry> {
        self.connections.values().filter(|entry| entry.state != State::Ends)
    }

    fn count(&self) -> usize {
        self.living().count()
    }

    fn count_of(&self, from: Option<IpAddr>) -> usize {
        self.living().filter(|entry| entry.from == from).count()
    }

    fn end_longest_waiting(&mut self, of: impl Fn(&Entry) -> bool) -> Option<()> {
        let waiting = self.connections.values_mut().filter(|entry| of(entry));
        let waiting = waiting.filter_map(|entry| match entry.state {
            State::Waits(since) => Some((since, entry)),
            State::Probe | State::Request | State::Ends => None,
        });
        let (_, entry) = waiting.min_by_key(|(since, _)| *since)?;
        entry.state = State::Ends;
        entry.end.notify_one();
        Some(())
    }
}

/// What counts as one address: hosts have a /64 of IPv6 each.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            const HOST_BITS: u32 = 64;
            IpAddr::V6(Ipv6Addr::from_bits((address.to_bits() >> HOST_BITS) << HOST_BITS))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use std::net::Ipv4Addr;

    use super::*;

    fn address(last: usize) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, u8::try_from(last).unwrap()).into()
    }

    fn full(slots: &Arc<Slots>) -> Vec<Arc<Slot>> {
        let admit = |index| Arc::new(slots.admit(Some(address(index / 10))).unwrap());
        (0..CONNECTIONS_MAX).map(admit).collect()
    }

    fn is_told_to_end(slot: &Slot) -> bool {
        slot.ended().now_or_never().is_some()
    }

    #[tokio::test]
    async fn one_that_has_waited_longest_makes_room_for_a_new_one() {
        let slots = Arc::new(Slots::default());
        let all = full(&slots);
        let _busy = all[0].begin(false).unwrap();

        let new = slots.admit(Some(address(200)));

        assert!(new.is_some() && !is_told_to_end(&all[0]) && is_told_to_end(&all[1]));
    }

    #[tokio::test]
    async fn an_address_with_too_many_makes_room_by_its_own() {
        let slots = Arc::new(Slots::default());
        let other = slots.admit(Some(address(1))).unwrap();
        let greedy: Vec<_> = (0..CONNECTIONS_PER_ADDRESS_MAX)
            .map(|_| slots.admit(Some(address(2))).unwrap())
            .collect();

        let next = slots.admit(Some(address(2)));

        assert!(next.is_some() && is_told_to_end(&greedy[0]) && !is_told_to_end(&other));
    }

    #[tokio::test]
    async fn long_requests_leave_places_for_probes() {
        let slots = Arc::new(Slots::default());
        let all = full(&slots);
        let busy: Vec<_> = all.iter().filter_map(|slot| slot.begin(false)).collect();
        assert_eq!(busy.len(), CONNECTIONS_MAX - KEPT_FOR_PROBES);

        // The refused ones wait, and one of them makes room.
        let probe = Arc::new(slots.admit(Some(address(200))).unwrap());

        assert!(probe.begin(true).is_some());
        assert!(probe.begin(false).is_none());
    }

    #[tokio::test]
    async fn long_requests_of_an_address_leave_places_for_its_probes() {
        let slots = Arc::new(Slots::default());
        let admit = |_| Arc::new(slots.admit(Some(address(1))).unwrap());
        let all: Vec<_> = (0..CONNECTIONS_PER_ADDRESS_MAX).map(admit).collect();
        let busy: Vec<_> = all.iter().filter_map(|slot| slot.begin(false)).collect();
        assert_eq!(busy.len(), CONNECTIONS_PER_ADDRESS_MAX - KEPT_FOR_PROBES_OF_ADDRESS);

        let probe = Arc::new(slots.admit(Some(address(1))).unwrap());

        assert!(probe.begin(true).is_some());
    }

    #[tokio::test]
    async fn place_is_free_when_its_connection_has_ended() {
        let slots = Arc::new(Slots::default());
        let mut all = full(&slots);
        assert!(all[0].is_short());

        all.truncate(CONNECTIONS_MAX / 2);

        assert!(!all[0].is_short());
        assert!(slots.admit(Some(address(200))).is_some());
        assert!(all.iter().all(|slot| !is_told_to_end(slot)));
    }

    #[test]
    fn neighbours_of_ipv6_are_one_address() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), address(1));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
