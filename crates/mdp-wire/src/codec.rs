//! The encoding of everything that nodes store or tell each other: a header, then bincode.
//!
//! Every encoded thing begins with its kind (one byte) and its format number (two bytes, little
//! endian), so that a reader knows what it has before it reads on. Formats are closed: a field or a
//! variant is never added to one that was released, a new format number is. What is written to disk
//! is also sealed with a CRC-32 at its end.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// The most bytes that one decoded thing may claim: a forged length cannot make a node allocate.
pub const DECODED_BYTES_MAX: usize = 256 << 20;

/// The bytes of kind and format number.
const HEADER_BYTES: usize = 3;

/// The bytes of the seal.
const SEAL_BYTES: usize = 4;

/// What an encoded thing is. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// An entry of the replicated catalog.
    CatalogEntry = 1,
    /// The whole catalog.
    CatalogSnapshot = 2,
    /// An entry of the Raft log, as stored.
    LogEntry = 3,
    /// A vote, as stored.
    Vote = 4,
    /// A log id, as stored.
    LogId = 5,
    /// What a snapshot is about, as stored.
    SnapshotMeta = 6,
    /// Who a data directory belongs to.
    Identity = 7,
    /// A call from one node to another.
    Call = 8,
    /// The answer to a call.
    Answer = 9,
    /// How far a log has been written.
    Watermark = 10,
    /// A request on its way to another node, see [`relay`](crate::relay).
    Forward = 11,
    /// A request that is asked back.
    Cancel = 12,
    /// What has changed at an owner of requests.
    Load = 13,
    /// A reply to a request of another node, or a part of one.
    Reply = 14,
    /// A request that comes back without a reply.
    Return = 15,
    /// The first message on a link.
    Hello = 16,
    /// The answer to it.
    Welcome = 17,
    /// The other answer to it, or the end of a link.
    Refusal = 18,
    /// A sign of life.
    Ping = 19,
    /// The last message on a link.
    Bye = 20,
}

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Too short for a header or a seal.
    #[error("{got} bytes are too few")]
    TooShort {
        /// How many there were.
        got: usize,
    },
    /// Another kind of thing.
    #[error("kind {got} where {wanted:?} is wanted")]
    WrongKind {
        /// The kind that was found.
        got: u8,
        /// The kind that was wanted.
        wanted: Kind,
    },
    /// A format that this version does not read: it comes from a newer version.
    #[error("format {got} of {kind:?} is not known; this version reads up to {known}")]
    UnknownFormat {
        /// The kind.
        kind: Kind,
        /// The format that was found.
        got: u16,
        /// The newest format that is read.
        known: u16,
    },
    /// The seal does not fit: the bytes were changed after they were written.
    #[error("the checksum is wrong: the bytes were changed after they were written")]
    BrokenSeal,
    /// The body is malformed.
    #[error("malformed {kind:?}: {reason}")]
    Malformed {
        /// The kind.
        kind: Kind,
        /// What the decoder says.
        reason: String,
    },
    /// Bytes follow the body.
    #[error("{count} bytes too many after a {kind:?}")]
    TrailingBytes {
        /// The kind.
        kind: Kind,
        /// How many.
        count: usize,
    },
}

fn configuration()
-> bincode::config::Configuration<bincode::config::LittleEndian, bincode::config::Varint> {
    bincode::config::standard()
}

/// Encodes a value behind its header.
///
/// # Errors
/// The type has a shape that cannot be encoded; closed structs and enums always can.
pub fn encode<T: Serialize>(kind: Kind, format: u16, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(kind as u8);
    bytes.extend_from_slice(&format.to_le_bytes());
    bincode::serde::encode_into_std_write(value, &mut bytes, configuration())
        .map_err(|error| CodecError::Malformed { kind, reason: error.to_string() })?;
    Ok(bytes)
}

