//! Which machines are to run a node, and which of those are members: what an operator has on paper.

use std::sync::Arc;

use crate::{Rng, shared::Shared};

/// What a machine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing: it is off, and its volume is empty.
    Vacant,
    /// Its node runs and is to become a member.
    Joining,
    /// Its node is a member.
    Member,
    /// Its node is a member that is to be removed, or was removed a moment ago.
    Leaving,
    /// Its node was removed. It is off, and its volume is as it was.
    Removed,
    /// Its node was removed, and was started again with its old volume.
    Returning,
}

/// What each machine is for.
#[derive(Debug)]
pub(crate) struct Roster {
    places: Vec<Place>,
}

impl Roster {
    /// The first machines are members, the others are there for later.
    pub(crate) fn new(members: usize, spares: usize) -> Self {
        let mut places = vec![Place::Member; members];
        places.resize(members + spares, Place::Vacant);
        Self { places }
    }

    pub(crate) fn place(&self, site: usize) -> Place {
        self.places[site]
    }

    pub(crate) fn set(&mut self, site: usize, place: Place) {
        self.places[site] = place;
    }

    /// Whether its node is to run.
    pub(crate) fn may_run(&self, site: usize) -> bool {
        match self.places[site] {
            Place::Joining | Place::Member | Place::Leaving | Place::Returning => true,
            Place::Vacant | Place::Removed => false,
        }
    }

    /// Whether it is to be a member in the end.
    pub(crate) fn is_member(&self, site: usize) -> bool {
        match self.places[site] {
            Place::Joining | Place::Member => true,
            Place::Vacant | Place::Leaving | Place::Removed | Place::Returning => false,
        }
    }

    /// All whose node is to run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.places.len()).filter(|site| self.may_run(*site)).collect()
    }

    /// All that are to be members in the end.
    pub(crate) fn members(&self) -> Vec<usize> {
        (0..self.places.len()).filter(|site| self.is_member(*site)).collect()
    }

    /// All that are for this.
    pub(crate) fn at(&self, place: Place) -> Vec<usize> {
        (0..self.places.len()).filter(|site| self.places[*site] == place).collect()
    }
}

/// The nodes that clients and workers are told of. All clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Addresses(Arc<Shared<Vec<usize>>>);

impl Addresses {
    /// The first so many.
    pub(crate) fn new(nodes: usize) -> Self {
        Self(Arc::new(Shared::new((0..nodes).collect())))
    }

    /// One of them.
    pub(crate) fn pick(&self, rng: &mut Rng) -> usize {
        let nodes = self.0.lock();
        nodes[rng.below(nodes.len())]
    }

    /// From now on it is one of them.
    pub(crate) fn add(&self, node: usize) {
        let mut nodes = self.0.lock();
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }

    /// From now on it is none of them.
    pub(crate) fn remove(&self, node: usize) {
        self.0.lock().retain(|other| *other != node);
    }
}
