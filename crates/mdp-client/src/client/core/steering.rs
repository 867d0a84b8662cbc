//! Which broker fresh requests go to, and the search for a better one.
//!
//! Three things start a search: the broker in use cannot be reached, it leaves its cluster, or a
//! preferred one may be back. *Scouts*, connections without requests, then try other brokers in
//! the background; the first that is fit is the one to go on with. Requests that have left stay
//! where they are.

use std::time::{Duration, Instant};

use super::{ClientCore, ClientEffect};
use crate::{
    brokers::{BrokerSet, LISTING_RETRIED_AFTER},
    client::connections::{ConnectionId, Purpose, Question},
    listing::{self, Listing},
};

/// How long a scout may take, connection and answer together.
const SCOUT_TIME_MAX: Duration = Duration::from_secs(2);

/// How long one scout is waited for before the next one starts beside it.
const SCOUT_STAGGER: Duration = Duration::from_millis(250);

/// Scouts at a time.
const SCOUTS_MAX: usize = 4;

/// How long a broker may take to answer `mmi.endpoints`. It answers from its memory.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// The pause after a search in vain for a replacement of a broker that leaves but still serves.
const SEARCH_PAUSE: Duration = Duration::from_secs(1);

/// How long a broker that left a request unanswered, while another one answered it, is not gone
/// back to. Brokers that do not form a cluster may have different workers.
const UNANSWERED_HOLD: Duration = Duration::from_secs(300);

/// Where fresh requests go, and what is done to find a better place.
#[derive(Debug)]
pub(super) struct Steering {
    pub(super) current: usize,
    search: Option<Search>,
    /// No search for a replacement begins before.
    search_at: Instant,
    /// No search for a preferred broker begins before.
    return_at: Instant,
    /// When the broker in use is asked for its cluster's endpoints again.
    ask_at: Instant,
}

impl Steering {
    pub(super) fn new(now: Instant) -> Self {
        Self { current: 0, search: None, search_at: now, return_at: now, ask_at: now }
    }
}

/// Why another broker is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// No connection to the broker in use: any one will do.
    Any,
    /// The broker in use leaves: one that stays.
    Elsewhere,
    /// A preferred one.
    Back,
}

#[derive(Debug)]
struct Search {
    goal: Goal,
    since: Instant,
    tried: BrokerSet,
    /// When the next scout starts, unless nothing is under way; `None`: nobody is left to try.
    next_at: Option<Instant>,
}

impl ClientCore {
    /// Asks again when it is time. Called with every request, so a client without requests is
    /// silent.
    pub(super) fn ask_if_due(&mut self, now: Instant) {
        if self.steering.ask_at > now {
            return;
        }
        if let Some(connection) = self.connections.up_at(self.steering.current) {
            self.ask(now, connection);
        }
    }

    /// Asks the broker of an established connection which endpoints its cluster has.
    pub(super) fn ask(&mut self, now: Instant, connection: ConnectionId) {
        let Some(open) = self.connections.find(connection) else { return };
        let is_wanted = !self.settings.endpoints_refresh.is_zero() || open.is_scout();
        if !is_wanted || !self.brokers.has_listing(now, open.broker) {
            return;
        }
        self.steering.ask_at = now + self.settings.endpoints_refresh;
        match open.question {
            Question::None => {}
            Question::Asked { at, is_passed_over } => {
                let silent_for = now.saturating_duration_since(at);
                // Its answer is not expected any more, and it may know the question by now.
                let is_asked_again = silent_for >= LISTING_RETRIED_AFTER;
                if !is_asked_again && silent_for >= ANSWER_TIME_MAX && is_passed_over {
                    // It answers others, so it does not know this question.
                    self.brokers.on_no_listing(now, open.broker);
                }
                if !is_asked_again {
                    return;
                }
            }
        }
        let frames = listing::question(self.settings.version, listing::MMI_ENDPOINTS);
        if let Some(open) = self.connections.get_mut(connection) {
            open.question = Question::Asked { at: now, is_passed_over: false };
        }
        self.effects.push_back(ClientEffect::Send { connection, id: None, frames });
    }

