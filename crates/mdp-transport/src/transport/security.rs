//! CURVE on a port: keys, randomness, jobs, and the owner's word on the keys of peers.

use std::time::Instant;

use super::{Transport, TransportEvent};
use crate::{
    ADMISSION_HELD_FOR, ClientKeys, ConnectionId, CurveJob, CurveJobResult, Ending, Loss,
    OWNER_ANSWERS_WITHIN, PeerAddress, PublicKey, ServerKeys,
    connection::MechanismChoice,
    curve::{ClientHandshake, Entropy, KEY_BYTES, PendingCommand, Server},
};

/// Which mechanisms peers may ask for.
#[derive(Clone, Debug)]
pub struct Mechanisms {
    /// NULL: neither encryption nor authentication.
    pub null: bool,
    /// CURVE, with the keys of this side. It is not spoken before
    /// [randomness](Transport::seed) was handed in.
    pub curve: Option<ServerKeys>,
}

impl Default for Mechanisms {
    fn default() -> Self {
        Self { null: true, curve: None }
    }
}

/// What the owner of the transport calls the identity that a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdentityToken(pub u64);

/// What a port has of security.
#[derive(Debug)]
pub(super) struct Security {
    null: bool,
    server: Option<Server>,
    entropy: Option<Entropy>,
    jobs_outside: bool,
    jobs: std::collections::VecDeque<CurveJob>,
}

/// A peer that has shown its key, and is not admitted so far.
#[derive(Debug)]
pub(super) struct Admission {
    key: PublicKey,
    /// When the owner is asked once more, and then when that was for the last time.
    pub(super) deadline: Instant,
    is_last: bool,
}

impl Security {
    pub(super) const fn new() -> Self {
        let jobs = std::collections::VecDeque::new();
        Self { null: true, server: None, entropy: None, jobs_outside: false, jobs }
    }

    /// What a peer that connects may choose.
    pub(super) const fn accepting(&self) -> MechanismChoice {
        let curve = self.server.is_some() && self.entropy.is_some();
        MechanismChoice::Accepting { null: self.null, curve }
    }
}

impl<T> Transport<T> {
    /// Hands in randomness, from the operating system: CURVE draws all that it needs from what it was ever
    /// given. What is handed in later is added.
    pub fn seed(&mut self, bytes: &[u8; KEY_BYTES]) {
        match &mut self.security.entropy {
            Some(entropy) => entropy.add(bytes),
            none @ None => *none = Some(Entropy::new(bytes)),
        }
    }

    /// Which mechanisms peers that connect from now on may ask for. Connections that there are stay.
    pub fn set_mechanisms(&mut self, mechanisms: Mechanisms) {
        self.security.null = mechanisms.null;
        match (&mut self.security.server, mechanisms.curve) {
            (Some(server), Some(keys)) => server.set_keys(keys),
            (server, keys) => *server = keys.map(Server::new),
        }
    }

    /// Whether computations of handshakes are handed out ([`poll_job`](Self::poll_job)) and not done at
    /// once, as they are by default.
    pub const fn set_jobs_outside(&mut self, is_outside: bool) {
        self.security.jobs_outside = is_outside;
    }

    /// The next computation to do, anywhere and in any order: a connection waits for one at most. Its result
    /// goes to [`job_done`](Self::job_done).
    pub fn poll_job(&mut self) -> Option<CurveJob> {
        while let Some(job) = self.security.jobs.pop_front() {
            if self.table.get(job.id()).is_some() {
                return Some(job);
            }
        }
        None
    }

    /// A computation is done. A connection that ended meanwhile needs it no longer.
    pub fn job_done(&mut self, now: Instant, result: CurveJobResult) {
        let now = self.clock.awake(now);
        self.finish_job(now, result);
    }

    /// As [`dialled`](Self::dialled), with CURVE: the server's key must be known. `None`: there is no room,
    /// or no [randomness](Self::seed), or the server's key is no good one.
    pub fn dialled_curve(
        &mut self,
        now: Instant,
        address: PeerAddress,
        keys: &ClientKeys,
    ) -> Option<ConnectionId> {
        if self.is_full() {
            return None;
        }
        let now = self.clock.awake(now);
        let random = self.security.entropy.as_mut()?.draw();
        let handshake = ClientHandshake::new(keys, &random).ok()?;
        self.insert(now, MechanismChoice::DialCurve(Box::new(handshake)), address)
    }

