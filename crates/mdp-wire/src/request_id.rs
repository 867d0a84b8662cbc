//! The id of a request, as the clients of this project make it.

use std::fmt;

/// The part that counts the requests of one client. A client that makes 100,000 requests each
/// second needs four months for all numbers.
const COUNTER_BITS: u32 = 40;
const NUMBERS: u64 = (1 << COUNTER_BITS) - 1;

/// Names one request for logs and errors: 24 random bits of its client, and the number of the
/// request in that client, written as `c0ffee-17`.
///
/// MDP has no header for it, so in general it stays in this process. Only pipelined and async
/// requests of 0.1 (`Correlation::Envelope`) carry it: their envelope frame
/// is the id, 8 bytes, big-endian, all attempts alike. The broker gives it back with the reply;
/// workers do not see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// The length of the envelope frame.
    pub const FRAME_BYTES: usize = 8;

    /// The id of a request of a client, which has 24 bits.
    #[must_use]
    pub const fn new(client: u64, number: u64) -> Self {
        Self((client << COUNTER_BITS) | (number & NUMBERS))
    }

    /// The envelope frame.
    #[must_use]
    pub const fn to_frame(self) -> [u8; Self::FRAME_BYTES] {
        self.0.to_be_bytes()
    }

    /// The id in an envelope frame; `None` if it has another length. Other clients may put anything
    /// there, so it is for logs only.
    #[must_use]
    pub fn from_frame(frame: &[u8]) -> Option<Self> {
        frame.try_into().ok().map(|bytes| Self(u64::from_be_bytes(bytes)))
    }

    /// The random bits of its client.
    #[must_use]
    pub const fn client(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The number of the request in its client, from 1.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0 & NUMBERS
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_tells_client_and_number() {
        let id = RequestId::new(0x00c0_ffee, 2);

        assert_eq!(id.to_string(), "c0ffee-2");
        assert_eq!(format!("{id:?}"), "RequestId(c0ffee-2)");
        assert_eq!((id.client(), id.number()), (0x00c0_ffee, 2));
    }

    #[test]
    fn envelope_frame_is_the_id() {
        let id = RequestId::new(0x00ff_ffff, 1);

        assert_eq!(id.to_frame(), *b"\xff\xff\xff\0\0\0\0\x01");
        assert_eq!(RequestId::from_frame(&id.to_frame()), Some(id));
        assert_eq!(RequestId::from_frame(b"short"), None);
    }
}
