//! [`Connection`]: greeting, handshake, traffic and liveness of one connection.

mod curve;
mod ending;
mod liveness;

use std::time::Instant;

use mdp_mutants::{Mutant, is_on};

use self::{curve::CurveStage, liveness::Liveness};
use crate::{
    BufferPool, ConnectionLimits, Decoded, Decoder, Flow, GREETING_BYTES, Mechanism, Message,
    MessageWriter, OutputSlices, PublicKey, ROUTING_ID_BYTES_MAX, SocketType,
    command::{self, Command, Properties},
    curve::{ClientHandshake, CurveError},
    greeting::{self, FIRST_BYTES, Progress},
    outgoing::Outgoing,
};
pub use ending::Ending;

/// How many PONGs wait for a peer that does not read; its further PINGs are not answered until it
/// does.
const PONGS_WAITING_MAX: usize = 16;

/// A peer that reads is behind by no more than this.
const PONGS_BEHIND_BYTES_MAX: usize = 64 * 1024;

/// Which side of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer connected to this one.
    Accepting,
    /// This one connected to the peer.
    Dialling,
}

/// What kind of socket this side is, and the routing id that it asks the peer to use for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSocket<'a> {
    /// Which kind.
    pub socket_type: SocketType,
    /// At most [`ROUTING_ID_BYTES_MAX`] bytes; usually none.
    pub routing_id: &'a [u8],
}

/// Everything that a new connection is told.
#[derive(Clone, Copy, Debug)]
pub struct Introduction<'a> {
    /// Who connected to whom.
    pub side: Side,
    /// This side's socket.
    pub local: LocalSocket<'a>,
    /// What the peer may take.
    pub limits: ConnectionLimits,
}

/// What a peer said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIntroduction {
    /// Its kind of socket.
    pub socket_type: SocketType,
    /// The routing id that it claims; empty if it claims none. It means nothing here.
    pub routing_id: Box<[u8]>,
    /// The minor version of ZMTP 3 that is spoken: 0 or 1.
    pub minor: u8,
    /// The mechanism that both agreed on.
    pub mechanism: Mechanism,
    /// The public key that it has shown to own; only CURVE has keys.
    pub key: Option<PublicKey>,
}

/// Which mechanisms a new connection may have.
#[derive(Debug)]
pub(crate) enum MechanismChoice {
    /// The peer chooses among those that are allowed.
    Accepting { null: bool, curve: bool },
    /// This side chooses: NULL.
    DialNull,
    /// CURVE, with the keys for it.
    DialCurve(Box<ClientHandshake>),
}

impl MechanismChoice {
    /// What is answered to a peer that asks for a mechanism.
    const fn answer(&self, asked: Option<Mechanism>) -> Mechanism {
        match (self, asked) {
            (Self::Accepting { curve: true, .. }, Some(Mechanism::Curve))
            | (Self::Accepting { null: false, curve: true }, _)
            | (Self::DialCurve(_), _) => Mechanism::Curve,
            (Self::Accepting { .. } | Self::DialNull, _) => Mechanism::Null,
        }
    }

    /// Whether the peer's mechanism is one that this side speaks.
    fn is_allowed(&self, asked: Option<Mechanism>) -> bool {
        let is_spoken = !matches!(self, Self::Accepting { null: false, curve: false });
        is_spoken && asked == Some(self.answer(asked))
    }
}

/// What happened on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is complete; messages may follow.
    Opened(PeerIntroduction),
    /// A whole message.
    Message(Message),
}

/// One connection. `T` names messages that leave, for the case that they do not
/// ([`Connection::into_unsent`]).
#[derive(Debug)]
pub struct Connection<T> {
    side: Side,
    local: (SocketType, Box<[u8]>),
    stage: Stage,
    /// The bytes of the handshake so far, and how many there may be.
    handshake_bytes: usize,
    handshake_bytes_max: usize,
    decoder: Decoder,
    outgoing: Outgoing<T>,
    pongs_waiting: usize,
    liveness: Liveness,
    /// Where the first PING since the peer was heard ends in what leaves; zero: there is none.
    ping_end: u64,
}

