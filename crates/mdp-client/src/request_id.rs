//! The id of a request.

use std::fmt;

/// The part that counts the requests of one client. A client that makes 100,000 requests each
/// second needs four months for all numbers.
const COUNTER_BITS: u32 = 40;

/// Names one request for logs and errors: 24 random bits of its client, and the number of the
/// request in that client, written as `c0ffee-17`.
///
/// MDP has no header for it, so in general it stays in this process. Only pipelined and async
/// requests of 0.1 ([`Correlation::Envelope`](crate::Correlation)) carry it: their envelope frame
/// is the id, 8 bytes, big-endian, all attempts alike. The broker gives it back with the reply;
/// workers do not see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// The length of the envelope frame.
    pub(crate) const FRAME_BYTES: usize = 8;

    /// The envelope frame.
    pub(crate) fn to_frame(self) -> [u8; Self::FRAME_BYTES] {
        self.0.to_be_bytes()
    }

    pub(crate) fn from_frame(frame: &[u8]) -> Option<Self> {
        frame.try_into().ok().map(|bytes| Self(u64::from_be_bytes(bytes)))
    }

    fn client(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The number of the request in its client, from 1.
    pub(crate) fn number(self) -> u64 {
        self.0 & ((1 << COUNTER_BITS) - 1)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}-{}", self.client(), self.number())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

/// Makes the ids of one client.
#[derive(Debug)]
pub(crate) struct RequestIds {
    last: u64,
}

impl RequestIds {
    /// `seed` tells clients apart.
    pub(crate) fn new(seed: u64) -> Self {
        Self { last: seed << COUNTER_BITS }
    }

    pub(crate) fn next_id(&mut self) -> RequestId {
        self.last = self.last.wrapping_add(1);
        RequestId(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_client_and_number() {
        let mut ids = RequestIds::new(0x00c0_ffee);

        assert_eq!(ids.next_id().to_string(), "c0ffee-1");
        let second = ids.next_id();
        assert_eq!(format!("{second:?}"), "RequestId(c0ffee-2)");
        assert_eq!((second.client(), second.number()), (0x00c0_ffee, 2));
    }

    #[test]
    fn envelope_frame_is_the_id() {
        let id = RequestIds::new(u64::MAX).next_id();

        assert_eq!(id.to_frame(), *b"\xff\xff\xff\0\0\0\0\x01");
        assert_eq!(RequestId::from_frame(&id.to_frame()), Some(id));
        assert_eq!(RequestId::from_frame(b"short"), None);
    }
}
