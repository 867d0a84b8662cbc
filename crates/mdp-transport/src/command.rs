//! Commands of the transport: READY, ERROR, PING, PONG (23/ZMTP and 37/ZMTP).

use crate::{FrameHeader, FrameKind};

/// How many bytes of context a PING may carry; they come back in its PONG (37/ZMTP).
pub const PING_CONTEXT_BYTES_MAX: usize = 16;
/// How much of the reason of an ERROR is kept.
const REASON_BYTES_MAX: usize = 255;
/// The name of the property that says what kind of socket the peer is.
const SOCKET_TYPE: &str = "Socket-Type";
/// The name of the property with the routing id.
const IDENTITY: &str = "Identity";

/// The kind of socket at one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SocketType {
    /// Asks and waits for the answer.
    Req,
    /// Sends and receives at any time.
    Dealer,
    /// Talks to many peers.
    Router,
}

impl SocketType {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Req => "REQ",
            Self::Dealer => "DEALER",
            Self::Router => "ROUTER",
        }
    }

    fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Req, Self::Dealer, Self::Router]
            .into_iter()
            .find(|kind| kind.name().as_bytes() == name)
    }
}

/// A command that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    /// The peer introduces itself.
    Ready(Properties<'a>),
    /// The peer ends the connection and says why.
    Error { reason: &'a [u8] },
    /// A sign of life that wants an answer.
    Ping { ttl_deciseconds: u16, context: &'a [u8] },
    /// The answer to a PING.
    Pong,
    /// Another command: ignored once the connection is open.
    Other,
}

/// What a peer says of itself in its READY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Properties<'a> {
    /// `None`: it says none, or one that does not fit to a ROUTER.
    pub(crate) socket_type: Option<SocketType>,
    /// Empty: the peer has none.
    pub(crate) routing_id: &'a [u8],
}

/// A command that does not have the form of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadCommand;

impl<'a> Command<'a> {
    /// Reads the body of a command frame.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, BadCommand> {
        let (name, rest) = short_string(body).ok_or(BadCommand)?;
        match name {
            b"READY" => Properties::parse(rest).map(Self::Ready),
            b"ERROR" => {
                // Some peers leave the length out.
                let reason = short_string(rest).map_or(rest, |(reason, _)| reason);
                let reason = reason.get(..REASON_BYTES_MAX).unwrap_or(reason);
                Ok(Self::Error { reason })
            }
            b"PING" => {
                let (ttl, context) = rest.split_first_chunk().ok_or(BadCommand)?;
                if context.len() > PING_CONTEXT_BYTES_MAX {
                    return Err(BadCommand);
                }
                Ok(Self::Ping { ttl_deciseconds: u16::from_be_bytes(*ttl), context })
            }
            b"PONG" => Ok(Self::Pong),
            _ => Ok(Self::Other),
        }
    }
}

impl<'a> Properties<'a> {
    /// Names are compared without case, as the specification wants it; unknown ones are ignored.
    pub(crate) fn parse(mut rest: &'a [u8]) -> Result<Self, BadCommand> {
        let mut properties = Self { socket_type: None, routing_id: &[] };
        while !rest.is_empty() {
            let (name, after_name) = short_string(rest).ok_or(BadCommand)?;
            let (length, after_length) = after_name.split_first_chunk().ok_or(BadCommand)?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| BadCommand)?;
            let (value, next) = after_length.split_at_checked(length).ok_or(BadCommand)?;
            if name.is_empty() {
                return Err(BadCommand);
            }
            if name.eq_ignore_ascii_case(SOCKET_TYPE.as_bytes()) {
                properties.socket_type = SocketType::from_name(value);
            } else if name.eq_ignore_ascii_case(IDENTITY.as_bytes()) {
                properties.routing_id = value;
            }
            rest = next;
        }
        Ok(properties)
    }
}

/// A length of one byte, and that many bytes.
fn short_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// Appends a READY.
pub(crate) fn put_ready(socket_type: SocketType, routing_id: &[u8], into: &mut Vec<u8>) {
    put(&[b"\x05READY", &properties(socket_type, routing_id)], into);
}