#[derive(Debug)]
enum Stage {
    /// The peer's greeting is not complete.
    Greeting {
        bytes: [u8; GREETING_BYTES],
        come: usize,
        is_answered: bool,
        choice: MechanismChoice,
    },
    /// The greetings are exchanged; the peer's READY is awaited.
    Handshake {
        minor: u8,
    },
    /// The greetings are exchanged; CURVE's handshake goes on.
    Curve(CurveStage),
    Open,
    Ended,
}

impl<T> Connection<T> {
    /// A connection that was just made, without encryption (NULL). Its first bytes wait to be written at
    /// once.
    #[must_use]
    pub fn new(now: Instant, introduction: &Introduction<'_>, pool: &mut BufferPool) -> Self {
        let choice = match introduction.side {
            Side::Accepting => MechanismChoice::Accepting { null: true, curve: false },
            Side::Dialling => MechanismChoice::DialNull,
        };
        Self::with_choice(now, introduction, choice, pool)
    }

    /// The same, with other mechanisms.
    pub(crate) fn with_choice(
        now: Instant,
        introduction: &Introduction<'_>,
        choice: MechanismChoice,
        pool: &mut BufferPool,
    ) -> Self {
        let Introduction { side, local, limits } = *introduction;
        let routing_id = local.routing_id.get(..ROUTING_ID_BYTES_MAX).unwrap_or(local.routing_id);
        let mut outgoing = Outgoing::new();
        let greeting = greeting::encode(choice.answer(None), false);
        let first = match side {
            Side::Accepting => greeting.get(..FIRST_BYTES).unwrap_or_default(),
            Side::Dialling => greeting.as_slice(),
        };
        outgoing.put_bytes(pool, |buffer| buffer.extend_from_slice(first));
        Self {
            side,
            local: (local.socket_type, routing_id.into()),
            stage: Stage::Greeting {
                bytes: [0; GREETING_BYTES],
                come: 0,
                is_answered: side == Side::Dialling,
                choice,
            },
            handshake_bytes: 0,
            handshake_bytes_max: limits.handshake_bytes_max,
            decoder: Decoder::new(&limits),
            outgoing,
            pongs_waiting: 0,
            liveness: Liveness::new(now, &limits),
            ping_end: 0,
        }
    }

    /// Takes bytes that were read, hands out what they complete, and returns how many were taken: all
    /// of them, unless `take` says to stop.
    ///
    /// # Errors
    /// The connection ended. Nothing may be given to it any more; what waits to be written tells the
    /// peer, if there is anything to tell.
    pub fn received(
        &mut self,
        now: Instant,
        input: &[u8],
        pool: &mut BufferPool,
        mut take: impl FnMut(Event) -> Flow,
    ) -> Result<usize, Ending> {
        if !input.is_empty() {
            self.liveness.on_received(now);
            self.ping_end = 0;
        }
        let mut at = 0;
        while at < input.len() {
            let rest = input.get(at..).unwrap_or_default();
            match &self.stage {
                Stage::Greeting { .. } => at += self.on_greeting_bytes(rest, pool)?,
                Stage::Handshake { minor } => {
                    let outcome = self.on_handshake_bytes(now, *minor, rest, &mut take);
                    if outcome == Err(Ending::SocketType) {
                        self.refuse_socket_type(pool);
                    }
                    let (count, flow) = outcome?;
                    at += count;
                    if flow == Flow::Stop {
                        break;
                    }
                }
                Stage::Curve(_) => {
                    let outcome = self.on_curve_bytes(now, rest, pool, &mut take);
                    if outcome == Err(Ending::SocketType) {
                        self.refuse_socket_type(pool);
                    }
                    let (count, flow) = outcome.map_err(|ending| self.end(ending))?;
                    at += count;
                    if flow == Flow::Stop {
                        break;
                    }
                }
                Stage::Open => {
                    let outcome = self.on_traffic(now, rest, pool, &mut take);
                    return outcome.map(|count| at + count).map_err(|ending| self.end(ending));
                }
                Stage::Ended => return Err(Ending::AlreadyEnded),
            }
        }
        Ok(at)
    }

