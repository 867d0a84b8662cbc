//! What waits to be written to one connection.

use std::{collections::VecDeque, convert::Infallible, io::IoSlice};

use mdp_mutants::{Mutant, is_on};
use mdp_wire::{FrameSink, Part, Position};
use smallvec::SmallVec;

use crate::{FRAME_HEADER_BYTES_MAX, FrameHeader, FrameKind, SharedFrame, command, curve::Sealer};

/// From this size on, a frame is written from where it lies; a smaller one is copied beside its
/// header, which is cheaper than one more piece to write.
const SHARED_WRITE_BYTES: usize = 1_024;
/// How large a buffer for headers and small frames grows before the next one is begun.
const BUFFER_BYTES: usize = 16 * 1024;
/// How many unused buffers a pool keeps.
const POOL_BUFFERS_MAX: usize = 64;
/// How many entries an empty queue keeps room for.
const QUEUE_KEPT_MAX: usize = 4;
/// How many pieces are written at once; more need another call.
const SLICES_MAX: usize = 64;

/// The pieces of one write.
pub type OutputSlices<'a> = SmallVec<[IoSlice<'a>; SLICES_MAX]>;

/// Buffers that connections use while something waits, and give back: one pool for a thread, so
/// that an idle connection owns none.
#[derive(Debug, Default)]
pub struct BufferPool {
    unused: Vec<Vec<u8>>,
}

impl BufferPool {
    fn take(&mut self) -> Vec<u8> {
        self.unused.pop().unwrap_or_default()
    }

    fn put_back(&mut self, mut buffer: Vec<u8>) {
        if self.unused.len() < POOL_BUFFERS_MAX && buffer.capacity() <= 2 * BUFFER_BYTES {
            buffer.clear();
            self.unused.push(buffer);
        }
    }
}

/// A queue of bytes. Positions count all bytes that were ever put in or taken out, so that a message
/// knows whether the kernel has seen any of it.
#[derive(Debug)]
pub(crate) struct Outgoing<T> {
    chunks: VecDeque<Chunk>,
    /// How much of the first chunk was written.
    written: usize,
    /// The position behind the last byte in the queue.
    end: u64,
    /// The position of the first byte in the queue.
    start: u64,
    /// The messages of which no byte was written: where they begin, and their tags.
    unsent: VecDeque<(u64, Option<T>)>,
    /// Encrypts what is put in, if the mechanism does.
    sealer: Option<Box<Sealer>>,
}

#[derive(Debug)]
enum Chunk {
    /// Headers, commands, small frames.
    Copied(Vec<u8>),
    /// A frame that is written from where it lies.
    Shared(SharedFrame),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(frame) => frame.as_ref(),
        }
    }
}

