//! MESSAGE commands: each frame of the traffic in a box of its own, under a number that grows by one.
//!
//! ```text
//! 8 name | 8 number | 16 tag | 1 flags | the frame        (the last two encrypted)
//! ```
//!
//! They travel as frames of messages without a flag, as libzmq sends them, not as frames of commands: what
//! they are is said by the flags in the box.

use mdp_mutants::{Mutant, is_on};

use super::{
    CurveError,
    boxes::{BoxKey, OpeningBox, SharedKey, TAG_BYTES},
};
use crate::{FrameHeader, FrameKind, Side, StreamError};

const MESSAGE: &[u8; 8] = b"\x07MESSAGE";
const FROM_CLIENT: &[u8; 16] = b"CurveZMQMESSAGEC";
const FROM_SERVER: &[u8; 16] = b"CurveZMQMESSAGES";
/// Where the tag is.
const TAG_AT: usize = 16;
/// Where the encrypted part begins.
const FLAGS_AT: usize = TAG_AT + TAG_BYTES;
/// How much longer than the frame inside a MESSAGE is; where that frame begins.
pub(crate) const SEALED_OVERHEAD_BYTES: usize = FLAGS_AT + 1;

/// The part of a MESSAGE that is not encrypted: name, number, tag.
pub(crate) type SealedHead = [u8; FLAGS_AT];

/// More frames of the same message follow.
const MORE: u8 = 0x01;
/// The frame is a command. RFC 26 reserves the bit; libzmq uses it.
const COMMAND: u8 = 0x02;

/// Encrypts what this side sends.
#[derive(Debug)]
pub(crate) struct Sealer {
    key: BoxKey,
    /// `None`: every number was used.
    next: Option<u64>,
}

impl Sealer {
    /// The side that sends, and the number of the last command that it sent.
    pub(super) fn new(shared: &SharedKey, sender: Side, last: u64) -> Self {
        Self { key: shared.for_purpose(purpose(sender)), next: last.checked_add(1) }
    }

    /// Whether no number is left.
    pub(crate) const fn is_exhausted(&self) -> bool {
        self.next.is_none()
    }

    /// How many bytes [`put`](Self::put) appends for a frame.
    pub(crate) const fn sealed_bytes(frame_bytes: usize) -> usize {
        frame_bytes + SEALED_OVERHEAD_BYTES
    }

    /// Appends a frame, its header and its box. Nothing is appended if no number is left: the connection
    /// ends then.
    pub(crate) fn put(&mut self, kind: FrameKind, frame: &[&[u8]], into: &mut Vec<u8>) {
        let Some(number) = self.next else { return };
        self.next = number.checked_add(1);
        let nonce = number.to_be_bytes();
        let frame_bytes = frame.iter().map(|part| part.len()).sum();
        let size = u64::try_from(Self::sealed_bytes(frame_bytes)).unwrap_or(u64::MAX);
        FrameHeader { kind: FrameKind::LastOfMessage, size }.encode(into);
        into.extend_from_slice(MESSAGE);
        into.extend_from_slice(&nonce);
        let box_at = into.len();
        into.extend_from_slice(&[0; TAG_BYTES]);
        into.push(match kind {
            FrameKind::Command => COMMAND,
            FrameKind::MoreFollow => MORE,
            FrameKind::LastOfMessage => 0,
        });
        frame.iter().for_each(|part| into.extend_from_slice(part));
        let sealed = into.get_mut(box_at..).unwrap_or_default();
        if let Some((tag, text)) = sealed.split_first_chunk_mut() {
            *tag = self.key.seal(nonce, text);
        }
    }
}

/// Decrypts what the peer sends.
#[derive(Debug)]
pub(crate) struct Opener {
    key: BoxKey,
    /// The number of the last command.
    last: u64,
    large: Option<Box<LargeBox>>,
}

impl Opener {
    /// The side that sends, and the number of its last command.
    pub(super) fn new(shared: &SharedKey, sender: Side, last: u64) -> Self {
        Self { key: shared.for_purpose(purpose(sender)), last, large: None }
    }

    /// Decrypts flags and frame where they stand, and says what the frame is, which begins behind the first
    /// byte.
    ///
    /// Every number has to be the one after the last: on a connection that loses nothing, any other one
    /// means that frames were taken out. 26/CURVEZMQ asks for less.
    pub(crate) fn open(
        &mut self,
        head: &SealedHead,
        text: &mut [u8],
    ) -> Result<FrameKind, StreamError> {
        let (nonce, tag) = self.check(head).map_err(StreamError::Curve)?;
        let opened = self.key.open(nonce, &tag, text);
        opened.map_err(|_| StreamError::Curve(CurveError::Message))?;
        self.last = u64::from_be_bytes(nonce);
        kind(text)
    }

    /// Decrypts what has come of a large frame, where it stands, but for some bytes at its end. The same rules
    /// hold, and none of it is of use before [`finish`](Self::finish) has said so.
    pub(crate) fn advance(
        &mut self,
        head: &SealedHead,
        text: &mut [u8],
    ) -> Result<(), StreamError> {
        if let Some(large) = &mut self.large {
            large.text.advance(text);
            return Ok(());
        }
        let (nonce, tag) = self.check(head).map_err(StreamError::Curve)?;
        let number = u64::from_be_bytes(nonce);
        let large = LargeBox { number, text: self.key.begin_open(nonce, tag) };
        self.large.insert(Box::new(large)).text.advance(text);
        Ok(())
    }