    pub(super) fn on_listing(&mut self, now: Instant, connection: ConnectionId, listing: Listing) {
        let Some(open) = self.connections.find(connection) else { return };
        let (broker, is_scout) = (open.broker, open.is_scout());
        match listing {
            Listing::Nodes(nodes) if !self.settings.endpoints_refresh.is_zero() => {
                let (current, connections) = (self.steering.current, &self.connections);
                let is_in_use = |broker| broker == current || connections.reaches(broker);
                // A client has an order of its own, so newcomers change nothing.
                let _newcomers = self.brokers.learn(broker, &nodes, is_in_use);
                if let Some(search) = &mut self.steering.search {
                    search.next_at = search.next_at.or(Some(now));
                }
            }
            Listing::NotThere => self.brokers.on_no_listing(now, broker),
            Listing::Nodes(_) | Listing::Unreadable => {}
        }
        if is_scout && self.brokers.is_leaving(broker) {
            self.close_scout(connection);
        } else if is_scout {
            self.promote(now, connection);
        }
        self.search(now);
    }

    /// These brokers left a request unanswered that this one has answered.
    pub(super) fn hold(&mut self, now: Instant, unanswered: BrokerSet, answered: usize) {
        let is_held = |broker: &usize| unanswered.contains(*broker) && *broker != answered;
        for broker in (0..self.brokers.len()).filter(is_held) {
            self.brokers.hold(broker, now + UNANSWERED_HOLD);
        }
        // A scout may be on its way to one of them.
        self.end_search();
    }

    /// Fresh requests go to this broker from now on.
    pub(super) fn move_to(&mut self, now: Instant, broker: usize) {
        let current = self.steering.current;
        if broker == current {
            return;
        }
        let from = self.brokers.endpoint(current);
        tracing::debug!(from, to = self.brokers.endpoint(broker), "requests go elsewhere");
        self.steering.current = broker;
        self.steering.return_at = now + self.settings.return_interval;
        self.counters.moves += 1;
    }

    /// A connection that serves is worth more than news about it, unless it serves for a short
    /// time only.
    pub(super) fn on_scout_up(&mut self, now: Instant, connection: ConnectionId) {
        let Some(broker) = self.connections.find(connection).map(|open| open.broker) else {
            return;
        };
        let goal = self.steering.search.as_ref().map(|search| search.goal);
        match goal {
            Some(Goal::Elsewhere | Goal::Back) if self.brokers.has_listing(now, broker) => {}
            Some(Goal::Any | Goal::Elsewhere | Goal::Back) | None => self.promote(now, connection),
        }
        self.ask(now, connection);
    }

    /// Begins, goes on with, or ends the search. To be called when anything changed that it
    /// depends on. Nothing begins while the client is idle.
    pub(super) fn review_search(&mut self, now: Instant) {
        if self.steering.search.is_some() || !self.request_by_id.is_empty() {
            self.search(now);
        }
    }

    fn search(&mut self, now: Instant) {
        let goal = self.goal(now);
        let searched = self.steering.search.as_ref().map(|search| search.goal);
        if searched.is_some() && searched != goal {
            self.end_search();
        }
        let Some(goal) = goal else { return };
        if self.steering.search.is_none() {
            let first_at = match goal {
                // A request may be about to reach one.
                Goal::Any => now + SCOUT_STAGGER,
                Goal::Elsewhere | Goal::Back => now,
            };
            let (tried, next_at) = (BrokerSet::default(), Some(first_at));
            self.steering.search = Some(Search { goal, since: now, tried, next_at });
        }
        self.run_scouts(now);
    }

    pub(super) fn search_timeout(&self) -> Option<Instant> {
        let search = self.steering.search.as_ref()?;
        let ends = self.connections.scouts().map(|(_, until)| until);
        ends.chain(search.next_at).min()
    }

    /// Closes connections that fresh requests will not use.
    pub(super) fn close_unneeded(&mut self) {
        for connection in self.connections.take_unneeded(self.steering.current) {
            self.effects.push_back(ClientEffect::Close { connection });
        }
    }

    fn goal(&self, now: Instant) -> Option<Goal> {
        let steering = &self.steering;
        let is_searching = |goal| steering.search.as_ref().is_some_and(|s| s.goal == goal);
        let is_up = self.connections.up_at(steering.current).is_some();
        if !is_up && !self.request_by_id.is_empty() {
            let is_time = is_searching(Goal::Any) || steering.search_at <= now;
            is_time.then_some(Goal::Any)
        } else if self.brokers.is_leaving(steering.current) {
            let is_time = is_searching(Goal::Elsewhere) || steering.search_at <= now;
            is_time.then_some(Goal::Elsewhere)
        } else if !self.settings.return_interval.is_zero() && is_up {
            let is_time = is_searching(Goal::Back) || steering.return_at <= now;
            let is_there = (0..steering.current).any(|broker| self.is_preferred(now, broker));
            (is_time && is_there).then_some(Goal::Back)
        } else {
            None
        }
    }

