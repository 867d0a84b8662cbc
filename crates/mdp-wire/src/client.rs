//! Messages between a client and a broker.

use crate::{
    Body, Defect, FrameSink, Position, ServiceFrame, ServiceName, Version,
    frame::{Part, put_body, put_head},
};

const REQUEST_02: u8 = 0x01;
const PARTIAL_02: u8 = 0x02;
const FINAL_02: u8 = 0x03;

/// REQUEST: a client asks a service (MDP7-09, MDP18-01).
///
/// `S` is the service name: [`ServiceFrame`] as received, [`ServiceName`] when sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<S, F> {
    /// The client's version; every reply to this request is in it (AM-17).
    pub version: Version,
    /// Frames before the empty delimiter, given back in front of every reply (AM-12). Empty for
    /// plain REQ and DEALER clients, and always in 0.2.
    pub envelope: Vec<F>,
    /// The service asked for.
    pub service: S,
    /// The body, opaque.
    pub body: Body<F>,
}

impl<F> Request<ServiceName, F> {
    /// Encodes the message as a DEALER sends it.
    ///
    /// # Errors
    /// The sink's.
    pub fn encode<K: FrameSink<F> + ?Sized>(self, sink: &mut K) -> Result<(), K::Error> {
        for frame in self.envelope {
            sink.put(Part::Frame(frame), Position::More)?;
        }
        let (header, service) = (self.version.client_header(), self.service.as_bytes());
        match self.version {
            Version::V01 => put_head(sink, &[b"", header, service])?,
            Version::V02 => put_head(sink, &[header, &[REQUEST_02], service])?,
        }
        put_body(sink, self.body)
    }
}

/// Which reply this is, in which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyCommand {
    /// 7/MDP: the one reply (MDP7-10).
    Reply,
    /// 18/MDP: more replies follow (MDP18-02).
    Partial,
    /// 18/MDP: the last reply (MDP18-03).
    Final,
}

impl ReplyCommand {
    /// The command that ends a request in this version.
    #[must_use]
    pub const fn last(version: Version) -> Self {
        match version {
            Version::V01 => Self::Reply,
            Version::V02 => Self::Final,
        }
    }
}

/// A reply to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<S, F> {
    /// Which reply, in which version.
    pub command: ReplyCommand,
    /// The envelope of the request.
    pub envelope: Vec<F>,
    /// The service of the request, byte for byte.
    pub service: S,
    /// The body, opaque.
    pub body: Body<F>,
}

impl<S: AsRef<[u8]>, F> Reply<S, F> {
    /// Encodes the message as the broker sends it.
    ///
    /// # Errors
    /// The sink's.
    pub fn encode<K: FrameSink<F> + ?Sized>(self, sink: &mut K) -> Result<(), K::Error> {
        for frame in self.envelope {
            sink.put(Part::Frame(frame), Position::More)?;
        }
        let service = self.service.as_ref();
        match self.command {
            ReplyCommand::Reply => put_head(sink, &[b"", b"MDPC01", service])?,
            ReplyCommand::Partial => put_head(sink, &[b"MDPC02", &[PARTIAL_02], service])?,
            ReplyCommand::Final => put_head(sink, &[b"MDPC02", &[FINAL_02], service])?,
        }
        put_body(sink, self.body)
    }
}

impl<F: AsRef<[u8]>> Reply<ServiceFrame<F>, F> {
    /// Decodes what a DEALER client received. A 0.1 reply may carry an envelope. The frames are
    /// moved out; the vector is left empty, with its capacity.
    ///
    /// # Errors
    /// The message is not a reply of either version.
    pub fn decode(frames: &mut Vec<F>) -> Result<Self, Defect> {
        let decoded = Self::decode_frames(frames);
        frames.clear();
        decoded
    }

    fn decode_frames(frames: &mut Vec<F>) -> Result<Self, Defect> {
        let first = frames.first().ok_or(Defect::TooFewFrames)?;
        let is_v02 = first.as_ref() == Version::V02.client_header();
        let (envelope, command) = if is_v02 {
            let command = match frames.get(1).ok_or(Defect::TooFewFrames)?.as_ref() {
                [PARTIAL_02] => ReplyCommand::Partial,
                [FINAL_02] => ReplyCommand::Final,
                _ => return Err(Defect::UnknownCommand),
            };
            drop(frames.drain(..2));
            (Vec::new(), command)
        } else {
            let empty = frames.iter().position(|frame| frame.as_ref().is_empty());
            let empty = empty.ok_or(Defect::NoDelimiter)?;
            let header = frames.get(empty + 1).ok_or(Defect::TooFewFrames)?;
            if header.as_ref() != Version::V01.client_header() {
                return Err(Defect::UnknownHeader);
            }
            let envelope = frames.drain(..empty).collect();
            drop(frames.drain(..2));
            (envelope, ReplyCommand::Reply)
        };
        let mut rest = frames.drain(..);
        let service = ServiceFrame::try_new(rest.next().ok_or(Defect::TooFewFrames)?)?;
        let body: Body<F> = rest.collect();
        if body.is_empty() {
            return Err(Defect::TooFewFrames);
        }
        Ok(Self { command, envelope, service, body })
    }
}

/// Decodes the frames of a 0.1 request from the service name on. `at` is its index.
pub(crate) fn request_at<F: AsRef<[u8]>>(
    frames: &mut Vec<F>,
    version: Version,
    at: usize,
) -> Result<Request<ServiceFrame<F>, F>, Defect> {
    // Service and at least one body frame (MDP7-09, MDP18-01; AM-02).
    if frames.len() < at.saturating_add(2) {
        return Err(Defect::TooFewFrames);
    }
    let envelope: Vec<F> = match version {
        Version::V01 => frames.drain(..at.saturating_sub(2)).collect(),
        Version::V02 => Vec::new(),
    };
    let mut rest = frames.drain(2..);
    let service = ServiceFrame::try_new(rest.next().ok_or(Defect::TooFewFrames)?)?;
    Ok(Request { version, envelope, service, body: rest.collect() })
}

/// Whether a command frame is the only one that a 0.2 client may send.
pub(crate) fn is_request_02(command: &[u8]) -> bool {
    command == [REQUEST_02]
}
