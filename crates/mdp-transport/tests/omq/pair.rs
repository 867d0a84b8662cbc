//! One connection of each implementation, and the pump between them.

use std::{io::IoSlice, time::Instant};

use bytes::Bytes;
use mdp_transport::{
    BufferPool, Connection, ConnectionLimits, Ending, Event, Flow, GREETING_BYTES, Introduction,
    LocalSocket, PeerIntroduction, SharedFrame, Side, SocketType,
};
use mdp_wire::{FrameSink as _, Part, Position};
use omq_proto::proto::connection as omq;

/// Where a greeting says its minor version.
const MINOR_AT: usize = 11;

/// The frames of one message.
pub(crate) type Frames = Vec<Vec<u8>>;

/// What a pair is made of.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) side: Side,
    pub(crate) ours: SocketType,
    pub(crate) theirs: omq_proto::SocketType,
    /// The minor version that both greetings say.
    pub(crate) minor: u8,
    pub(crate) limits: ConnectionLimits,
    /// What omq calls so: body bytes, and the size of a payload for each frame.
    pub(crate) omq_max_message_size: Option<usize>,
    pub(crate) routing_ids: (&'static [u8], &'static [u8]),
    /// The lengths of the pieces in which bytes pass, again and again.
    pub(crate) pieces: Vec<usize>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            side: Side::Accepting,
            ours: SocketType::Router,
            theirs: omq_proto::SocketType::Dealer,
            minor: 1,
            limits: ConnectionLimits::default(),
            omq_max_message_size: None,
            routing_ids: (b"", b"a name"),
            pieces: vec![usize::MAX],
        }
    }
}

/// Which end gave up, and why.
#[derive(Debug)]
pub(crate) enum Failure {
    Ours(Ending),
    Omq(omq_proto::Error),
}

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) ours: Connection<u32>,
    pub(crate) pool: BufferPool,
    pub(crate) omq: omq::Connection,
    pub(crate) introduction: Option<PeerIntroduction>,
    /// What came to us.
    pub(crate) messages: Vec<Frames>,
    /// What came to omq.
    pub(crate) omq_messages: Vec<Frames>,
    pub(crate) omq_events: Vec<omq::Event>,
    setup: Setup,
    /// How many bytes passed from us and to us.
    passed: [usize; 2],
    next_piece: usize,
}

impl Pair {
    pub(crate) fn new(setup: Setup) -> Self {
        let mut pool = BufferPool::default();
        let now = Instant::now();
        let local = LocalSocket { socket_type: setup.ours, routing_id: setup.routing_ids.0 };
        let introduction = Introduction { side: setup.side, local, limits: setup.limits };
        let role = match setup.side {
            Side::Accepting => omq::Role::Client,
            Side::Dialling => omq::Role::Server,
        };
        let mut config = omq::ConnectionConfig::new(role, setup.theirs)
            .identity(Bytes::from_static(setup.routing_ids.1));
        config.max_message_size = setup.omq_max_message_size;
        Self {
            now,
            ours: Connection::new(now, &introduction, &mut pool),
            pool,
            omq: omq::Connection::new(config),
            introduction: None,
            messages: Vec::new(),
            omq_messages: Vec::new(),
            omq_events: Vec::new(),
            setup,
            passed: [0; 2],
            next_piece: 0,
        }
    }

    /// After the handshake.
    pub(crate) fn open(setup: Setup) -> Self {
        let mut pair = Self::new(setup);
        pair.exchange().unwrap();
        assert!(pair.ours.is_open() && pair.omq.is_ready(), "{:?}", pair.setup);
        pair
    }

    pub(crate) fn send(&mut self, frames: &[Vec<u8>]) {
        let mut writer = self.ours.message(None, &mut self.pool);
        for (at, frame) in frames.iter().enumerate() {
            let last = at + 1 == frames.len();
            let position = if last { Position::Last } else { Position::More };
            let Ok(()) = writer.put(Part::Frame(SharedFrame::from(frame.clone())), position);
        }
    }

    pub(crate) fn omq_send(&mut self, frames: &[Vec<u8>]) {
        self.omq.send_message(&omq_proto::Message::multipart(frames.iter().cloned())).unwrap();
    }

    /// Moves bytes until none waits. An end that gave up is given nothing more.
    pub(crate) fn exchange(&mut self) -> Result<(), Failure> {
        while self.ours.output_bytes() > 0 || self.omq.has_pending_transmit() {
            self.pass_to_omq()?;
            self.pass_to_us()?;
        }
        Ok(())
    }

    pub(crate) fn pass_to_omq(&mut self) -> Result<(), Failure> {
        let piece = self.piece();
        let mut bytes = first_bytes(&self.ours.output(), piece);
        self.ours.transmitted(self.now, bytes.len(), &mut self.pool);
        self.patch_minor(0, &mut bytes);
        let outcome = self.omq.handle_input(bytes.into());
        while let Some(event) = self.omq.poll_event() {
            self.omq_events.push(event);
        }
        while let Some(message) = self.omq.poll_message() {
            self.omq_messages.push(message.iter().map(|frame| frame.to_vec()).collect());
        }
        outcome.map_err(Failure::Omq)
    }

    pub(crate) fn pass_to_us(&mut self) -> Result<(), Failure> {
        let piece = self.piece();
        let mut bytes = first_bytes(&self.omq.transmit_chunks_capped(64), piece);
        self.omq.advance_transmit(bytes.len());
        self.patch_minor(1, &mut bytes);
        let (introduction, messages) = (&mut self.introduction, &mut self.messages);
        let take = |event| {
            match event {
                Event::Opened(peer) => assert_eq!(introduction.replace(peer), None),
                Event::Message(message) => {
                    messages.push(message.frames.iter().map(|f| f.as_ref().to_vec()).collect());
                }
            }
            Flow::Continue
        };
        let read = self.ours.received(self.now, &bytes, &mut self.pool, take);
        assert_eq!(read.map_err(Failure::Ours)?, bytes.len());
        Ok(())
    }

    /// What we would write now, all of it; taken away.
    pub(crate) fn our_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.ours.output_bytes() > 0 {
            let more = first_bytes(&self.ours.output(), usize::MAX);
            self.ours.transmitted(self.now, more.len(), &mut self.pool);
            bytes.extend(more);
        }
        bytes
    }

    /// What omq would write now; taken away.
    pub(crate) fn omq_bytes(&mut self) -> Vec<u8> {
        let bytes = self.omq.poll_transmit().to_vec();
        self.omq.advance_transmit(bytes.len());
        bytes
    }

    fn piece(&mut self) -> usize {
        let piece = self.setup.pieces[self.next_piece % self.setup.pieces.len()];
        self.next_piece += 1;
        piece.max(1)
    }

    fn patch_minor(&mut self, direction: usize, bytes: &mut [u8]) {
        let before = self.passed[direction];
        self.passed[direction] += bytes.len();
        if before < GREETING_BYTES
            && let Some(at) = MINOR_AT.checked_sub(before)
            && let Some(byte) = bytes.get_mut(at)
        {
            *byte = self.setup.minor;
        }
    }
}

pub(crate) fn first_bytes(slices: &[IoSlice<'_>], count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for slice in slices {
        let left = count - bytes.len();
        bytes.extend_from_slice(&slice[..left.min(slice.len())]);
    }
    bytes
}

pub(crate) fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect()
}