    /// All bytes of a large frame have come.
    pub(crate) fn finish(&mut self, text: &mut [u8]) -> Result<FrameKind, StreamError> {
        let bad = StreamError::Curve(CurveError::Message);
        let LargeBox { number, text: opening } = *self.large.take().ok_or(bad)?;
        opening.finish(text).map_err(|_| bad)?;
        self.last = number;
        kind(text)
    }

    /// Number and tag, if the number is the next one.
    fn check(&self, head: &SealedHead) -> Result<([u8; 8], [u8; TAG_BYTES]), CurveError> {
        let (nonce, tag) = parse(head).ok_or(CurveError::NotEncrypted)?;
        let is_next = self.last.checked_add(1) == Some(u64::from_be_bytes(nonce));
        if !is_next && !is_on(Mutant::FrameNumberNotChecked) {
            return Err(CurveError::Nonce);
        }
        Ok((nonce, tag))
    }
}

/// A large frame that is decrypted while its bytes come.
#[derive(Debug)]
struct LargeBox {
    number: u64,
    text: OpeningBox,
}

/// What a frame is, by its flags.
const fn kind(text: &[u8]) -> Result<FrameKind, StreamError> {
    match text.first() {
        Some(&0) => Ok(FrameKind::LastOfMessage),
        Some(&MORE) => Ok(FrameKind::MoreFollow),
        Some(&COMMAND) => Ok(FrameKind::Command),
        Some(flags) => Err(StreamError::BadFlags(*flags)),
        None => Err(StreamError::Curve(CurveError::Message)),
    }
}

/// Number and tag; `None`: it is another command, or a frame that is not encrypted.
fn parse(head: &SealedHead) -> Option<([u8; 8], [u8; TAG_BYTES])> {
    let (nonce, tag) = head.strip_prefix(MESSAGE)?.split_first_chunk()?;
    Some((*nonce, *tag.first_chunk()?))
}

const fn purpose(sender: Side) -> &'static [u8; 16] {
    match sender {
        Side::Dialling => FROM_CLIENT,
        Side::Accepting => FROM_SERVER,
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn pair(last: u64) -> (Sealer, Opener) {
        let shared = SharedKey::from_random(Zeroizing::new([5; 32]));
        let sealer = Sealer::new(&shared, Side::Dialling, last);
        (sealer, Opener::new(&shared, Side::Dialling, last))
    }

    fn sealed(sealer: &mut Sealer, kind: FrameKind, frame: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        sealer.put(kind, &[frame], &mut bytes);
        bytes
    }

    fn opened(opener: &mut Opener, frame: &[u8]) -> Result<FrameKind, StreamError> {
        let mut body = frame[2..].to_vec();
        let (head, text) = body.split_first_chunk_mut().unwrap();
        opener.open(head, text)
    }

    #[test]
    fn kinds_of_frames_come_back() {
        let (mut sealer, mut opener) = pair(2);
        for kind in [FrameKind::Command, FrameKind::MoreFollow, FrameKind::LastOfMessage] {
            let frame = sealed(&mut sealer, kind, b"frame");
            assert_eq!(frame.len(), 2 + Sealer::sealed_bytes(5));
            assert_eq!(opened(&mut opener, &frame), Ok(kind));
        }
    }

    #[test]
    fn last_number_is_used_and_none_twice() {
        let (mut sealer, mut opener) = pair(u64::MAX - 2);
        let before_last = sealed(&mut sealer, FrameKind::LastOfMessage, b"1");
        let last = sealed(&mut sealer, FrameKind::LastOfMessage, b"2");
        assert!(sealer.is_exhausted());
        assert_eq!(sealed(&mut sealer, FrameKind::LastOfMessage, b"3"), [] as [u8; 0]);
        assert_eq!(opened(&mut opener, &before_last), Ok(FrameKind::LastOfMessage));
        assert_eq!(opened(&mut opener, &last), Ok(FrameKind::LastOfMessage));
        let again = StreamError::Curve(CurveError::Nonce);
        assert_eq!(opened(&mut opener, &last), Err(again));
        assert_eq!(opened(&mut opener, &before_last), Err(again));
    }

    #[test]
    fn frame_whose_number_is_not_the_next_one_is_refused_though_its_box_is_good() {
        let open = |number: u64| {
            let (_, mut opener) = pair(7);
            let (mut sealer, _) = pair(7);
            sealer.next = Some(number);
            let frame = sealed(&mut sealer, FrameKind::LastOfMessage, b"frame");
            opened(&mut opener, &frame)
        };
        assert_eq!(open(8), Ok(FrameKind::LastOfMessage));
        // Repeated, skipped, from the beginning, from the end.
        for number in [7, 9, 10, 0, 1, u64::MAX, 8 << 32] {
            assert_eq!(open(number), Err(StreamError::Curve(CurveError::Nonce)), "{number}");
        }
    }

    #[test]
    fn flags_that_mean_nothing_are_refused() {
        let shared = SharedKey::from_random(Zeroizing::new([5; 32]));
        for flags in [MORE | COMMAND, 0x04, 0x80, 0xff] {
            let (_, mut opener) = pair(2);
            let mut text = [flags, 1, 2, 3];
            let nonce = 3_u64.to_be_bytes();
            let tag = shared.for_purpose(FROM_CLIENT).seal(nonce, &mut text);
            let head = [MESSAGE.as_slice(), &nonce, &tag].concat();
            let head: &SealedHead = head.as_slice().try_into().unwrap();
            assert_eq!(opener.open(head, &mut text), Err(StreamError::BadFlags(flags)));
        }
    }
}
