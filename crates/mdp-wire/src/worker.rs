//! Messages between a worker and a broker. Command bytes shift between the versions.

use crate::{
    Body, DecodeError, Defect, EncodeError, FrameSink, Position, ServiceFrame, ServiceName, Token,
    Version,
    frame::{Part, put_all, put_body, put_head},
};

/// The command of a worker message, before its layout is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Ready,
    Request,
    Partial,
    Final,
    Heartbeat,
    Disconnect,
}

impl Command {
    /// `04` is HEARTBEAT in 0.1 but FINAL in 0.2: never decode the byte without its header.
    fn decode(version: Version, frame: &[u8]) -> Result<Self, Defect> {
        Ok(match (version, frame) {
            (Version::V01 | Version::V02, [0x01]) => Self::Ready,
            (Version::V01 | Version::V02, [0x02]) => Self::Request,
            (Version::V01, [0x03]) | (Version::V02, [0x04]) => Self::Final,
            (Version::V02, [0x03]) => Self::Partial,
            (Version::V01, [0x04]) | (Version::V02, [0x05]) => Self::Heartbeat,
            (Version::V01, [0x05]) | (Version::V02, [0x06]) => Self::Disconnect,
            _ => return Err(Defect::UnknownCommand),
        })
    }

    /// The command frame; 0.1 has no PARTIAL, which [`ToBroker::encode`] refuses before.
    const fn byte(self, version: Version) -> &'static [u8] {
        match (self, version) {
            (Self::Ready, _) => &[0x01],
            (Self::Request, _) => &[0x02],
            (Self::Final, Version::V01) | (Self::Partial, _) => &[0x03],
            (Self::Final, Version::V02) | (Self::Heartbeat, Version::V01) => &[0x04],
            (Self::Heartbeat, Version::V02) | (Self::Disconnect, Version::V01) => &[0x05],
            (Self::Disconnect, Version::V02) => &[0x06],
        }
    }
}

/// The frames that open every worker message: an empty one in 0.1 only (MDP7-23).
fn put_command<F, K: FrameSink<F> + ?Sized>(
    sink: &mut K,
    version: Version,
    command: Command,
) -> Result<(), K::Error> {
    match version {
        Version::V01 => put_head(sink, &[b"", version.worker_header(), command.byte(version)]),
        Version::V02 => put_head(sink, &[version.worker_header(), command.byte(version)]),
    }
}

/// A message that is nothing but its command.
fn put_bare<F, K: FrameSink<F> + ?Sized>(
    sink: &mut K,
    version: Version,
    command: Command,
) -> Result<(), K::Error> {
    match version {
        Version::V01 => put_all(sink, &[b"", version.worker_header(), command.byte(version)]),
        Version::V02 => put_all(sink, &[version.worker_header(), command.byte(version)]),
    }
}

/// What a worker sends. `S` is the service name: [`ServiceFrame`] as received, [`ServiceName`]
/// when sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToBroker<S, F> {
    /// Registers for one service (MDP7-18, MDP18-07).
    Ready {
        /// The service offered.
        service: S,
    },
    /// A part of a reply, only in 0.2 (MDP18-09).
    Partial {
        /// The client address of the request, unchanged.
        client: F,
        /// The body, opaque.
        body: Body<F>,
    },
    /// The reply of 0.1 or the last part of 0.2 (MDP7-20, MDP18-10).
    Final {
        /// The client address of the request, unchanged.
        client: F,
        /// The body, opaque.
        body: Body<F>,
    },
    /// A REPLY of 0.1 without the empty frame behind the address, as the Guide's PHP worker sends
    /// it (AM-21). The body may have no frame.
    Undelimited {
        /// The client address of the request, unchanged.
        client: F,
        /// What follows it.
        body: Body<F>,
    },
    /// A sign of life (MDP7-21, MDP18-11).
    Heartbeat,
    /// Leaves (MDP7-22, MDP18-12).
    Disconnect,
    /// REQUEST, which only a broker may send: well-formed, known, and always out of place (AM-01).
    Request,
}

