//! The header of a frame: flags and size (23/ZMTP, "Framing").

/// More frames of the same message follow.
const MORE: u8 = 0x01;
/// The size takes eight bytes and not one.
const LONG: u8 = 0x02;
/// The frame is a command of the transport and no part of a message.
const COMMAND: u8 = 0x04;
/// Flags, and a size of eight bytes.
pub const FRAME_HEADER_BYTES_MAX: usize = 9;

/// What a frame is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A command.
    Command,
    /// A message of which more frames follow.
    MoreFollow,
    /// The end of a message.
    LastOfMessage,
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is a part of.
    pub kind: FrameKind,
    /// How many bytes of the frame follow the header.
    pub size: u64,
}

/// What the beginning of some bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParsedHeader {
    /// A header of so many bytes.
    Complete(FrameHeader, usize),
    /// The beginning of one.
    Incomplete,
    /// Not a header: reserved flags, or a command of several frames.
    BadFlags(u8),
}

impl FrameHeader {
    /// Reads a header from the beginning of some bytes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> ParsedHeader {
        let Some((&flags, rest)) = bytes.split_first() else { return ParsedHeader::Incomplete };
        let kind = match flags & !LONG {
            COMMAND => FrameKind::Command,
            MORE => FrameKind::MoreFollow,
            0 => FrameKind::LastOfMessage,
            _ => return ParsedHeader::BadFlags(flags),
        };
        if flags & LONG == 0 {
            return match rest.first() {
                Some(&size) => ParsedHeader::Complete(Self { kind, size: u64::from(size) }, 2),
                None => ParsedHeader::Incomplete,
            };
        }
        match rest.first_chunk() {
            Some(size) => {
                let size = u64::from_be_bytes(*size);
                ParsedHeader::Complete(Self { kind, size }, FRAME_HEADER_BYTES_MAX)
            }
            None => ParsedHeader::Incomplete,
        }
    }

    /// Appends the header, in its shortest form.
    pub fn encode(self, into: &mut Vec<u8>) {
        let flags = match self.kind {
            FrameKind::Command => COMMAND,
            FrameKind::MoreFollow => MORE,
            FrameKind::LastOfMessage => 0,
        };
        match u8::try_from(self.size) {
            Ok(size) => into.extend_from_slice(&[flags, size]),
            Err(_) => {
                into.push(flags | LONG);
                into.extend_from_slice(&self.size.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_comes_back_in_its_shortest_form() {
        for kind in [FrameKind::Command, FrameKind::MoreFollow, FrameKind::LastOfMessage] {
            for (size, length) in [(0, 2), (255, 2), (256, 9), (65_536, 9), (u64::MAX, 9)] {
                let header = FrameHeader { kind, size };
                let mut bytes = Vec::new();
                header.encode(&mut bytes);
                assert_eq!(bytes.len(), length, "{size}");
                assert_eq!(FrameHeader::parse(&bytes), ParsedHeader::Complete(header, length));
                for cut in 0..length {
                    assert_eq!(FrameHeader::parse(&bytes[..cut]), ParsedHeader::Incomplete);
                }
            }
        }
    }

    #[test]
    fn small_size_in_the_long_form_is_read() {
        let bytes = [0x02, 0, 0, 0, 0, 0, 0, 0, 5];
        let header = FrameHeader { kind: FrameKind::LastOfMessage, size: 5 };
        assert_eq!(FrameHeader::parse(&bytes), ParsedHeader::Complete(header, 9));
    }

    #[test]
    fn reserved_flags_and_commands_of_several_frames_are_refused() {
        for flags in [0x05, 0x07, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
            assert_eq!(FrameHeader::parse(&[flags, 0]), ParsedHeader::BadFlags(flags));
        }
    }
}