impl<T> Outgoing<T> {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            written: 0,
            end: 0,
            start: 0,
            unsent: VecDeque::new(),
            sealer: None,
        }
    }

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.end - self.start).unwrap_or(usize::MAX)
    }

    /// The position of the first byte that waits.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// The position behind the last byte that waits.
    pub(crate) const fn end(&self) -> u64 {
        self.end
    }

    /// How many messages wait of which no byte was written.
    pub(crate) fn messages(&self) -> usize {
        self.unsent.len()
    }

    /// How many bytes wait in front of the newest message; none if a part of that was written.
    pub(crate) fn bytes_before_newest(&self) -> usize {
        let begin = self.unsent.back().map_or(self.start, |(begin, _)| *begin);
        usize::try_from(begin - self.start).unwrap_or(usize::MAX)
    }

    /// Appends bytes that `write` adds to a buffer.
    pub(crate) fn put_bytes(&mut self, pool: &mut BufferPool, write: impl FnOnce(&mut Vec<u8>)) {
        if !matches!(self.chunks.back(), Some(Chunk::Copied(bytes)) if bytes.len() < BUFFER_BYTES) {
            self.chunks.push_back(Chunk::Copied(pool.take()));
        }
        if let Some(Chunk::Copied(bytes)) = self.chunks.back_mut() {
            let before = bytes.len();
            write(bytes);
            self.end = self.end.saturating_add(length(bytes.len() - before));
        }
    }

    /// From now on messages and commands are encrypted.
    pub(crate) fn set_sealer(&mut self, sealer: Sealer) {
        self.sealer = Some(Box::new(sealer));
    }

    /// Whether nothing can be encrypted any more: something that was put in was left out.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.sealer.as_ref().is_some_and(|sealer| sealer.is_exhausted())
    }

    /// Appends a command of the traffic.
    pub(crate) fn put_command(&mut self, pool: &mut BufferPool, parts: &[&[u8]]) {
        match self.sealer.take() {
            None => self.put_bytes(pool, |buffer| command::put(parts, buffer)),
            Some(mut sealer) => {
                self.put_bytes(pool, |buffer| sealer.put(FrameKind::Command, parts, buffer));
                self.sealer = Some(sealer);
            }
        }
    }

    /// Appends a frame in a box. A large one gets a buffer of its size: it has to be copied in any case.
    fn put_sealed(&mut self, pool: &mut BufferPool, kind: FrameKind, frame: &[u8]) {
        let Some(mut sealer) = self.sealer.take() else { return };
        let size = Sealer::sealed_bytes(frame.len());
        if size < BUFFER_BYTES {
            self.put_bytes(pool, |buffer| sealer.put(kind, &[frame], buffer));
        } else {
            let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES_MAX + size);
            sealer.put(kind, &[frame], &mut bytes);
            self.end = self.end.saturating_add(length(bytes.len()));
            self.chunks.push_back(Chunk::Copied(bytes));
        }
        self.sealer = Some(sealer);
    }

    /// A writer for one message. A tag comes back if no byte of the message reaches the kernel.
    pub(crate) fn message<'a>(
        &'a mut self,
        tag: Option<T>,
        pool: &'a mut BufferPool,
    ) -> MessageWriter<'a, T> {
        let begin = if is_on(Mutant::SentToldUnsent) { u64::MAX } else { self.end };
        self.unsent.push_back((begin, tag));
        MessageWriter { outgoing: self, pool }
    }

    /// What is to be written next.
    pub(crate) fn slices(&self) -> OutputSlices<'_> {
        let mut skip = self.written;
        let slices = self.chunks.iter().take(SLICES_MAX).filter_map(|chunk| {
            let bytes = chunk.bytes().get(skip..).unwrap_or_default();
            skip = 0;
            (!bytes.is_empty()).then(|| IoSlice::new(bytes))
        });
        slices.collect()
    }

    /// The kernel took this many bytes.
    pub(crate) fn transmitted(&mut self, count: usize, pool: &mut BufferPool) {
        let mut left = count.min(self.bytes());
        self.start = self.start.saturating_add(length(left));
        while let Some(first) = self.chunks.front() {
            let unwritten = first.bytes().len() - self.written;
            if left < unwritten {
                self.written += left;
                break;
            }
            left -= unwritten;
            self.written = 0;
            if let Some(Chunk::Copied(buffer)) = self.chunks.pop_front() {
                pool.put_back(buffer);
            }
        }
        if self.chunks.is_empty() {
            shrink(&mut self.chunks);
        }
        while self.unsent.front().is_some_and(|(begin, _)| *begin < self.start) {
            self.unsent.pop_front();
        }
        if self.unsent.is_empty() {
            shrink(&mut self.unsent);
        }
    }

    /// The tags of the messages of which no byte reached the kernel, in their order.
    pub(crate) fn into_unsent(self) -> impl Iterator<Item = T> {
        self.unsent.into_iter().filter_map(|(_, tag)| tag)
    }
}

/// Takes the frames of one message that leaves.
#[derive(Debug)]
pub struct MessageWriter<'a, T> {
    outgoing: &'a mut Outgoing<T>,
    pool: &'a mut BufferPool,
}

impl<T> FrameSink<SharedFrame> for MessageWriter<'_, T> {
    type Error = Infallible;

    fn put(&mut self, part: Part<'_, SharedFrame>, position: Position) -> Result<(), Infallible> {
        let kind = match position {
            Position::More => FrameKind::MoreFollow,
            Position::Last => FrameKind::LastOfMessage,
        };
        if self.outgoing.sealer.is_some() {
            self.outgoing.put_sealed(self.pool, kind, part.as_ref());
            return Ok(());
        }
        let header = FrameHeader { kind, size: length(part.as_ref().len()) };
        match part {
            // One that is a small part of what came with it would keep all of that, uncounted.
            Part::Frame(frame)
                if frame.len() >= SHARED_WRITE_BYTES && frame.is_most_of_its_memory() =>
            {
                self.outgoing.put_bytes(self.pool, |buffer| header.encode(buffer));
                self.outgoing.end = self.outgoing.end.saturating_add(header.size);
                self.outgoing.chunks.push_back(Chunk::Shared(frame));
            }
            Part::Frame(_) | Part::Bytes(_) => self.outgoing.put_bytes(self.pool, |buffer| {
                header.encode(buffer);
                buffer.extend_from_slice(part.as_ref());
            }),
        }
        Ok(())
    }
}

