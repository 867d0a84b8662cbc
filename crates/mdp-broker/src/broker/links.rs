//! Links with other nodes: what comes and goes with them, and what owners tell origins.
//!
//! Whoever has workers says how much of them each other node may use ([`Load`](mdp_wire::relay::Load)): changes only, at
//! most once in [`TELL_INTERVAL`]. It is a hint: a request that finds no idle worker waits, and its
//! origin hears that.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mdp_wire::{
    Frame,
    relay::{Capacity, ForwardId, ToOrigin},
};

use super::{Broker, origin::OwnerLink, owner::OriginLink};
use crate::{
    Effect, LinkId, LinkRole,
    service::{Origin, Service, ServiceId},
    time::Moment,
    timers::TimerKey,
};

/// How often other nodes are told of changes at most.
const TELL_INTERVAL: Duration = Duration::from_millis(1);

/// How many services one message tells of.
const SERVICES_PER_LOAD_MAX: usize = 1_024;

/// All links, by what this node is on them.
#[derive(Debug)]
pub(super) struct Links<F> {
    /// Links where this node is the origin.
    pub(super) to_owners: BTreeMap<LinkId, OwnerLink<F>>,
    /// Links where this node is the owner.
    pub(super) to_origins: BTreeMap<LinkId, OriginLink>,
    /// Services whose capacity may have changed since origins were told.
    news: Vec<ServiceId>,
    /// Whether origins are to be told something.
    pub(super) has_news: bool,
    /// When they may be told again.
    tell_at: Moment,
    is_armed: bool,
}

impl<F> Default for Links<F> {
    fn default() -> Self {
        Self {
            to_owners: BTreeMap::new(),
            to_origins: BTreeMap::new(),
            news: Vec::new(),
            has_news: false,
            tell_at: Moment::default(),
            is_armed: false,
        }
    }
}

impl<F: Frame> Broker<F> {
    pub(super) fn on_link_up(&mut self, link: LinkId, role: LinkRole) {
        match role {
            LinkRole::Origin => {
                self.links.to_owners.insert(link, OwnerLink::default());
            }
            LinkRole::Owner => {
                self.links.to_origins.insert(link, OriginLink::default());
                for id in self.services.ids() {
                    self.on_capacity_changed(id);
                }
            }
        }
    }

    pub(super) fn on_link_down(&mut self, link: LinkId, unsent: Vec<ForwardId>) {
        if let Some(owner) = self.links.to_owners.remove(&link) {
            self.on_owner_lost(link, owner, &BTreeSet::from_iter(unsent));
        }
        if let Some(origin) = self.links.to_origins.remove(&link) {
            self.on_origin_lost(link, origin);
        }
    }

    /// After any change of what a service has to offer to other nodes.
    pub(super) fn on_capacity_changed(&mut self, id: ServiceId) {
        if self.links.to_origins.is_empty() {
            return;
        }
        let Some(service) = self.services.find_mut(id) else { return };
        if !std::mem::replace(&mut service.is_capacity_news, true) {
            self.links.news.push(id);
            self.links.has_news = true;
        }
    }

    /// Tells other nodes what has changed, now or as soon as it may.
    pub(super) fn tell_origins_if_due(&mut self) {
        if !self.links.has_news {
            return;
        }
        let now = self.now();
        if now < self.links.tell_at {
            if !std::mem::replace(&mut self.links.is_armed, true) {
                self.timers.insert(self.links.tell_at, TimerKey::Load);
            }
            return;
        }
        self.links.tell_at = now.after(TELL_INTERVAL);
        self.links.has_news = false;
        self.tell_origins();
    }

    pub(super) fn on_load_timer(&mut self) {
        self.links.is_armed = false;
    }

    fn tell_origins(&mut self) {
        let news = std::mem::take(&mut self.links.news);
        let is_leaving = self.drain.is_some();
        for (link, origin) in &mut self.links.to_origins {
            let mut load = origin.take_news();
            for id in &news {
                let Some(service) = self.services.find_mut(*id) else { continue };
                let Some(capacity) = service.tell(*link, is_leaving) else { continue };
                load.capacity.push(capacity);
                if load.capacity.len() >= SERVICES_PER_LOAD_MAX {
                    let full = std::mem::take(&mut load);
                    let message = ToOrigin::Load(full);
                    self.effects.push_back(Effect::ToOrigin { link: *link, message });
                }
            }
            if !load.is_empty() {
                let message = ToOrigin::Load(load);
                self.effects.push_back(Effect::ToOrigin { link: *link, message });
            }
        }
        for id in &news {
            if let Some(service) = self.services.find_mut(*id) {
                service.is_capacity_news = false;
                service.forget_origins();
            }
            self.release_if_unused(*id);
        }
        self.links.news = news;
        self.links.news.clear();
    }
}

impl<F> Service<F> {
    /// What this origin may use, if it was told something else last.
    fn tell(&mut self, link: LinkId, is_leaving: bool) -> Option<Capacity> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (workers, idle) = if is_leaving {
            (0, 0)
        } else {
            (count(self.registered_count()), count(self.idle.len()))
        };
        let started = self.origin_mut(link).map_or(0, |origin| origin.started);
        let share = if is_leaving { 0 } else { started.saturating_add(idle) };
        let now = (workers, share);
        let told = self.origin_mut(link).map_or((0, 0), |origin| origin.told);
        if told == now {
            return None;
        }
        self.set_told(link, now);
        Some(Capacity { service: self.name.clone(), workers, share })
    }

    /// Whatever comes next is news to this origin.
    pub(super) fn forget_told(&mut self, link: LinkId) {
        self.set_told(link, (u32::MAX, u32::MAX));
    }

    fn set_told(&mut self, link: LinkId, told: (u32, u32)) {
        match self.origin_mut(link) {
            Some(origin) => origin.told = told,
            None => self.origins.push(Origin { link, started: 0, told }),
        }
    }

    /// Forgets the origins that know of nothing here and have nothing here.
    fn forget_origins(&mut self) {
        self.origins.retain(|origin| origin.started > 0 || origin.told != (0, 0));
    }
}