impl<F> ToBroker<ServiceName, F> {
    /// Encodes the message as a worker's DEALER sends it.
    ///
    /// # Errors
    /// PARTIAL does not exist in 0.1; else the sink's.
    pub fn encode<K: FrameSink<F> + ?Sized>(
        self,
        version: Version,
        sink: &mut K,
    ) -> Result<(), EncodeError<K::Error>> {
        let done = match self {
            Self::Ready { service } => put_command(sink, version, Command::Ready)
                .and_then(|()| sink.put(Part::Bytes(service.as_bytes()), Position::Last)),
            Self::Partial { .. } if version == Version::V01 => {
                return Err(EncodeError::PartialIn01);
            }
            Self::Partial { client, body } => {
                put_answer(sink, version, Command::Partial, client, body)
            }
            Self::Final { client, body } => put_answer(sink, version, Command::Final, client, body),
            Self::Undelimited { client, body } => put_command(sink, version, Command::Final)
                .and_then(|()| sink.put(Part::Frame(client), Position::More))
                .and_then(|()| put_body(sink, body)),
            Self::Heartbeat => put_bare(sink, version, Command::Heartbeat),
            Self::Disconnect => put_bare(sink, version, Command::Disconnect),
            Self::Request => put_bare(sink, version, Command::Request),
        };
        done.map_err(EncodeError::Sink)
    }
}

fn put_answer<F, K: FrameSink<F> + ?Sized>(
    sink: &mut K,
    version: Version,
    command: Command,
    client: F,
    body: Body<F>,
) -> Result<(), K::Error> {
    put_command(sink, version, command)?;
    sink.put(Part::Frame(client), Position::More)?;
    sink.put(Part::Bytes(b""), Position::More)?;
    put_body(sink, body)
}

impl<F: AsRef<[u8]>> ToBroker<ServiceFrame<F>, F> {
    /// Decodes the frames after the header. `at` is the index of the command frame.
    pub(crate) fn decode_at(
        frames: &mut Vec<F>,
        version: Version,
        at: usize,
    ) -> Result<Self, DecodeError> {
        let command = frames.get(at).ok_or(Defect::TooFewFrames)?;
        Ok(match Command::decode(version, command.as_ref())? {
            // AM-16: HEARTBEAT and DISCONNECT tolerate extra frames.
            Command::Heartbeat => Self::Heartbeat,
            Command::Disconnect => Self::Disconnect,
            Command::Request => Self::Request,
            Command::Ready => Self::decode_ready(frames, at)
                .map_err(|defect| DecodeError::BadReady { version, defect })?,
            Command::Partial => {
                let (client, body) = decode_answer(frames, at)?;
                Self::Partial { client, body }
            }
            Command::Final if version == Version::V01 && !is_delimited(frames, at) => {
                let mut rest = frames.drain(at.saturating_add(1)..);
                let client = rest.next().ok_or(Defect::TooFewFrames)?;
                Self::Undelimited { client, body: rest.collect() }
            }
            Command::Final => {
                let (client, body) = decode_answer(frames, at)?;
                Self::Final { client, body }
            }
        })
    }

    /// READY is exact (AM-16).
    fn decode_ready(frames: &mut Vec<F>, at: usize) -> Result<Self, Defect> {
        let mut rest = frames.drain(at.saturating_add(1)..);
        let service = ServiceFrame::try_new(rest.next().ok_or(Defect::TooFewFrames)?)?;
        match rest.next() {
            None => Ok(Self::Ready { service }),
            Some(_) => Err(Defect::TooManyFrames),
        }
    }
}

/// Whether an empty frame and something more follow the client address. Of an address and one
/// empty frame, that one may be the delimiter or the body: either way the body is empty.
fn is_delimited<F: AsRef<[u8]>>(frames: &[F], at: usize) -> bool {
    let delimiter = frames.get(at.saturating_add(2));
    delimiter.is_some_and(|frame| frame.as_ref().is_empty()) && frames.len() > at.saturating_add(3)
}

/// As [`decode_addressed`]; an answer that cannot be read still names its request (AM-21).
fn decode_answer<F: AsRef<[u8]>>(
    frames: &mut Vec<F>,
    at: usize,
) -> Result<(F, Body<F>), DecodeError> {
    let address = frames.get(at.saturating_add(1)).and_then(|f| Token::from_frame(f.as_ref()));
    decode_addressed(frames, at).map_err(|defect| bad_answer(address, defect))
}

fn bad_answer(address: Option<Token>, defect: Defect) -> DecodeError {
    match address {
        Some(address) => DecodeError::BadAnswer { address, defect },
        None => DecodeError::Malformed(defect),
    }
}

