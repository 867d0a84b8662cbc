//! What one peer may take.

use std::time::Duration;

/// From this size on, a frame has a buffer of its own that is filled as the bytes come; frames below
/// share one allocation with their neighbours of the message.
pub const LARGE_FRAME_BYTES: usize = 16 * 1024;
/// The longest command.
pub const COMMAND_BYTES_MAX: usize = 8 * 1024;
/// The longest routing id.
pub const ROUTING_ID_BYTES_MAX: usize = 255;

/// How long a connection is held whose key is not admitted, from its INITIATE on: a key that is made known
/// a little later is admitted still, where an early refusal stops libzmq's peers for good.
pub const ADMISSION_HELD_FOR: Duration = Duration::from_secs(3);
/// How long the owner then has to say so once more. If it says nothing, the connection ends without a word.
pub const OWNER_ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// When a peer that stops answering PINGs is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PongRule {
    /// If it has answered one before: libraries that never do are no reason to end a connection.
    IfAnsweredBefore,
    /// In any case: the peer is known to answer.
    Always,
}

/// Limits of each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The bytes of all frames of one message; they count while the message grows.
    pub message_bytes_max: usize,
    /// The frames of one message; they count while the message grows.
    pub message_frames_max: usize,
    /// The time from the first byte of the connection to the end of the handshake.
    pub handshake_timeout: Duration,
    /// The bytes that a peer may send until the end of the handshake.
    pub handshake_bytes_max: usize,
    /// How long a peer is silent until it is asked for a sign of life. With a promise
    /// ([`ping_ttl`](Self::ping_ttl)) it is asked so often, silent or not.
    pub ping_interval: Duration,
    /// How long it may then go on being silent.
    pub pong_timeout: Duration,
    /// Whether that ends the connection of a peer that has never answered.
    pub pong_rule: PongRule,
    /// How long this side promises not to be silent, in its PINGs; zero promises nothing. Sent in tenths
    /// of a second.
    pub ping_ttl: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 * 1024 * 1024,
            message_frames_max: 1_024,
            handshake_timeout: Duration::from_secs(3),
            handshake_bytes_max: 8 * 1024,
            ping_interval: Duration::from_secs(5),
            pong_timeout: Duration::from_secs(10),
            pong_rule: PongRule::IfAnsweredBefore,
            ping_ttl: Duration::ZERO,
        }
    }
}
