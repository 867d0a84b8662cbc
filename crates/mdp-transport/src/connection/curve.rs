//! The handshake of CURVE on a connection: which command is awaited, and what follows it.

use std::time::Instant;

use super::{Connection, Ending, Event, PeerIntroduction, Stage, introduce};
use crate::{
    BufferPool, COMMAND_BYTES_MAX, Decoded, Flow, Mechanism, PublicKey, StreamError,
    command::{self, Command},
    curve::{
        AwaitedReady, ClientHandshake, CurveError, CurveOutcome, Established, INITIATE_BYTES_MAX,
        JobKind, PendingCommand, Ticket,
    },
};

/// What an ERROR says to a peer whose key is not admitted (27/ZAP, "authentication failure").
const NOT_ADMITTED: &str = "400";

/// A handshake of CURVE.
#[derive(Debug)]
pub(super) struct CurveStage {
    pub(super) minor: u8,
    /// How many frames a message may have later; until then there are none.
    pub(super) frames_max: usize,
    pub(super) step: CurveStep,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum CurveStep {
    /// Accepting: the HELLO.
    AwaitsHello,
    /// A command came that waits for its job.
    Pending(PendingCommand),
    /// The result of a job of this kind.
    AwaitsJob(JobKind),
    /// The INITIATE.
    AwaitsInitiate { ticket: Ticket, hello_number: u64 },
    /// The owner's word on the peer's key.
    AwaitsAdmission(Box<Established>, PeerIntroduction),
    /// Dialling: the WELCOME.
    AwaitsWelcome(Box<ClientHandshake>),
    /// The READY.
    AwaitsReady(Box<AwaitedReady>, PublicKey),
    /// A command is being read; what it leads to takes the place of this.
    Between,
}

impl<T> Connection<T> {
    /// Reads the next command. A peer that sends one that is not its turn is at an end.
    pub(super) fn on_curve_bytes(
        &mut self,
        now: Instant,
        rest: &[u8],
        pool: &mut BufferPool,
        take: &mut impl FnMut(Event) -> Flow,
    ) -> Result<(usize, Flow), Ending> {
        if self.has_to_wait() {
            return Err(Ending::Curve(CurveError::Command));
        }
        let left = self.handshake_bytes_max - self.handshake_bytes;
        let allowed = rest.get(..left).unwrap_or(rest);
        let mut body = None;
        let read = self.decoder.decode(allowed, |decoded| {
            if let Decoded::Command(command) = decoded {
                body = Some(command.to_vec());
            }
            Flow::Stop
        });
        let count = read.map_err(|error| match error {
            StreamError::TooManyFrames { max: 0 } => Ending::MessageBeforeReady,
            StreamError::BadFlags(_)
            | StreamError::MessageTooLarge { .. }
            | StreamError::TooManyFrames { .. }
            | StreamError::CommandTooLarge { .. }
            | StreamError::Curve(_) => Ending::Stream(error),
        })?;
        self.handshake_bytes += count;
        match body {
            Some(body) => Ok((count, self.on_curve_command(now, body, pool, take)?)),
            None if self.handshake_bytes >= self.handshake_bytes_max => {
                Err(Ending::HandshakeTooLong { max: self.handshake_bytes_max })
            }
            None => Ok((count, Flow::Continue)),
        }
    }

    /// Whether it is this side's turn. What the peer says then is no command of the handshake, and what it begins
    /// in clear text must not go on as traffic: not one byte of it is kept.
    const fn has_to_wait(&self) -> bool {
        let Stage::Curve(CurveStage { step, .. }) = &self.stage else { return false };
        match step {
            CurveStep::Pending(_)
            | CurveStep::AwaitsJob(_)
            | CurveStep::AwaitsAdmission(..)
            | CurveStep::Between => true,
            CurveStep::AwaitsHello
            | CurveStep::AwaitsInitiate { .. }
            | CurveStep::AwaitsWelcome(_)
            | CurveStep::AwaitsReady(..) => false,
        }
    }