/// What a socket says of itself.
pub(crate) fn properties(socket_type: SocketType, routing_id: &[u8]) -> Vec<u8> {
    let properties = [(SOCKET_TYPE, socket_type.name().as_bytes()), (IDENTITY, routing_id)];
    let mut bytes = Vec::new();
    for (name, value) in properties {
        // A routing id has at most 255 bytes, a name far less.
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(value);
    }
    bytes
}

/// Appends an ERROR with a reason of at most 255 bytes.
pub(crate) fn put_error(reason: &str, into: &mut Vec<u8>) {
    let reason = reason.as_bytes();
    let reason = reason.get(..REASON_BYTES_MAX).unwrap_or(reason);
    let length = u8::try_from(reason.len()).unwrap_or(u8::MAX);
    put(&[b"\x05ERROR", &[length], reason], into);
}

/// The parts of a PING.
pub(crate) fn ping(ttl_deciseconds: u16, put: impl FnOnce(&[&[u8]])) {
    put(&[b"\x04PING", &ttl_deciseconds.to_be_bytes()]);
}

/// The parts of the PONG that answers a PING with this context.
pub(crate) fn pong(context: &[u8], put: impl FnOnce(&[&[u8]])) {
    put(&[b"\x04PONG", context]);
}

/// Appends a command of some parts.
pub(crate) fn put(parts: &[&[u8]], into: &mut Vec<u8>) {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    FrameHeader { kind: FrameKind::Command, size }.encode(into);
    parts.iter().for_each(|part| into.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParsedHeader;

    fn body(bytes: &[u8]) -> &[u8] {
        let ParsedHeader::Complete(header, length) = FrameHeader::parse(bytes) else {
            panic!("no header: {bytes:?}");
        };
        assert_eq!(header.kind, FrameKind::Command);
        assert_eq!(usize::try_from(header.size).unwrap(), bytes.len() - length);
        &bytes[length..]
    }

    #[test]
    fn own_commands_are_understood() {
        let mut bytes = Vec::new();
        put_ready(SocketType::Dealer, &[7; 255], &mut bytes);
        let properties =
            Properties { socket_type: Some(SocketType::Dealer), routing_id: &[7; 255] };
        assert_eq!(Command::parse(body(&bytes)), Ok(Command::Ready(properties)));
        bytes.clear();
        ping(300, |parts| put(parts, &mut bytes));
        let ping = Command::Ping { ttl_deciseconds: 300, context: &[] };
        assert_eq!(Command::parse(body(&bytes)), Ok(ping));
        bytes.clear();
        pong(b"context", |parts| put(parts, &mut bytes));
        assert_eq!(body(&bytes), b"\x04PONGcontext");
        assert_eq!(Command::parse(body(&bytes)), Ok(Command::Pong));
        bytes.clear();
        put_error("no", &mut bytes);
        assert_eq!(Command::parse(body(&bytes)), Ok(Command::Error { reason: b"no" }));
    }

    #[test]
    fn names_of_properties_have_no_case_and_unknown_ones_are_ignored() {
        let ready = b"\x05READY\x08X-Colour\0\0\0\x03red\x0bsocket-TYPE\0\0\0\x03REQ";
        let properties = Properties { socket_type: Some(SocketType::Req), routing_id: &[] };
        assert_eq!(Command::parse(ready), Ok(Command::Ready(properties)));
        let none = Properties { socket_type: None, routing_id: &[] };
        let publisher = b"\x05READY\x0bSocket-Type\0\0\0\x03PUB";
        assert_eq!(Command::parse(publisher), Ok(Command::Ready(none)));
    }

    #[test]
    fn commands_that_end_too_early_are_refused() {
        let ready = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER".as_slice();
        for cut in 7..ready.len() {
            assert_eq!(Command::parse(&ready[..cut]), Err(BadCommand), "{cut}");
        }
        for bad in [
            b"".as_slice(),
            b"\x05REA",
            b"\x04PING",
            b"\x04PING\0",
            b"\x04PING\0\0seventeen bytes!!",
            b"\x05READY\0\0\0\0\0",
            b"\x05READY\x01a\xff\xff\xff\xff",
        ] {
            assert_eq!(Command::parse(bad), Err(BadCommand), "{bad:?}");
        }
    }
}