/// Lets an empty queue keep so little room that the next message needs no allocation, and an idle
/// connection hardly any memory.
fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > QUEUE_KEPT_MAX {
        *queue = VecDeque::new();
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that waits, in one piece.
    fn waiting(outgoing: &Outgoing<u32>) -> Vec<u8> {
        outgoing.slices().iter().flat_map(|slice| slice.to_vec()).collect()
    }

    fn put(outgoing: &mut Outgoing<u32>, pool: &mut BufferPool, tag: u32, frames: &[usize]) {
        let mut writer = outgoing.message(Some(tag), pool);
        for (at, size) in frames.iter().enumerate() {
            let last = at + 1 == frames.len();
            let position = if last { Position::Last } else { Position::More };
            let body = vec![u8::try_from(at).unwrap(); *size];
            let Ok(()) = writer.put(Part::Frame(SharedFrame::from(body)), position);
        }
    }

    #[test]
    fn bytes_leave_in_their_order_however_few_the_kernel_takes() {
        for step in [1, 2, 7, 300, 100_000] {
            let mut pool = BufferPool::default();
            let mut outgoing = Outgoing::new();
            put(&mut outgoing, &mut pool, 1, &[0, 5, 255, 256]);
            put(&mut outgoing, &mut pool, 2, &[2_000, 3, 70_000]);
            let expected = waiting(&outgoing);
            assert_eq!(expected.len(), outgoing.bytes());
            let mut seen = Vec::new();
            while outgoing.bytes() > 0 {
                let next = waiting(&outgoing);
                let count = step.min(next.len());
                seen.extend_from_slice(&next[..count]);
                outgoing.transmitted(count, &mut pool);
            }
            assert_eq!(seen, expected, "{step}");
            assert!(outgoing.chunks.capacity() <= QUEUE_KEPT_MAX);
            assert!(outgoing.unsent.capacity() <= QUEUE_KEPT_MAX);
        }
    }

    #[test]
    fn small_frames_are_one_piece_and_large_ones_are_not_copied() {
        let mut pool = BufferPool::default();
        let mut outgoing = Outgoing::new();
        put(&mut outgoing, &mut pool, 1, &[0, 6, 4, 64]);
        put(&mut outgoing, &mut pool, 2, &[0, 6, 4, 64]);
        assert_eq!(outgoing.slices().len(), 1);
        let frame = SharedFrame::from(vec![9; SHARED_WRITE_BYTES]);
        let address = frame.as_ref().as_ptr();
        let Ok(()) = outgoing.message(None, &mut pool).put(Part::Frame(frame), Position::Last);
        assert_eq!(outgoing.slices()[1].as_ptr(), address);
    }

    #[test]
    fn message_is_unsent_until_its_first_byte_reached_the_kernel() {
        let run = |count: usize| {
            let mut pool = BufferPool::default();
            let mut outgoing = Outgoing::new();
            put(&mut outgoing, &mut pool, 1, &[10]);
            put(&mut outgoing, &mut pool, 2, &[10]);
            outgoing.transmitted(count, &mut pool);
            (outgoing.messages(), outgoing.into_unsent().collect::<Vec<u32>>())
        };
        assert_eq!(run(0), (2, vec![1, 2]));
        assert_eq!(run(1), (1, vec![2]));
        assert_eq!(run(12), (1, vec![2]));
        assert_eq!(run(13), (0, vec![]));
        assert_eq!(run(1_000), (0, vec![]));
    }

    #[test]
    fn buffers_are_used_again_and_few_are_kept() {
        let mut pool = BufferPool::default();
        let mut outgoing = Outgoing::new();
        put(&mut outgoing, &mut pool, 1, &[100]);
        let buffer = outgoing.slices()[0].as_ptr();
        outgoing.transmitted(102, &mut pool);
        put(&mut outgoing, &mut pool, 2, &[100]);
        assert_eq!(outgoing.slices()[0].as_ptr(), buffer);
        outgoing.transmitted(102, &mut pool);
        for _ in 0..2 * POOL_BUFFERS_MAX {
            pool.put_back(Vec::with_capacity(10));
        }
        assert_eq!(pool.unused.len(), POOL_BUFFERS_MAX);
        pool.unused.clear();
        pool.put_back(Vec::with_capacity(10 * BUFFER_BYTES));
        assert_eq!(pool.unused.len(), 0);
    }
}
