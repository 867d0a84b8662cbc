//! Frames written as bytes, and short forms of the decoders.

use mdp_wire::{
    AtBroker, DecodeError, DecodeLimits, Defect, ServiceFrame, ServiceName, Version,
    client::Reply,
    decode_at_broker,
    worker::{FromBroker, ToBroker},
};

/// Frames as a DEALER application sees them.
pub(crate) type Frames = Vec<Vec<u8>>;

/// A service name as received.
pub(crate) type NameFrame = ServiceFrame<Vec<u8>>;

/// What the broker's decoder says.
pub(crate) type Decoded = Result<AtBroker<Vec<u8>>, DecodeError>;

/// A command to a worker, as received.
pub(crate) type ToWorker = FromBroker<Vec<u8>, Vec<u8>>;

pub(crate) fn frames(bytes: &[&[u8]]) -> Frames {
    bytes.iter().map(|frame| frame.to_vec()).collect()
}

pub(crate) fn name_frame(name: &str) -> NameFrame {
    ServiceFrame::try_new(name.as_bytes().to_vec()).unwrap()
}

pub(crate) fn name(name: &str) -> ServiceName {
    ServiceName::try_from(name).unwrap()
}

/// Decodes with the given limits; whatever comes out, the vector must be left empty.
pub(crate) fn decode_within(mut frames: Frames, limits: &DecodeLimits) -> Decoded {
    let decoded = decode_at_broker(&mut frames, limits);
    assert!(frames.is_empty(), "the vector is left empty");
    decoded
}

pub(crate) fn decode(frames: Frames) -> Decoded {
    decode_within(frames, &DecodeLimits::default())
}

pub(crate) fn decode_reply(mut frames: Frames) -> Result<Reply<NameFrame, Vec<u8>>, Defect> {
    let decoded = Reply::decode(&mut frames);
    assert!(frames.is_empty(), "the vector is left empty");
    decoded
}

pub(crate) fn decode_from_broker(mut frames: Frames) -> Result<(Version, ToWorker), Defect> {
    let decoded = FromBroker::decode(&mut frames);
    assert!(frames.is_empty(), "the vector is left empty");
    decoded
}

pub(crate) fn from_worker(
    version: Version,
    message: ToBroker<NameFrame, Vec<u8>>,
) -> AtBroker<Vec<u8>> {
    AtBroker::Worker { version, message }
}

pub(crate) fn malformed(defect: Defect) -> Decoded {
    Err(DecodeError::Malformed(defect))
}

pub(crate) fn bad_ready(version: Version, defect: Defect) -> Decoded {
    Err(DecodeError::BadReady { version, defect })
}

/// How many random cases to run: `MAJORDOMO_CASES`, else ten thousand.
pub(crate) fn case_count() -> u32 {
    u32::try_from(number("MAJORDOMO_CASES", 10_000)).unwrap()
}

/// What the cases are made of: `MAJORDOMO_SEED`, else always the same.
pub(crate) fn seed() -> u64 {
    number("MAJORDOMO_SEED", 1)
}

fn number(name: &str, default: u64) -> u64 {
    let asked = std::env::var(name).ok();
    asked.map_or(default, |number| number.parse().expect("a number"))
}