    /// The owner's answer to [`TransportEvent::Authenticate`]: the identity of the key, or none. `is_last`
    /// comes back from the question. A key without an identity is asked about once more before its connection
    /// ends: a late answer to the first question refuses nothing.
    pub fn authenticated(
        &mut self,
        now: Instant,
        id: ConnectionId,
        is_last: bool,
        identity: Option<IdentityToken>,
    ) {
        let now = self.clock.awake(now);
        let Some(entry) = self.table.get_mut(id) else { return };
        let Some(admission) = &entry.admission else { return };
        let Some(identity) = identity else {
            if is_last && admission.is_last {
                self.refuse_key(id);
            }
            return;
        };
        entry.admission = None;
        let before = entry.connection.output_bytes();
        let peer = match entry.connection.admit(now, &mut self.pool) {
            Ok(Some(peer)) => peer,
            Ok(None) => return,
            Err(ending) => return self.end(id, Loss::Ended(ending)),
        };
        self.outgoing_bytes += entry.connection.output_bytes() - before;
        entry.identity = Some(identity);
        entry.peer = Some(peer);
        self.strangers.remove(id);
        self.events.push_back(TransportEvent::Opened { id });
        self.list(id);
        self.reschedule(id);
    }

    /// The identity that a peer was given.
    #[must_use]
    pub fn identity(&self, id: ConnectionId) -> Option<IdentityToken> {
        self.table.get(id)?.identity
    }

    /// If a command of a handshake came, what it asks to compute is begun.
    pub(super) fn begin_pending_job(&mut self, now: Instant, id: ConnectionId) {
        let entry = self.table.get_mut(id);
        if let Some(command) = entry.and_then(|entry| entry.connection.take_pending()) {
            self.begin_job(now, id, command);
        }
    }

    fn begin_job(&mut self, now: Instant, id: ConnectionId, command: PendingCommand) {
        let Security { server: Some(server), entropy: Some(entropy), .. } = &mut self.security
        else {
            // CURVE was taken back while the peer was on its way.
            return self.end(id, Loss::Ended(Ending::Mechanism(Some(crate::Mechanism::Curve))));
        };
        let job = server.job(now, id, entropy, command);
        if self.security.jobs_outside {
            self.security.jobs.push_back(job);
        } else {
            self.finish_job(now, job.run());
        }
    }

    fn finish_job(&mut self, now: Instant, result: CurveJobResult) {
        if !self.security.server.as_ref().is_some_and(|server| server.is_own(&result)) {
            return;
        }
        let CurveJobResult { id, outcome, .. } = result;
        let Some(entry) = self.table.get_mut(id) else { return };
        let before = entry.connection.output_bytes();
        let done = entry.connection.on_job_done(outcome, &mut self.pool);
        self.outgoing_bytes += entry.connection.output_bytes() - before;
        match done {
            Err(ending) => return self.end(id, Loss::Ended(ending)),
            Ok(None) => {}
            Ok(Some(key)) => {
                let deadline = now + ADMISSION_HELD_FOR;
                entry.admission = Some(Box::new(Admission { key, deadline, is_last: false }));
                self.events.push_back(TransportEvent::Authenticate { id, key, is_last: false });
            }
        }
        self.list(id);
        self.reschedule(id);
    }

    /// The time of a peer is over that is not admitted: the owner is asked once more. If that was done and
    /// there is no answer, the connection is closed without a word: an ERROR would keep a libzmq away for good,
    /// and nothing is wrong with its key, as far as is known.
    pub(super) fn on_admission_due(&mut self, now: Instant, id: ConnectionId) {
        let Some(entry) = self.table.get_mut(id) else { return };
        let Some(admission) = &mut entry.admission else { return };
        if admission.is_last {
            return self.end(id, Loss::Ended(Ending::KeyUnanswered));
        }
        admission.is_last = true;
        admission.deadline = now + OWNER_ANSWERS_WITHIN;
        let key = admission.key;
        self.events.push_back(TransportEvent::Authenticate { id, key, is_last: true });
        self.reschedule(id);
    }

    fn refuse_key(&mut self, id: ConnectionId) {
        let Some(entry) = self.table.get_mut(id) else { return };
        let before = entry.connection.output_bytes();
        let ending = entry.connection.refuse(&mut self.pool);
        self.outgoing_bytes += entry.connection.output_bytes() - before;
        self.end(id, Loss::Ended(ending));
    }

    /// Overwrites keys whose time is over.
    pub(super) fn forget_old_keys(&mut self, now: Instant) {
        if let Some(server) = &mut self.security.server {
            server.forget_old_keys(now);
        }
    }
}