    /// Only after an ERROR does a libzmq not come back with the same socket.
    fn refuse_socket_type(&mut self, pool: &mut BufferPool) {
        let put = |buffer: &mut Vec<u8>| command::put_error("Invalid socket type", buffer);
        self.outgoing.put_bytes(pool, put);
    }

    fn on_greeting_bytes(&mut self, rest: &[u8], pool: &mut BufferPool) -> Result<usize, Ending> {
        let Stage::Greeting { bytes, come, is_answered, choice } = &mut self.stage else {
            return Ok(0);
        };
        let empty = bytes.get_mut(*come..).unwrap_or_default();
        let count = empty.len().min(rest.len());
        empty.iter_mut().zip(rest).for_each(|(byte, new)| *byte = *new);
        *come += count;
        let progress = greeting::parse(bytes.get(..*come).unwrap_or_default());
        if let Progress::Refused(refused) = progress {
            return Err(self.end(Ending::NotZmtp3(refused)));
        }
        if progress != Progress::Incomplete && !*is_answered {
            *is_answered = true;
            // Whatever it asks for, it gets the whole greeting: only that tells a libzmq whose
            // mechanism is another one not to come back.
            let asked = match progress {
                Progress::MechanismKnown(mechanism) => mechanism,
                Progress::Complete(peer) => peer.mechanism,
                Progress::Incomplete | Progress::Refused(_) => None,
            };
            let answer = choice.answer(asked);
            let greeting = greeting::encode(answer, answer == Mechanism::Curve);
            let later = greeting.get(FIRST_BYTES..).unwrap_or_default();
            self.outgoing.put_bytes(pool, |buffer| buffer.extend_from_slice(later));
        }
        if let Progress::Complete(peer) = progress {
            if !choice.is_allowed(peer.mechanism) {
                return Err(self.end(Ending::Mechanism(peer.mechanism)));
            }
            if peer.mechanism == Some(Mechanism::Curve) {
                let none = MechanismChoice::DialNull;
                let dialled = match std::mem::replace(choice, none) {
                    MechanismChoice::DialCurve(handshake) => Some(handshake),
                    MechanismChoice::Accepting { .. } | MechanismChoice::DialNull => None,
                };
                let begun = self.begin_curve(peer.minor, dialled, pool);
                return begun.map(|()| count).map_err(|ending| self.end(ending));
            }
            let (socket_type, routing_id) = &self.local;
            self.outgoing.put_bytes(pool, |buffer| {
                command::put_ready(*socket_type, routing_id, buffer);
            });
            self.stage = Stage::Handshake { minor: peer.minor };
        }
        Ok(count)
    }

    /// Reads up to the peer's READY, which may not stand between the frames of a message.
    fn on_handshake_bytes(
        &mut self,
        now: Instant,
        minor: u8,
        rest: &[u8],
        take: &mut impl FnMut(Event) -> Flow,
    ) -> Result<(usize, Flow), Ending> {
        // What follows the READY does not count.
        let left = self.handshake_bytes_max - self.handshake_bytes;
        let allowed = rest.get(..left).unwrap_or(rest);
        let mut outcome = None;
        let read = self.decoder.decode(allowed, |decoded| {
            outcome = Some(introduction(&decoded, minor));
            Flow::Stop
        });
        let count = read.map_err(|error| self.end(Ending::Stream(error)))?;
        self.handshake_bytes += count;
        if outcome.is_some() && self.decoder.is_inside_message() {
            return Err(self.end(Ending::MessageBeforeReady));
        }
        match outcome {
            Some(Ok(peer)) => {
                self.stage = Stage::Open;
                self.liveness.on_opened(now, minor);
                Ok((count, take(Event::Opened(peer))))
            }
            Some(Err(ending)) => Err(self.end(ending)),
            None if self.handshake_bytes >= self.handshake_bytes_max => {
                let max = self.handshake_bytes_max;
                Err(self.end(Ending::HandshakeTooLong { max }))
            }
            None => Ok((count, Flow::Continue)),
        }
    }