    fn on_curve_command(
        &mut self,
        now: Instant,
        body: Vec<u8>,
        pool: &mut BufferPool,
        take: &mut impl FnMut(Event) -> Flow,
    ) -> Result<Flow, Ending> {
        let Stage::Curve(stage) = &mut self.stage else { return Ok(Flow::Continue) };
        let step = std::mem::replace(&mut stage.step, CurveStep::Between);
        match step {
            CurveStep::AwaitsHello => {
                stage.step = CurveStep::Pending(PendingCommand::Hello(body));
                Ok(Flow::Continue)
            }
            CurveStep::AwaitsInitiate { ticket, hello_number } => {
                let pending = PendingCommand::Initiate { body, ticket, hello_number };
                stage.step = CurveStep::Pending(pending);
                Ok(Flow::Continue)
            }
            CurveStep::AwaitsWelcome(handshake) => {
                self.on_welcome(now, &handshake, &body, pool).map(|()| Flow::Continue)
            }
            CurveStep::AwaitsReady(handshake, server) => {
                let peer = self.on_ready(now, &handshake, server, &body)?;
                Ok(take(Event::Opened(peer)))
            }
            CurveStep::Pending(_)
            | CurveStep::AwaitsJob(_)
            | CurveStep::AwaitsAdmission(..)
            | CurveStep::Between => Err(Ending::Curve(CurveError::Command)),
        }
    }

    fn on_welcome(
        &mut self,
        now: Instant,
        handshake: &ClientHandshake,
        body: &[u8],
        pool: &mut BufferPool,
    ) -> Result<(), Ending> {
        refusal(body)?;
        let (initiate, awaited) =
            handshake.initiate(body, &self.own_properties()).map_err(Ending::Curve)?;
        self.outgoing.put_bytes(pool, |buffer| command::put(&[&initiate], buffer));
        self.liveness.on_shown(now);
        self.set_step(CurveStep::AwaitsReady(Box::new(awaited), handshake.server()));
        Ok(())
    }

    fn on_ready(
        &mut self,
        now: Instant,
        handshake: &AwaitedReady,
        server: PublicKey,
        body: &[u8],
    ) -> Result<PeerIntroduction, Ending> {
        refusal(body)?;
        let (metadata, sealer, opener) = handshake.open(body).map_err(Ending::Curve)?;
        let Stage::Curve(CurveStage { minor, frames_max, .. }) = self.stage else {
            return Err(Ending::Curve(CurveError::Command));
        };
        let peer = introduce_by(&metadata, minor, server)?;
        self.outgoing.set_sealer(sealer);
        self.decoder.open_traffic(opener, frames_max);
        self.stage = Stage::Open;
        self.liveness.on_opened(now, minor);
        Ok(peer)
    }

    /// The command that waits for its job, if one does. Its result goes to
    /// [`on_job_done`](Self::on_job_done).
    pub(crate) fn take_pending(&mut self) -> Option<PendingCommand> {
        let Stage::Curve(CurveStage { step, .. }) = &mut self.stage else { return None };
        let CurveStep::Pending(command) = step else { return None };
        let command = command.take();
        *step = CurveStep::AwaitsJob(command.kind());
        Some(command)
    }

    /// Whether the result of a job of this kind is what comes next.
    pub(crate) fn awaits_job(&self, kind: JobKind) -> bool {
        matches!(
            self.stage,
            Stage::Curve(CurveStage { step: CurveStep::AwaitsJob(awaited), .. }) if awaited == kind
        )
    }

    /// A job is done, for which the connection [waited](Self::awaits_job). Returns the key whose owner the peer is, once that is shown: it awaits
    /// [`admit`](Self::admit) or [`refuse`](Self::refuse) then.
    pub(crate) fn on_job_done(
        &mut self,
        outcome: Result<CurveOutcome, CurveError>,
        pool: &mut BufferPool,
    ) -> Result<Option<PublicKey>, Ending> {
        let Stage::Curve(CurveStage { minor, step: CurveStep::AwaitsJob(_), .. }) = self.stage
        else {
            return Ok(None);
        };
        match outcome {
            Ok(CurveOutcome::Welcome(welcome)) => {
                self.outgoing.put_bytes(pool, |buffer| command::put(&[&welcome.command], buffer));
                self.decoder.allow_commands_only(INITIATE_BYTES_MAX);
                let hello_number = welcome.hello_number;
                self.set_step(CurveStep::AwaitsInitiate { ticket: welcome.ticket, hello_number });
                Ok(None)
            }
            Ok(CurveOutcome::Established(established)) => {
                let key = established.client;
                let introduced = introduce_by(&established.metadata, minor, key);
                if introduced == Err(Ending::SocketType) {
                    self.refuse_socket_type(pool);
                }
                let peer = introduced.map_err(|ending| self.end(ending))?;
                self.liveness.on_awaits_admission();
                self.set_step(CurveStep::AwaitsAdmission(established, peer));
                Ok(Some(key))
            }
            Err(error) => Err(self.end(Ending::Curve(error))),
        }
    }