    /// Whether it could be gone back to. That it is listed does not matter, for it will be asked
    /// itself: it may belong to another cluster than the broker in use.
    fn is_preferred(&self, now: Instant, broker: usize) -> bool {
        broker < self.steering.current
            && self.brokers.is_configured(broker)
            && !self.brokers.is_in_process(broker)
            && !self.brokers.is_held(now, broker)
    }

    /// Whether it has just refused this side.
    fn is_refused_by(&self, now: Instant, broker: usize) -> bool {
        self.brokers.refused_until(now, broker).is_some()
    }

    fn run_scouts(&mut self, now: Instant) {
        let late: Vec<ConnectionId> = self
            .connections
            .scouts()
            .filter(|(_, until)| *until <= now)
            .map(|(id, _)| id)
            .collect();
        for connection in late {
            if let Some(broker) = self.connections.find(connection).map(|open| open.broker) {
                self.brokers.on_failed(now, broker);
            }
            self.close_scout(connection);
        }
        while let Some(search) = &self.steering.search {
            let is_waiting = search.next_at.is_none_or(|at| at > now);
            let (goal, is_connecting) = (search.goal, self.connections.is_connecting());
            let scouts = self.connections.scouts().count();
            let is_busy = match goal {
                Goal::Any => is_connecting,
                Goal::Elsewhere | Goal::Back => scouts > 0,
            };
            if is_busy && (is_waiting || scouts >= SCOUTS_MAX) {
                return self.stagger(now);
            }
            match self.candidate(now) {
                Some(broker) => self.start_scout(now, broker),
                None if is_busy => return self.exhaust(),
                None => return self.on_search_in_vain(now, goal),
            }
        }
    }

    fn start_scout(&mut self, now: Instant, broker: usize) {
        if let Some(search) = &mut self.steering.search {
            search.tried.insert(broker);
            // One after the other, for there is no hurry.
            search.next_at = match search.goal {
                Goal::Any | Goal::Elsewhere => Some(now + SCOUT_STAGGER),
                Goal::Back => Some(now + SCOUT_TIME_MAX),
            };
        }
        let connection = self.open(now, broker, Purpose::Scout { until: now + SCOUT_TIME_MAX });
        if self.connections.is_up(connection) {
            self.on_scout_up(now, connection);
        }
    }

    /// The wait for the next scout is over, and there may be no more of them.
    fn stagger(&mut self, now: Instant) {
        if let Some(search) = &mut self.steering.search
            && search.next_at.is_some_and(|at| at <= now)
        {
            search.next_at = Some(now + SCOUT_STAGGER);
        }
    }

    fn exhaust(&mut self) {
        if let Some(search) = &mut self.steering.search {
            search.next_at = None;
        }
    }

    fn on_search_in_vain(&mut self, now: Instant, goal: Goal) {
        self.end_search();
        match goal {
            // With the next round of the requests that wait.
            Goal::Any => self.steering.search_at = self.next_round_at.unwrap_or(now),
            Goal::Elsewhere => self.steering.search_at = now + SEARCH_PAUSE,
            Goal::Back => self.steering.return_at = now + self.settings.return_interval,
        }
    }

    /// The next broker to try, in order of preference.
    fn candidate(&self, now: Instant) -> Option<usize> {
        let search = self.steering.search.as_ref()?;
        let is_fit = |broker: usize| match search.goal {
            Goal::Any => {
                !self.brokers.is_leaving(broker)
                    && !self.brokers.failed_since(broker, search.since)
                    && !self.connections.reaches(broker)
            }
            Goal::Elsewhere => {
                !self.brokers.is_leaving(broker)
                    && !self.brokers.is_held(now, broker)
                    && broker != self.steering.current
            }
            Goal::Back => self.is_preferred(now, broker),
        };
        (0..self.brokers.len()).find(|broker| {
            !search.tried.contains(*broker) && is_fit(*broker) && !self.is_refused_by(now, *broker)
        })
    }

    /// A scout has found its broker fit.
    fn promote(&mut self, now: Instant, connection: ConnectionId) {
        let Some(open) = self.connections.get_mut(connection) else { return };
        open.purpose = Purpose::Requests;
        let broker = open.broker;
        self.move_to(now, broker);
        self.end_search();
        self.rescue(now);
        self.close_unneeded();
    }

    fn end_search(&mut self) {
        self.steering.search = None;
        let scouts: Vec<ConnectionId> = self.connections.scouts().map(|(id, _)| id).collect();
        for connection in scouts {
            self.close_scout(connection);
        }
    }

    fn close_scout(&mut self, connection: ConnectionId) {
        if self.connections.remove(connection).is_some() {
            self.effects.push_back(ClientEffect::Close { connection });
        }
    }
}
