//! [`Decoder`]: a stream of bytes into messages and commands, wherever the network cuts it.

mod sealed;

use std::sync::Arc;

use mdp_mutants::{Mutant, is_on};
use smallvec::SmallVec;
use thiserror::Error;

use crate::{
    COMMAND_BYTES_MAX, ConnectionLimits, FrameHeader, FrameKind, LARGE_FRAME_BYTES, ParsedHeader,
    SharedFrame,
    curve::{CurveError, Opener},
};

/// The frames of one message. Most have few: those of 7/MDP have at most five before the body.
pub type MessageFrames = SmallVec<[SharedFrame; 6]>;

/// A whole message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its frames, at least one.
    pub frames: MessageFrames,
    /// How many bytes are allocated for them all: what a budget has to count.
    pub allocated_bytes: usize,
}

/// What was decoded.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole message.
    Message(Message),
    /// The body of a command.
    Command(&'a [u8]),
}

/// Why a stream can not be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    /// Reserved flags, or a command of several frames.
    #[error("a frame has the flags {0:#04x}, which ZMTP 3 does not know")]
    BadFlags(u8),
    /// The frames of a message together have too many bytes.
    #[error("a message has {bytes} bytes or more; at most {max} are allowed")]
    MessageTooLarge {
        /// What is known of its size.
        bytes: u64,
        /// The limit.
        max: usize,
    },
    /// A message has too many frames.
    #[error("a message has more than {max} frames")]
    TooManyFrames {
        /// The limit.
        max: usize,
    },
    /// A command has too many bytes.
    #[error("a command has {bytes} bytes; at most {max} are allowed")]
    CommandTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: usize,
    },
    /// A frame is not encrypted as it should be.
    #[error("{0}")]
    Curve(CurveError),
}

/// What an allocation costs besides its bytes, about.
const ALLOCATION_BYTES: usize = 32;

/// Decodes the traffic of one connection.
///
/// Between messages it owns no memory. Of an unfinished message it owns what has come, and up to
/// twice that while a large frame grows.
#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    message_frames_max: usize,
    command_bytes_max: usize,
    /// The finished frames of the unfinished message.
    message: Message,
    /// The bytes of all frames of the unfinished message, as far as their sizes are known.
    message_bytes: usize,
    /// The bytes of a frame that is not complete, with its header.
    partial: Vec<u8>,
    /// The large frame that is being read.
    large: Option<LargeFrame>,
    /// Decrypts each frame, if the mechanism does.
    opener: Option<Box<Opener>>,
}

#[derive(Debug)]
struct LargeFrame {
    bytes: Vec<u8>,
    size: usize,
    kind: FrameKind,
}

/// One step through the input.
enum Step<'a> {
    Decoded(Decoded<'a>),
    /// What is left of the input, if anything, is the beginning of a frame.
    NeedsMore,
}

/// What became of a frame that the network cut.
enum CutFrame {
    /// The input ends before it does.
    NeedsMore,
    /// It is large and reads into a buffer of its own from here on.
    Large,
    /// All of it, with its header.
    Complete(Vec<u8>),
}

/// Whether a reader wants what comes next now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// Not now.
    Stop,
}

/// Whether decoding goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    More,
    /// The input is read, or the reader wants no more of it.
    Done,
}

impl From<Flow> for Progress {
    fn from(flow: Flow) -> Self {
        match flow {
            Flow::Continue => Self::More,
            Flow::Stop => Self::Done,
        }
    }
}

impl Decoder {
    /// A decoder at the beginning of the traffic.
    #[must_use]
    pub fn new(limits: &ConnectionLimits) -> Self {
        Self {
            message_bytes_max: limits.message_bytes_max,
            message_frames_max: limits.message_frames_max,
            command_bytes_max: COMMAND_BYTES_MAX,
            message: Message::default(),
            message_bytes: 0,
            partial: Vec::new(),
            large: None,
            opener: None,
        }
    }

    /// From now on messages may have at most this number of bytes, the one at hand included.
    pub const fn set_message_bytes_max(&mut self, bytes: usize) {
        self.message_bytes_max = bytes;
    }