    /// The owner admits the key that the peer has shown: messages may follow. `None`: it has shown none.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        pool: &mut BufferPool,
    ) -> Option<PeerIntroduction> {
        let properties = self.own_properties();
        let Stage::Curve(CurveStage {
            minor,
            frames_max,
            step: CurveStep::AwaitsAdmission(established, peer),
        }) = &mut self.stage
        else {
            return None;
        };
        let (minor, frames_max, peer) = (*minor, *frames_max, peer.clone());
        let (ready, sealer, opener) = established.ready(&properties);
        self.outgoing.put_bytes(pool, |buffer| command::put(&[&ready], buffer));
        self.outgoing.set_sealer(sealer);
        self.decoder.open_traffic(opener, frames_max);
        self.stage = Stage::Open;
        self.liveness.on_opened(now, minor);
        Some(peer)
    }

    /// The owner does not admit the key: the peer is told so.
    pub(crate) fn refuse(&mut self, pool: &mut BufferPool) -> Ending {
        let put = |buffer: &mut Vec<u8>| command::put_error(NOT_ADMITTED, buffer);
        self.outgoing.put_bytes(pool, put);
        self.end(Ending::KeyRefused)
    }

    /// The owner did not decide in time. An ERROR would keep a libzmq away for good, though its key may be
    /// fine: nothing is said.
    pub(crate) fn give_up_admission(&mut self) -> Ending {
        self.end(Ending::AdmissionTimeout)
    }

    fn set_step(&mut self, step: CurveStep) {
        if let Stage::Curve(stage) = &mut self.stage {
            stage.step = step;
        }
    }

    fn own_properties(&self) -> Vec<u8> {
        let (socket_type, routing_id) = &self.local;
        command::properties(*socket_type, routing_id)
    }

    /// The greetings are exchanged, and both want CURVE.
    pub(super) fn begin_curve(
        &mut self,
        minor: u8,
        dialled: Option<Box<ClientHandshake>>,
        pool: &mut BufferPool,
    ) -> Result<(), Ending> {
        let frames_max = self.decoder.message_frames_max();
        let (step, command_bytes_max) = match dialled {
            None => (CurveStep::AwaitsHello, crate::curve::HELLO_BYTES),
            Some(handshake) => {
                let hello = handshake.hello().map_err(Ending::Curve)?;
                self.outgoing.put_bytes(pool, |buffer| command::put(&[&hello], buffer));
                (CurveStep::AwaitsWelcome(handshake), COMMAND_BYTES_MAX)
            }
        };
        self.decoder.allow_commands_only(command_bytes_max);
        self.stage = Stage::Curve(CurveStage { minor, frames_max, step });
        Ok(())
    }
}

/// An ERROR instead of the command that is awaited.
fn refusal(body: &[u8]) -> Result<(), Ending> {
    match Command::parse(body) {
        Ok(Command::Error { reason }) if reason == NOT_ADMITTED.as_bytes() => {
            Err(Ending::NotAdmitted)
        }
        Ok(Command::Error { reason }) => Err(Ending::peer_error(reason)),
        // Encrypted commands look like anything.
        _ => Ok(()),
    }
}

fn introduce_by(metadata: &[u8], minor: u8, key: PublicKey) -> Result<PeerIntroduction, Ending> {
    let properties = command::Properties::parse(metadata).map_err(|_| Ending::BadCommand)?;
    let mut peer = introduce(&properties, minor)?;
    peer.mechanism = Mechanism::Curve;
    peer.key = Some(key);
    Ok(peer)
}
