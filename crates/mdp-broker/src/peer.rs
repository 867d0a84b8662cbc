//! Names of local peers, as the port that they connect to gives them.

use std::{fmt, ops::Deref, sync::Arc};

/// Names up to this length are kept inline; a number has eight bytes.
const INLINE_BYTES_MAX: usize = 15;

/// A local client or worker: one connection of one incarnation of this node. The node's port numbers
/// its connections, and uses no number again; in tests it may be any bytes.
///
/// It means nothing on another node or after a restart (protocol.md 6.1): every process hands out
/// the same sequence of numbers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(Repr);

/// Inline ids compare as one number, which keeps look-ups by peer cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    /// The length in the highest byte, then the id, then zeros.
    Inline(u128),
    Shared(Arc<[u8]>),
}

impl PeerId {
    /// The bytes of the name.
    #[must_use]
    pub fn bytes(&self) -> PeerBytes<'_> {
        match &self.0 {
            Repr::Inline(packed) => {
                let [length, bytes @ ..] = packed.to_be_bytes();
                PeerBytes::Inline { length, bytes }
            }
            Repr::Shared(bytes) => PeerBytes::Shared(bytes),
        }
    }
}

impl PeerId {
    /// The number that it was made of; zero, which is no connection's, if it was made of other bytes.
    #[must_use]
    pub fn number(&self) -> u64 {
        let bytes = self.bytes();
        bytes.first_chunk().filter(|_| bytes.len() == 8).map_or(0, |it| u64::from_be_bytes(*it))
    }
}

impl From<u64> for PeerId {
    fn from(number: u64) -> Self {
        Self::from(number.to_be_bytes().as_slice())
    }
}

impl From<&[u8]> for PeerId {
    fn from(id: &[u8]) -> Self {
        let length = u8::try_from(id.len()).unwrap_or(u8::MAX);
        let mut packed = [0_u8; INLINE_BYTES_MAX];
        match packed.get_mut(..id.len()) {
            Some(room) => {
                room.copy_from_slice(id);
                let rest = packed.iter().fold(0, |sum, byte| (sum << 8) | u128::from(*byte));
                Self(Repr::Inline((u128::from(length) << 120) | rest))
            }
            None => Self(Repr::Shared(Arc::from(id))),
        }
    }
}

/// The bytes of a [`PeerId`].
#[derive(Clone, Copy, Debug)]
pub enum PeerBytes<'a> {
    /// A short id.
    Inline {
        /// How many of `bytes` count.
        length: u8,
        /// The id, then zeros.
        bytes: [u8; INLINE_BYTES_MAX],
    },
    /// A long id.
    Shared(&'a [u8]),
}

impl Deref for PeerBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Inline { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Self::Shared(bytes) => bytes,
        }
    }
}

/// The number of the connection, as on the pages; bytes that are none in hexadecimal.
impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let number @ 1.. = self.number() {
            return write!(f, "{number}");
        }
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_whatever_the_length() {
        for length in [0, 1, 5, 15, 16, 255] {
            let id: Vec<u8> = (0..length).map(|i| u8::try_from(i).unwrap()).collect();
            assert_eq!(&*PeerId::from(id.as_slice()).bytes(), id.as_slice());
        }
    }

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(PeerId::from(number).number(), number);
        }
        assert_eq!(PeerId::from(b"other bytes".as_slice()).number(), 0);
    }

    #[test]
    fn ids_that_differ_only_in_trailing_zeros_differ() {
        assert_ne!(PeerId::from([1].as_slice()), PeerId::from([1, 0].as_slice()));
        assert_ne!(PeerId::from([].as_slice()), PeerId::from([0].as_slice()));
    }
}