    /// How many bytes are allocated for what is not finished.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let large = self.large.as_ref().map_or(0, |large| large.bytes.capacity());
        // Each frame is an entry of the message, and may have an allocation of its own.
        let frames = self.message.frames.len() * (size_of::<SharedFrame>() + ALLOCATION_BYTES);
        self.partial.capacity() + large + self.message.allocated_bytes + frames
    }

    /// Whether a message was begun and is not finished.
    #[must_use]
    pub fn is_inside_message(&self) -> bool {
        self.large.is_some() || !self.partial.is_empty() || !self.message.frames.is_empty()
    }

    /// Decodes some more bytes of the stream and hands out what they complete, in order, until
    /// `take` says to stop. Returns how many bytes were read; the others have to come again.
    ///
    /// # Errors
    /// The stream can not be read on; neither this nor any later byte of it means anything.
    pub fn decode(
        &mut self,
        input: &[u8],
        mut take: impl FnMut(Decoded<'_>) -> Flow,
    ) -> Result<usize, StreamError> {
        let mut at = 0;
        loop {
            let progress = if self.large.is_some() {
                self.decode_large(input, &mut at, &mut take)?
            } else if self.partial.is_empty() {
                self.decode_whole(input, &mut at, &mut take)?
            } else {
                self.decode_cut(input, &mut at, &mut take)?
            };
            if progress == Progress::Done {
                return Ok(at);
            }
        }
    }

    /// Goes on with a large frame.
    fn decode_large(
        &mut self,
        input: &[u8],
        at: &mut usize,
        take: &mut impl FnMut(Decoded<'_>) -> Flow,
    ) -> Result<Progress, StreamError> {
        let Some(large) = &mut self.large else { return Ok(Progress::More) };
        large.fill(input, at);
        if let Some(opener) = &mut self.opener {
            large.advance(opener)?;
        }
        if !large.is_complete() {
            return Ok(Progress::Done);
        }
        let message = self.finish_large()?;
        Ok(message.map_or(Progress::More, |message| take(Decoded::Message(message)).into()))
    }

    /// Decodes at the beginning of a frame.
    fn decode_whole(
        &mut self,
        input: &[u8],
        at: &mut usize,
        take: &mut impl FnMut(Decoded<'_>) -> Flow,
    ) -> Result<Progress, StreamError> {
        if self.opener.is_some() {
            return self.decode_sealed(input, at, take);
        }
        match self.step(input, at)? {
            Step::Decoded(decoded) => Ok(take(decoded).into()),
            Step::NeedsMore if *at == input.len() => Ok(Progress::Done),
            Step::NeedsMore if self.begin_large(input, at)? => Ok(Progress::More),
            Step::NeedsMore => self.decode_cut(input, at, take),
        }
    }

    /// Begins the large frame whose whole header lies in the input, if that is what comes next.
    fn begin_large(&mut self, input: &[u8], at: &mut usize) -> Result<bool, StreamError> {
        let rest = input.get(*at..).unwrap_or_default();
        let ParsedHeader::Complete(header, header_bytes) = FrameHeader::parse(rest) else {
            return Ok(false);
        };
        let size = self.check_next(header)?;
        if size < LARGE_FRAME_BYTES {
            return Ok(false);
        }
        *at += header_bytes;
        self.large = Some(LargeFrame { bytes: Vec::new(), size, kind: header.kind });
        Ok(true)
    }

    /// Goes on with a frame that the network cut, or begins one.
    fn decode_cut(
        &mut self,
        input: &[u8],
        at: &mut usize,
        take: &mut impl FnMut(Decoded<'_>) -> Flow,
    ) -> Result<Progress, StreamError> {
        let frame = match self.fill_cut_frame(input, at)? {
            CutFrame::NeedsMore => return Ok(Progress::Done),
            CutFrame::Large => return Ok(Progress::More),
            CutFrame::Complete(frame) => frame,
        };
        if self.opener.is_some() {
            return Ok(self.open_small(&frame, &mut 0, take)?.unwrap_or(Progress::More));
        }
        match self.step(&frame, &mut 0)? {
            Step::Decoded(decoded) => Ok(take(decoded).into()),
            Step::NeedsMore => Ok(Progress::More),
        }
    }

    /// Reads whole frames from `at` on, until a message or a command is complete.
    fn step<'a>(&mut self, input: &'a [u8], at: &mut usize) -> Result<Step<'a>, StreamError> {
        let mut spans = Spans::new();
        loop {
            let rest = input.get(*at..).unwrap_or_default();
            let (header, header_bytes) = match FrameHeader::parse(rest) {
                ParsedHeader::Complete(header, length) => (header, length),
                ParsedHeader::Incomplete => break,
                ParsedHeader::BadFlags(flags) => return Err(StreamError::BadFlags(flags)),
            };
            let size = self.check(header, spans.len())?;
            let start = *at + header_bytes;
            let end = start + size;
            let body = match input.get(start..end) {
                Some(body) if size < LARGE_FRAME_BYTES => body,
                Some(_) | None => break,
            };
            *at = end;
            if header.kind == FrameKind::Command {
                // A command may stand between the frames of a message: libzmq's PINGs do.
                self.keep(input, &spans);
                return Ok(Step::Decoded(Decoded::Command(body)));
            }
            spans.push((start, end));
            self.message_bytes += size;
            if header.kind == FrameKind::LastOfMessage {
                self.keep(input, &spans);
                return Ok(Step::Decoded(Decoded::Message(self.take_message())));
            }
        }
        self.keep(input, &spans);
        Ok(Step::NeedsMore)
    }

    /// The size of a frame, if what it is a part of stays within its limits. `more` frames of the
    /// message are read and not kept yet.
    fn check(&self, header: FrameHeader, more: usize) -> Result<usize, StreamError> {
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        if header.kind == FrameKind::Command {
            let (bytes, max) = (header.size, self.command_bytes_max);
            let is_allowed = size <= max;
            return is_allowed.then_some(size).ok_or(StreamError::CommandTooLarge { bytes, max });
        }
        self.check_message(size, more)
    }

    /// The size of a frame of a message.
    fn check_message(&self, size: usize, more: usize) -> Result<usize, StreamError> {
        if self.message.frames.len() + more >= self.message_frames_max {
            return Err(StreamError::TooManyFrames { max: self.message_frames_max });
        }
        let is_limited = !is_on(Mutant::MessageLimitIgnored);
        let max = if is_limited { self.message_bytes_max } else { usize::MAX };
        let sum = self.message_bytes.checked_add(size);
        sum.filter(|bytes| *bytes <= max).map(|_| size).ok_or_else(|| {
            let known = u64::try_from(self.message_bytes).unwrap_or(u64::MAX);
            let size = u64::try_from(size).unwrap_or(u64::MAX);
            StreamError::MessageTooLarge { bytes: known.saturating_add(size), max }
        })
    }

    /// Copies frames that lie in the input into one allocation and adds them to the message.
    fn keep(&mut self, input: &[u8], spans: &Spans) {
        let (Some((first, _)), Some((_, last))) = (spans.first(), spans.last()) else { return };
        let region: Arc<[u8]> = Arc::from(input.get(*first..*last).unwrap_or_default());
        self.message.allocated_bytes += region.len();
        self.message.frames.extend(spans.iter().map(|(start, end)| {
            // Every span lies within the region.
            SharedFrame::part(&region, start - first, end - first).unwrap_or_default()
        }));
    }

    fn take_message(&mut self) -> Message {
        self.message_bytes = 0;
        std::mem::take(&mut self.message)
    }

    /// Adds input to the frame that the network cut, no more than belongs to it.
    fn fill_cut_frame(&mut self, input: &[u8], at: &mut usize) -> Result<CutFrame, StreamError> {
        loop {
            let wanted = match FrameHeader::parse(&self.partial) {
                ParsedHeader::BadFlags(flags) => return Err(StreamError::BadFlags(flags)),
                // One byte at a time: there are nine at most.
                ParsedHeader::Incomplete => self.partial.len() + 1,
                ParsedHeader::Complete(header, header_bytes) => {
                    let size = self.check_next(header)?;
                    if size >= LARGE_FRAME_BYTES {
                        self.partial = Vec::new();
                        self.large =
                            Some(LargeFrame { bytes: Vec::new(), size, kind: header.kind });
                        return Ok(CutFrame::Large);
                    }
                    header_bytes + size
                }
            };
            let missing = wanted - self.partial.len();
            if missing == 0 {
                return Ok(CutFrame::Complete(std::mem::take(&mut self.partial)));
            }
            let rest = input.get(*at..).unwrap_or_default();
            let new = rest.get(..missing).unwrap_or(rest);
            if new.is_empty() {
                return Ok(CutFrame::NeedsMore);
            }
            self.partial.extend_from_slice(new);
            *at += new.len();
        }
    }

    /// Adds the large frame to the message, and returns that if it is complete.
    fn finish_large(&mut self) -> Result<Option<Message>, StreamError> {
        let Some(large) = self.large.take() else { return Ok(None) };
        self.message.allocated_bytes += large.bytes.capacity();
        let (kind, frame) = if self.opener.is_some() {
            self.open_large(large)?
        } else {
            (large.kind, large.bytes.into())
        };
        self.message_bytes += frame.len();
        self.message.frames.push(frame);
        Ok((kind == FrameKind::LastOfMessage).then(|| self.take_message()))
    }
}

/// Where frames lie in some input: begin and end of each.
type Spans = SmallVec<[(usize, usize); 6]>;

impl LargeFrame {
    /// Takes what belongs to it. The buffer doubles as bytes come, and once half of the frame has come it
    /// has the frame's size: a size that is only announced costs nothing, and a frame whose first piece
    /// is most of it needs one allocation.
    fn fill(&mut self, input: &[u8], at: &mut usize) {
        let missing = self.size - self.bytes.len();
        let rest = input.get(*at..).unwrap_or_default();
        let new = rest.get(..missing).unwrap_or(rest);
        if self.bytes.capacity() - self.bytes.len() < new.len() {
            let come = self.bytes.len() + new.len();
            let doubled = self.bytes.capacity().saturating_mul(2);
            let is_half_there = self.size <= come.saturating_mul(2);
            let wanted = if is_half_there { self.size } else { doubled.max(come) };
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(new);
        *at += new.len();
    }

    const fn is_complete(&self) -> bool {
        self.bytes.len() == self.size
    }
}

#[cfg(test)]
mod tests;
