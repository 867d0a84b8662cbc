//! CURVE on a port: keys, randomness, jobs, and the owner's word on the keys of peers.

use std::time::Instant;

use super::{Transport, TransportEvent};
use crate::{
    ADMISSION_HELD_FOR, ClientKeys, ConnectionId, CurveJob, CurveJobResult, Ending, Loss,
    OWNER_ANSWERS_WITHIN, PeerAddress, PublicKey, ServerKeys,
    connection::MechanismChoice,
    curve::{
        ClientHandshake, Entropy, JobPlace, KEY_BYTES, LABEL_BYTES, PendingCommand, PortMark,
        Server,
    },
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

/// How many jobs may wait without a look at whether their connections are still there.
const JOBS_KEPT: usize = 64;

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
    /// Which port this is, among those whose jobs the same threads do.
    mark: PortMark,
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
    pub(super) fn new() -> Self {
        let (jobs, mark) = (std::collections::VecDeque::new(), PortMark::default());
        Self { null: true, server: None, entropy: None, jobs_outside: false, mark, jobs }
    }

    /// What a peer that connects may choose.
    pub(super) const fn accepting(&self) -> MechanismChoice {
        let curve = self.server.is_some() && self.entropy.is_some();
        MechanismChoice::Accepting { null: self.null, curve }
    }
}

impl<T> Transport<T> {
    /// Hands in randomness, from the operating system: CURVE draws all that it needs from what it was ever
    /// given. What is handed in later is added. The label is the port's own: two ports that are handed the same
    /// bytes draw other ones.
    pub fn seed(&mut self, label: &[u8; LABEL_BYTES], bytes: &[u8; KEY_BYTES]) {
        match &mut self.security.entropy {
            Some(entropy) => entropy.add(bytes),
            none @ None => *none = Some(Entropy::new(label, bytes)),
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

    /// A computation is done. A connection that ended meanwhile needs it no longer, and what is no result of a
    /// job of this port changes nothing.
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

    /// The owner's answer to [`TransportEvent::Authenticate`]: the identity of the key, or none. A key
    /// without an identity is asked about once more before its connection ends. `is_last` is handed back as it
    /// was asked: that a key had no identity at first, said late, is no answer to the last question. An
    /// identity is one whenever it is said.
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
        let Some(peer) = entry.connection.admit(now, &mut self.pool) else { return };
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
            self.strangers.on_hello(id);
            self.begin_job(now, id, command);
        }
    }

    fn begin_job(&mut self, now: Instant, id: ConnectionId, command: PendingCommand) {
        let Security { server: Some(server), entropy: Some(entropy), mark, .. } =
            &mut self.security
        else {
            // CURVE was taken back while the peer was on its way.
            return self.end(id, Loss::Ended(Ending::Mechanism(Some(crate::Mechanism::Curve))));
        };
        let place = JobPlace { port: mark.clone(), id, kind: command.kind() };
        let job = server.job(now, place, entropy, command);
        if self.security.jobs_outside {
            self.security.jobs.push_back(job);
            self.forget_jobs_of_the_ended();
        } else {
            self.finish_job(now, job.run());
        }
    }

    /// Those that do the jobs may be slower than strangers come and go: what waits for none of them goes, before
    /// it is more than what waits. Half of them go each time, so that it costs little for each.
    fn forget_jobs_of_the_ended(&mut self) {
        if self.security.jobs.len() > 2 * self.table.len().max(JOBS_KEPT) {
            let table = &self.table;
            self.security.jobs.retain(|job| table.get(job.id()).is_some());
        }
    }

    fn finish_job(&mut self, now: Instant, result: CurveJobResult) {
        let CurveJobResult { place: JobPlace { port, id, kind }, outcome } = result;
        if !port.is(&self.security.mark) {
            return;
        }
        let Some(entry) = self.table.get_mut(id) else { return };
        if !entry.connection.awaits_job(kind) {
            return;
        }
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

    /// The time of a peer is over that is not admitted: the owner is asked once more, and if it did not answer
    /// that, the connection ends without a word.
    pub(super) fn on_admission_due(&mut self, now: Instant, id: ConnectionId) {
        let Some(entry) = self.table.get_mut(id) else { return };
        let Some(admission) = &mut entry.admission else { return };
        if admission.is_last {
            let ending = entry.connection.give_up_admission();
            return self.end(id, Loss::Ended(ending));
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

#[cfg(test)]
mod tests;
