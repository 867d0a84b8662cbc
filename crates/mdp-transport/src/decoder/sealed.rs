//! Frames that are encrypted, each in a box of its own (26/CURVEZMQ, MESSAGE).

use smallvec::SmallVec;

use super::{Decoded, Decoder, Flow, LargeFrame, Progress, Spans, StreamError};
use crate::{
    COMMAND_BYTES_MAX, FrameHeader, FrameKind, LARGE_FRAME_BYTES, ParsedHeader, SharedFrame,
    curve::{CurveError, Opener, SEALED_OVERHEAD_BYTES, SealedHead},
};

/// Where boxes are opened before their message is known to be complete. Most messages fit.
type Texts = SmallVec<[u8; 1_024]>;

/// How many bytes of a box are not encrypted.
const HEAD_BYTES: usize = size_of::<SealedHead>();

/// One byte of flags stands in front of each frame.
const FLAGS_BYTES: usize = 1;

impl Decoder {
    /// Until traffic begins only commands may come, of at most this size.
    pub(crate) const fn allow_commands_only(&mut self, bytes_max: usize) {
        self.message_frames_max = 0;
        self.command_bytes_max = bytes_max;
    }

    /// From now on every frame is encrypted, and messages may have this number of frames.
    pub(crate) fn open_traffic(&mut self, opener: Opener, message_frames_max: usize) {
        self.message_frames_max = message_frames_max;
        self.opener = Some(Box::new(opener));
    }

    /// How many frames a message may have.
    pub(crate) const fn message_frames_max(&self) -> usize {
        self.message_frames_max
    }

    /// The size of the frame that comes next, if what it is a part of stays within its limits.
    pub(super) fn check_next(&self, header: FrameHeader) -> Result<usize, StreamError> {
        if self.opener.is_some() {
            return self.check_sealed(header, 0);
        }
        self.check(header, 0)
    }

    /// The size of a box, if what is in it can stay within the limits. A small one may be a command, for
    /// which the limits of the message do not count: that shows when it is open.
    fn check_sealed(&self, header: FrameHeader, more: usize) -> Result<usize, StreamError> {
        // omq-proto repeats outside what the flags in the box say; only those count.
        if header.kind == FrameKind::Command {
            return Err(StreamError::Curve(CurveError::NotEncrypted));
        }
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        let frame = size.checked_sub(SEALED_OVERHEAD_BYTES);
        let frame = frame.ok_or(StreamError::Curve(CurveError::NotEncrypted))?;
        if frame > COMMAND_BYTES_MAX {
            self.check_message(frame, more)?;
        }
        Ok(size)
    }

    /// Decodes at the beginning of a box.
    pub(super) fn decode_sealed(
        &mut self,
        input: &[u8],
        at: &mut usize,
        take: &mut impl FnMut(Decoded<'_>) -> Flow,
    ) -> Result<Progress, StreamError> {
        match self.open_small(input, at, take)? {
            Some(progress) => Ok(progress),
            None if *at == input.len() => Ok(Progress::Done),
            None if self.begin_large(input, at)? => Ok(Progress::More),
            None => self.decode_cut(input, at, take),
        }
    }

    /// Opens whole boxes from `at` on, until a message or a command is complete. `None`: what is left of the
    /// input, if anything, is the beginning of a box, or a large one.
    pub(super) fn open_small(
        &mut self,
        input: &[u8],
        at: &mut usize,
        take: &mut impl FnMut(Decoded<'_>) -> Flow,
    ) -> Result<Option<Progress>, StreamError> {
        let mut texts = Texts::new();
        let mut spans = Spans::new();
        loop {
            let rest = input.get(*at..).unwrap_or_default();
            let (header, header_bytes) = match FrameHeader::parse(rest) {
                ParsedHeader::Complete(header, length) => (header, length),
                ParsedHeader::Incomplete => break,
                ParsedHeader::BadFlags(flags) => return Err(StreamError::BadFlags(flags)),
            };
            let size = self.check_sealed(header, spans.len())?;
            let start = *at + header_bytes;
            let body = match input.get(start..start.saturating_add(size)) {
                Some(body) if size < LARGE_FRAME_BYTES => body,
                Some(_) | None => break,
            };
            *at = start + size;
            let (kind, frame_at) = self.open_box(body, &mut texts)?;
            if kind == FrameKind::Command {
                self.keep(&texts, &spans);
                let command = texts.get(frame_at..).unwrap_or_default();
                check_command(command.len())?;
                return Ok(Some(take(Decoded::Command(command)).into()));
            }
            self.message_bytes += self.check_message(texts.len() - frame_at, spans.len())?;
            spans.push((frame_at, texts.len()));
            if kind == FrameKind::LastOfMessage {
                self.keep(&texts, &spans);
                return Ok(Some(take(Decoded::Message(self.take_message())).into()));
            }
        }
        self.keep(&texts, &spans);
        Ok(None)
    }

    /// Appends the text of a box, and says what it is and where its frame begins.
    fn open_box(
        &mut self,
        body: &[u8],
        texts: &mut Texts,
    ) -> Result<(FrameKind, usize), StreamError> {
        let not_encrypted = StreamError::Curve(CurveError::NotEncrypted);
        let Some(opener) = &mut self.opener else { return Err(not_encrypted) };
        let (head, text) = body.split_first_chunk::<HEAD_BYTES>().ok_or(not_encrypted)?;
        let flags_at = texts.len();
        texts.extend_from_slice(text);
        let kind = opener.open(head, texts.get_mut(flags_at..).unwrap_or_default())?;
        Ok((kind, flags_at + FLAGS_BYTES))
    }

    /// A large frame that has come whole, and was decrypted where it stands.
    pub(super) fn open_large(
        &mut self,
        mut large: LargeFrame,
    ) -> Result<(FrameKind, SharedFrame), StreamError> {
        let not_encrypted = StreamError::Curve(CurveError::NotEncrypted);
        let Some(opener) = &mut self.opener else { return Err(not_encrypted) };
        let (_, text) = large.bytes.split_first_chunk_mut::<HEAD_BYTES>().ok_or(not_encrypted)?;
        let kind = opener.finish(text)?;
        let size = large.size - SEALED_OVERHEAD_BYTES;
        if kind == FrameKind::Command {
            check_command(size)?;
        }
        self.check_message(size, 0)?;
        let start = u32::try_from(SEALED_OVERHEAD_BYTES).unwrap_or(u32::MAX);
        Ok((kind, SharedFrame::suffix(large.bytes, start)))
    }
}

impl LargeFrame {
    /// Decrypts what has come, so that no turn has more to decrypt than was read in it.
    pub(super) fn advance(&mut self, opener: &mut Opener) -> Result<(), StreamError> {
        match self.bytes.split_first_chunk_mut::<HEAD_BYTES>() {
            Some((head, text)) => opener.advance(head, text),
            None => Ok(()),
        }
    }
}

fn check_command(size: usize) -> Result<(), StreamError> {
    if size <= COMMAND_BYTES_MAX {
        return Ok(());
    }
    let bytes = u64::try_from(size).unwrap_or(u64::MAX);
    Err(StreamError::CommandTooLarge { bytes, max: COMMAND_BYTES_MAX })
}

// A large frame is more than a command can be.
const _: () = assert!(LARGE_FRAME_BYTES > COMMAND_BYTES_MAX + SEALED_OVERHEAD_BYTES);