    fn on_traffic(
        &mut self,
        now: Instant,
        rest: &[u8],
        pool: &mut BufferPool,
        take: &mut impl FnMut(Event) -> Flow,
    ) -> Result<usize, Ending> {
        let Self { decoder, outgoing, liveness, pongs_waiting, .. } = self;
        let mut ending = None;
        let read = decoder.decode(rest, |decoded| {
            let body = match decoded {
                Decoded::Message(message) => return take(Event::Message(message)),
                Decoded::Command(body) => body,
            };
            match Command::parse(body) {
                Ok(Command::Ping { ttl_deciseconds, context }) => {
                    liveness.on_ping(now, ttl_deciseconds);
                    if *pongs_waiting < PONGS_WAITING_MAX {
                        *pongs_waiting += 1;
                        command::pong(context, |parts| outgoing.put_command(pool, parts));
                    }
                }
                Ok(Command::Pong) => liveness.on_pong(),
                Ok(Command::Error { reason }) => ending = Some(Ending::peer_error(reason)),
                // libzmq ignores what it does not know, and so did brokers before this one.
                Ok(Command::Ready(_) | Command::Other) => {}
                Err(command::BadCommand) => ending = Some(Ending::BadCommand),
            }
            if ending.is_some() { Flow::Stop } else { Flow::Continue }
        });
        match ending {
            Some(ending) => Err(ending),
            None => read.map_err(Ending::Stream),
        }
    }