/// What is said about a message beyond the limits, of which only the first frames are there.
pub(crate) fn beyond_limits<F: AsRef<[u8]>>(frames: &[F], defect: Defect) -> DecodeError {
    let frame = |index: usize| frames.get(index).map(AsRef::as_ref);
    let (version, at) = match frame(0) {
        Some(b"") if frame(1) == Some(Version::V01.worker_header()) => (Version::V01, 2),
        Some(first) if first == Version::V02.worker_header() => (Version::V02, 1),
        Some(_) | None => return DecodeError::Malformed(defect),
    };
    match frame(at).map(|command| Command::decode(version, command)) {
        Some(Ok(Command::Final | Command::Partial)) => {
            bad_answer(frame(at + 1).and_then(Token::from_frame), defect)
        }
        Some(_) | None => DecodeError::Malformed(defect),
    }
}

/// Client address, empty frame, body (MDP7-38, MDP7-39, MDP18-14).
fn decode_addressed<F: AsRef<[u8]>>(
    frames: &mut Vec<F>,
    at: usize,
) -> Result<(F, Body<F>), Defect> {
    if frames.len() < at.saturating_add(4) {
        return Err(Defect::TooFewFrames);
    }
    let mut rest = frames.drain(at.saturating_add(1)..);
    let client = rest.next().ok_or(Defect::TooFewFrames)?;
    let delimiter = rest.next().ok_or(Defect::TooFewFrames)?;
    if !delimiter.as_ref().is_empty() {
        return Err(Defect::NoAddressDelimiter);
    }
    Ok((client, rest.collect()))
}

/// What a broker sends to a worker. `A` is the client address: a [`Token`] when
/// sending, a frame as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromBroker<A, F> {
    /// Work (MDP7-19, MDP18-08).
    Request {
        /// The client address, to be given back unchanged with the reply.
        client: A,
        /// The body, opaque.
        body: Body<F>,
    },
    /// A sign of life.
    Heartbeat,
    /// The registration is over; the worker closes its socket (MDP7-36, MDP7-37).
    Disconnect,
}

impl<A: AsRef<[u8]>, F> FromBroker<A, F> {
    /// Encodes the message as the broker sends it.
    ///
    /// # Errors
    /// The sink's.
    pub fn encode<K: FrameSink<F> + ?Sized>(
        self,
        version: Version,
        sink: &mut K,
    ) -> Result<(), K::Error> {
        match self {
            Self::Request { client, body } => {
                put_command(sink, version, Command::Request)?;
                put_head(sink, &[client.as_ref(), b""])?;
                put_body(sink, body)
            }
            Self::Heartbeat => put_bare(sink, version, Command::Heartbeat),
            Self::Disconnect => put_bare(sink, version, Command::Disconnect),
        }
    }
}

impl<F: AsRef<[u8]>> FromBroker<F, F> {
    /// Decodes what a worker's DEALER received, with the version of the header. The frames are
    /// moved out; the vector is left empty, with its capacity.
    ///
    /// # Errors
    /// The message is not a command that a broker may send to a worker.
    pub fn decode(frames: &mut Vec<F>) -> Result<(Version, Self), Defect> {
        let decoded = Self::decode_frames(frames);
        frames.clear();
        decoded
    }

    fn decode_frames(frames: &mut Vec<F>) -> Result<(Version, Self), Defect> {
        let first = frames.first().ok_or(Defect::TooFewFrames)?.as_ref();
        let (version, at) = if first == Version::V02.worker_header() {
            (Version::V02, 1)
        } else if first.is_empty() {
            let header = frames.get(1).ok_or(Defect::TooFewFrames)?;
            if header.as_ref() != Version::V01.worker_header() {
                return Err(Defect::UnknownHeader);
            }
            (Version::V01, 2)
        } else {
            return Err(Defect::UnknownHeader);
        };
        let command = frames.get(at).ok_or(Defect::TooFewFrames)?;
        let message = match Command::decode(version, command.as_ref())? {
            Command::Heartbeat => Self::Heartbeat,
            Command::Disconnect => Self::Disconnect,
            Command::Request => {
                let (client, body) = decode_addressed(frames, at)?;
                Self::Request { client, body }
            }
            Command::Ready | Command::Partial | Command::Final => {
                return Err(Defect::UnknownCommand);
            }
        };
        Ok((version, message))
    }
}
