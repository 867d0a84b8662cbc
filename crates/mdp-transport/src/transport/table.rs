//! The connections by their number.

use super::Entry;

/// How many bits of an id say where the connection lies in the table: room for a million.
const SLOT_BITS: u32 = 20;

/// Names one connection. No other connection of the process ever has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// Its number; those of later connections are higher.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The id of a number; there may be no such connection.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Where a shell can keep what belongs to the connection: no other connection that lives has the
    /// same slot, and slots are used again.
    #[must_use]
    pub fn slot(self) -> usize {
        usize::try_from(self.0 & ((1 << SLOT_BITS) - 1)).unwrap_or(usize::MAX)
    }
}

/// A table in which a number finds its connection without a search.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<Option<(ConnectionId, Entry<T>)>>,
    free: Vec<usize>,
    /// How many connections there were so far.
    count: u64,
    living: usize,
}

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), count: 0, living: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.living
    }

    /// Adds a connection; `None`: the table is full.
    pub(super) fn insert(&mut self, entry: Entry<T>) -> Option<ConnectionId> {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        let low = u64::try_from(slot).ok().filter(|slot| slot >> SLOT_BITS == 0)?;
        self.count += 1;
        let id = ConnectionId((self.count << SLOT_BITS) | low);
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some((id, entry)),
            None => self.slots.push(Some((id, entry))),
        }
        self.living += 1;
        Some(id)
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Entry<T>> {
        let (found, entry) = self.slots.get(id.slot())?.as_ref()?;
        (*found == id).then_some(entry)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Entry<T>> {
        let (found, entry) = self.slots.get_mut(id.slot())?.as_mut()?;
        (*found == id).then_some(entry)
    }

    /// Removes a connection. Its slot is not used again before [`release`](Self::release).
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Entry<T>> {
        let (_, entry) = self.slots.get_mut(id.slot())?.take_if(|(found, _)| *found == id)?;
        self.living -= 1;
        Some(entry)
    }

    /// The shell keeps nothing under the slot of a removed connection any more.
    pub(super) fn release(&mut self, id: ConnectionId) {
        self.free.push(id.slot());
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Entry<T>)> {
        self.slots.iter().flatten().map(|(id, entry)| (*id, entry))
    }
}