    /// A writer for the frames of one message. The tag comes back by
    /// [`into_unsent`](Self::into_unsent) if no byte of the message reaches the kernel.
    pub fn message<'a>(
        &'a mut self,
        tag: Option<T>,
        pool: &'a mut BufferPool,
    ) -> MessageWriter<'a, T> {
        self.outgoing.message(tag, pool)
    }

    /// What is to be written next; empty if nothing waits.
    #[must_use]
    pub fn output(&self) -> OutputSlices<'_> {
        self.outgoing.slices()
    }

    /// How many bytes wait to be written.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.outgoing.bytes()
    }

    /// How many messages wait of which no byte was written.
    #[must_use]
    pub fn output_messages(&self) -> usize {
        self.outgoing.messages()
    }

    /// How many bytes wait in front of the newest message; none if a part of that was written.
    #[must_use]
    pub fn bytes_before_newest(&self) -> usize {
        self.outgoing.bytes_before_newest()
    }

    /// How many bytes are allocated for a message that is not complete.
    #[must_use]
    pub fn input_bytes(&self) -> usize {
        self.decoder.buffered_bytes()
    }

    /// The kernel took this many bytes of the output. If a PING was among them, its answer is due from
    /// now on: a large message may have been in front of it, on a slow line.
    pub fn transmitted(&mut self, now: Instant, count: usize, pool: &mut BufferPool) {
        let start = self.outgoing.start();
        self.outgoing.transmitted(count, pool);
        if start < self.ping_end && self.ping_end <= self.outgoing.start() {
            self.liveness.on_ping_written(now);
        }
        if self.outgoing.bytes() <= PONGS_BEHIND_BYTES_MAX {
            self.pongs_waiting = 0;
        }
    }

    /// Whether messages may be exchanged.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// From now on messages may have at most this number of bytes, the one at hand included.
    pub const fn set_message_bytes_max(&mut self, bytes: usize) {
        self.decoder.set_message_bytes_max(bytes);
    }

    /// Whether a peer that stops answering PINGs ends the connection. It does by default, if it has
    /// answered one before.
    pub const fn set_pong_required(&mut self, is_required: bool) {
        // The next PING is the first one that counts.
        self.ping_end = 0;
        self.liveness.set_pong_required(is_required);
    }

    /// This process stood still: the peer gets the time anew that it may be silent, and is asked at once.
    pub fn rearm(&mut self, now: Instant) {
        self.ping_end = 0;
        self.liveness.rearm(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do, at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Ended => None,
            Stage::Greeting { .. } | Stage::Handshake { .. } | Stage::Curve(_) | Stage::Open => {
                self.liveness.poll_timeout()
            }
        }
    }

    /// Does what is due: asks a silent peer for a sign of life, or ends the connection.
    ///
    /// # Errors
    /// The connection ended, as in [`received`](Self::received).
    pub fn handle_timeout(&mut self, now: Instant, pool: &mut BufferPool) -> Result<(), Ending> {
        if matches!(self.stage, Stage::Ended) {
            return Ok(());
        }
        if self.outgoing.is_exhausted() {
            return Err(self.end(Ending::Curve(CurveError::NoncesExhausted)));
        }
        match self.liveness.handle_timeout(now) {
            Ok(ping) => {
                self.send_ping(ping, pool);
                Ok(())
            }
            Err(ending) => Err(self.end(ending)),
        }
    }

    /// Sends the PING that is due if this side promised to say something, and ends nothing: what the peer has
    /// said is not all read yet.
    pub fn keep_promise(&mut self, now: Instant, pool: &mut BufferPool) {
        let ping = self.liveness.poll_promised_ping(now);
        self.send_ping(ping, pool);
    }

    fn send_ping(&mut self, ping: Option<liveness::SendPing>, pool: &mut BufferPool) {
        let Some(liveness::SendPing { ttl_deciseconds }) = ping else { return };
        command::ping(ttl_deciseconds, |parts| self.outgoing.put_command(pool, parts));
        if self.ping_end == 0 {
            self.ping_end = self.outgoing.end();
        }
    }

    /// Who connected to whom.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// The tags of the messages of which no byte reached the kernel, in the order in which they were
    /// put in.
    pub fn into_unsent(self) -> impl Iterator<Item = T> {
        self.outgoing.into_unsent()
    }

    fn end(&mut self, ending: Ending) -> Ending {
        self.stage = Stage::Ended;
        ending
    }
}

/// What the first command or message of a peer means.
fn introduction(decoded: &Decoded<'_>, minor: u8) -> Result<PeerIntroduction, Ending> {
    let body = match decoded {
        Decoded::Command(body) => body,
        Decoded::Message(_) if is_on(Mutant::MessageBeforeReadyTaken) => {
            &b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER"[..]
        }
        Decoded::Message(_) => return Err(Ending::MessageBeforeReady),
    };
    match Command::parse(body) {
        Ok(Command::Ready(properties)) => introduce(&properties, minor),
        Ok(Command::Error { reason }) => Err(Ending::peer_error(reason)),
        Ok(Command::Ping { .. } | Command::Pong | Command::Other) | Err(command::BadCommand) => {
            Err(Ending::BadCommand)
        }
    }
}

/// What a peer says of itself, if it may.
fn introduce(properties: &Properties<'_>, minor: u8) -> Result<PeerIntroduction, Ending> {
    let Properties { socket_type, routing_id } = *properties;
    let socket_type = socket_type.ok_or(Ending::SocketType)?;
    if routing_id.len() > ROUTING_ID_BYTES_MAX {
        return Err(Ending::RoutingIdTooLong { bytes: routing_id.len() });
    }
    let (mechanism, routing_id) = (Mechanism::Null, routing_id.into());
    Ok(PeerIntroduction { socket_type, routing_id, minor, mechanism, key: None })
}

#[cfg(test)]
mod tests;
