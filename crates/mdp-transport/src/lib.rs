//! ZMTP 3.0 and 3.1 without I/O: what the bytes of one connection mean, and which bytes answer them.
//!
//! The crate opens no socket, reads no clock, starts no thread and draws no randomness. A shell
//! moves bytes between a socket and a [`Connection`]:
//!
//! 1. [`Connection::received`] takes what was read. It hands out what the bytes complete, in order:
//!    first [`Event::Opened`], then each [`Event::Message`]. A reader that has had enough for one turn
//!    stops it; what was not read comes again.
//! 2. [`Connection::message`] takes the frames of one message that leaves.
//! 3. [`Connection::output`] is what waits to be written, in as few pieces as possible;
//!    [`Connection::transmitted`] says how much of it the kernel took.
//! 4. [`Connection::handle_timeout`] is called at [`Connection::poll_timeout`] at the latest.
//! 5. An [`Ending`] is final. What waits to be written then says why to the peer; the shell writes it
//!    if that is possible at once, and closes.
//!
//! A peer can do nothing to a connection but end it: every buffer has a limit
//! ([`ConnectionLimits`]) that holds while a message grows, and a connection between messages owns
//! no buffer.
//!
//! | clause | is in |
//! |---|---|
//! | 23/ZMTP, greeting | `greeting.rs` |
//! | 23/ZMTP, framing | `frame_header.rs`, `decoder.rs`, `outgoing.rs` |
//! | 23/ZMTP, NULL; properties | `command.rs`, `connection.rs` |
//! | 37/ZMTP, PING and PONG | `command.rs`, `connection.rs` |
//! | 26/CURVEZMQ and 25/ZMTP-CURVE | `curve.rs`, `connection/curve.rs`, `decoder/sealed.rs` |
//! | 4/ZPL, files of keys | `key_file.rs` |

mod command;
mod connection;
mod curve;
mod decoder;
mod frame_header;
mod greeting;
mod key_file;
mod limits;
mod mechanism;
mod outgoing;
mod shared_frame;
mod transport;

pub use command::{PING_CONTEXT_BYTES_MAX, SocketType};
pub use connection::{
    Connection, Ending, Event, Introduction, LocalSocket, PeerIntroduction, Side,
};
pub use curve::{
    ClientKeys, CurveError, CurveJob, CurveJobResult, KeyPair, NotAKey, PublicKey, SecretKey,
    ServerKeys,
};
pub use decoder::{Decoded, Decoder, Flow, Message, MessageFrames, StreamError};
pub use frame_header::{FRAME_HEADER_BYTES_MAX, FrameHeader, FrameKind, ParsedHeader};
pub use greeting::{GREETING_BYTES, NotZmtp3};
pub use key_file::{KeyFile, KeyFileError, fingerprint};
pub use limits::{
    ADMISSION_HELD_FOR, COMMAND_BYTES_MAX, ConnectionLimits, LARGE_FRAME_BYTES,
    OWNER_ANSWERS_WITHIN, PongRule, ROUTING_ID_BYTES_MAX,
};
pub use mechanism::Mechanism;
pub use outgoing::{BufferPool, MessageWriter, OutputSlices};
pub use shared_frame::SharedFrame;
pub use transport::{
    Closing, ConnectionId, ConnectionStatus, IdentityToken, LocalPeer, LocalProcess, Loss,
    Mechanisms, PeerAddress, Traffic, Transport, TransportEvent, TransportLimits, TransportTotals,
};