/// The format number of an encoded thing.
///
/// # Errors
/// It is too short, of another kind, or newer than `known`.
pub fn format_of(kind: Kind, known: u16, bytes: &[u8]) -> Result<u16, CodecError> {
    let [got, low, high, ..] = *bytes else {
        return Err(CodecError::TooShort { got: bytes.len() });
    };
    if got != kind as u8 {
        return Err(CodecError::WrongKind { got, wanted: kind });
    }
    let format = u16::from_le_bytes([low, high]);
    if format == 0 || format > known {
        return Err(CodecError::UnknownFormat { kind, got: format, known });
    }
    Ok(format)
}

/// Decodes the body behind a header that [`format_of`] has checked.
///
/// # Errors
/// The body is malformed, claims more than [`DECODED_BYTES_MAX`], or is followed by more bytes.
pub fn decode_body<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, CodecError> {
    let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let limited = configuration().with_limit::<DECODED_BYTES_MAX>();
    let (value, used) = bincode::serde::decode_from_slice(body, limited)
        .map_err(|error| CodecError::Malformed { kind, reason: error.to_string() })?;
    match body.len().saturating_sub(used) {
        0 => Ok(value),
        count => Err(CodecError::TrailingBytes { kind, count }),
    }
}

/// Decodes a thing that has one format so far.
///
/// # Errors
/// As [`format_of`] and [`decode_body`].
pub fn decode<T: DeserializeOwned>(kind: Kind, format: u16, bytes: &[u8]) -> Result<T, CodecError> {
    format_of(kind, format, bytes)?;
    decode_body(kind, bytes)
}

/// Adds a CRC-32 at the end, for what is written to disk.
#[must_use]
pub fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Checks the CRC-32 and gives back what is before it.
///
/// # Errors
/// There is none, or it does not fit.
pub fn unseal(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let too_short = CodecError::TooShort { got: bytes.len() };
    let split = bytes.len().checked_sub(SEAL_BYTES).ok_or_else(|| too_short.clone())?;
    let (body, checksum) = bytes.split_at_checked(split).ok_or(too_short)?;
    if crc32fast::hash(body).to_le_bytes() == checksum {
        return Ok(body);
    }
    Err(CodecError::BrokenSeal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind::Identity;

    #[test]
    fn what_was_encoded_is_decoded() {
        let value = (7_u64, "node-1".to_owned(), vec![1_u8, 2, 3]);
        let bytes = encode(KIND, 1, &value).unwrap();

        assert_eq!(bytes.get(..3), Some(&[7, 1, 0][..]));
        assert_eq!(decode::<(u64, String, Vec<u8>)>(KIND, 1, &bytes), Ok(value));
    }

    #[test]
    fn other_kinds_newer_formats_and_trailing_bytes_are_refused() {
        let bytes = encode(KIND, 2, &7_u64).unwrap();
        let wrong = decode::<u64>(Kind::Vote, 2, &bytes);
        assert_eq!(wrong, Err(CodecError::WrongKind { got: 7, wanted: Kind::Vote }));

        let newer = decode::<u64>(KIND, 1, &bytes);
        assert_eq!(newer, Err(CodecError::UnknownFormat { kind: KIND, got: 2, known: 1 }));

        let trailing = [&bytes[..], &[0]].concat();
        let error = decode::<u64>(KIND, 2, &trailing);
        assert_eq!(error, Err(CodecError::TrailingBytes { kind: KIND, count: 1 }));

        for short in 0..3 {
            let error = decode::<u64>(KIND, 2, &bytes[..short]);
            assert_eq!(error, Err(CodecError::TooShort { got: short }));
        }
    }

    #[test]
    fn forged_length_allocates_nothing_and_is_refused() {
        let mut forged = vec![7, 1, 0, 0xfd];
        forged.extend_from_slice(&u64::MAX.to_le_bytes());

        let error = decode::<Vec<u8>>(KIND, 1, &forged).unwrap_err();

        assert!(matches!(error, CodecError::Malformed { .. }), "{error}");
    }

    #[test]
    fn any_flipped_bit_breaks_the_seal() {
        let sealed = seal(encode(KIND, 1, &"some text").unwrap());
        assert!(unseal(&sealed).is_ok());

        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(&flipped), Err(CodecError::BrokenSeal), "bit {bit}");
        }
    }
}
