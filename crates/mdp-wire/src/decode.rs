//! One decoder for everything that the broker's ROUTER can receive.

use crate::{
    DecodeError, Defect, ServiceFrame, Version,
    client::{self, Request},
    worker::{self, ToBroker},
};

/// A message from a peer, as the broker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtBroker<F> {
    /// A client's request.
    Client(Request<ServiceFrame<F>, F>),
    /// A worker's command.
    Worker {
        /// The version of its header.
        version: Version,
        /// The command.
        message: ToBroker<ServiceFrame<F>, F>,
    },
}

/// What one message may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Frames of a message, the routing id not counted. The RFCs set no limit.
    pub frames_max: usize,
    /// The sum of a message's frames in bytes; libzmq's own limit holds for one frame only.
    pub message_bytes_max: usize,
    /// Frames before the empty delimiter. REQ_CORRELATE needs one; proxies add one each.
    pub envelope_frames_max: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { frames_max: 1_024, message_bytes_max: 16 << 20, envelope_frames_max: 8 }
    }
}

/// Decodes one message, the routing id taken off. The frames are moved out; the vector is left
/// empty, with its capacity, so that the caller can fill it again without an allocation.
///
/// # Errors
/// The message is neither a client's nor a worker's, in neither version.
pub fn decode_at_broker<F: AsRef<[u8]>>(
    frames: &mut Vec<F>,
    limits: &DecodeLimits,
) -> Result<AtBroker<F>, DecodeError> {
    let decoded = decode(frames, limits);
    frames.clear();
    decoded
}

fn decode<F: AsRef<[u8]>>(
    frames: &mut Vec<F>,
    limits: &DecodeLimits,
) -> Result<AtBroker<F>, DecodeError> {
    if frames.len() > limits.frames_max {
        return Err(worker::beyond_limits(frames, Defect::TooManyFrames));
    }
    let bytes = frames.iter().fold(0_usize, |sum, f| sum.saturating_add(f.as_ref().len()));
    if bytes > limits.message_bytes_max {
        return Err(worker::beyond_limits(frames, Defect::TooLarge));
    }
    let first = frames.first().ok_or(Defect::TooFewFrames)?.as_ref();
    if first == Version::V02.client_header() {
        let command = frames.get(1).ok_or(Defect::TooFewFrames)?;
        if !client::is_request_02(command.as_ref()) {
            return Err(Defect::UnknownCommand.into());
        }
        return Ok(AtBroker::Client(client::request_at(frames, Version::V02, 2)?));
    }
    if first == Version::V02.worker_header() {
        let message = ToBroker::decode_at(frames, Version::V02, 1)?;
        return Ok(AtBroker::Worker { version: Version::V02, message });
    }
    decode_v01(frames, limits)
}

/// 0.1 has an empty frame in front of the header, and envelope frames in front of that.
fn decode_v01<F: AsRef<[u8]>>(
    frames: &mut Vec<F>,
    limits: &DecodeLimits,
) -> Result<AtBroker<F>, DecodeError> {
    let searched = frames.iter().take(limits.envelope_frames_max.saturating_add(1));
    let empty = searched.enumerate().find(|(_, frame)| frame.as_ref().is_empty());
    let (empty, _) = empty.ok_or(Defect::NoDelimiter)?;
    let header = frames.get(empty + 1).ok_or(Defect::TooFewFrames)?.as_ref();
    if header == Version::V01.client_header() {
        return Ok(AtBroker::Client(client::request_at(frames, Version::V01, empty + 2)?));
    }
    if header != Version::V01.worker_header() {
        return Err(Defect::UnknownHeader.into());
    }
    if empty != 0 {
        return Err(Defect::WorkerEnvelope.into());
    }
    let message = ToBroker::decode_at(frames, Version::V01, 2)?;
    Ok(AtBroker::Worker { version: Version::V01, message })
}
