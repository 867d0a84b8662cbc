//! The connection under test, and what has to be true of it after each step.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use mdp_transport::{
    BufferPool, Connection, ConnectionLimits, Ending, Event, Flow, GREETING_BYTES, Introduction,
    LARGE_FRAME_BYTES, LocalSocket, SharedFrame,
};
use mdp_wire::{FrameSink as _, Part, Position};

use crate::{listener::Listener, script::Script};

/// The first moment of every run: inputs mean the same in each process.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// The longest header.
const HEADER: usize = mdp_transport::FRAME_HEADER_BYTES_MAX;
/// What a finished frame counts for besides its bytes: its entry in the message, and an allocation.
const FRAME_COSTS: usize = size_of::<SharedFrame>() + 32;

pub(crate) struct Subject<'a> {
    script: &'a Script,
    limits: ConnectionLimits,
    connection: Connection<u64>,
    pool: BufferPool,
    now: Instant,
    /// How much of the stream was taken.
    taken: usize,
    /// How much of it was taken until the connection was open.
    opened_at: Option<usize>,
    /// How much was taken since the last event, at most.
    since_event: usize,
    stops_at_next: bool,
    events: Vec<Event>,
    ending: Option<Ending>,
    transmitted: u64,
    /// Where each message begins in the output; that is its tag, too.
    sent: Vec<(u64, Vec<usize>)>,
    listener: Listener,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(script: &'a Script) -> Self {
        let mut pool = BufferPool::default();
        let limits = ConnectionLimits {
            message_bytes_max: script.message_bytes_max,
            message_frames_max: script.message_frames_max,
            ..ConnectionLimits::default()
        };
        let local = LocalSocket { socket_type: script.socket_type, routing_id: &[] };
        let introduction = Introduction { side: script.side, local, limits };
        Self {
            script,
            limits,
            connection: Connection::new(*START, &introduction, &mut pool),
            pool,
            now: *START,
            taken: 0,
            opened_at: None,
            since_event: 0,
            stops_at_next: false,
            events: Vec::new(),
            ending: None,
            transmitted: 0,
            sent: Vec::new(),
            listener: Listener::new(script, *START),
        }
    }

    pub(crate) const fn stop_at_next(&mut self) {
        self.stops_at_next = true;
    }

    pub(crate) fn receive(&mut self, count: usize) {
        let rest = &self.script.stream[self.taken..];
        let part = &rest[..count.min(rest.len())];
        if self.ending.is_some() {
            if !part.is_empty() {
                let take = |_| panic!("an event after the end");
                let outcome = self.connection.received(self.now, part, &mut self.pool, take);
                assert_eq!(outcome, Err(Ending::AlreadyEnded));
            }
            return;
        }
        let (before, stops) = (self.events.len(), std::mem::take(&mut self.stops_at_next));
        let events = &mut self.events;
        let take = |event| {
            assert!(!stops || events.len() == before, "a reader that stopped gets no more");
            events.push(event);
            if stops { Flow::Stop } else { Flow::Continue }
        };
        let outcome = self.connection.received(self.now, part, &mut self.pool, take);
        let has_events = self.events.len() > before;
        match outcome {
            Ok(read) if stops && has_events => {
                assert!(read <= part.len());
                self.took(read, has_events);
            }
            Ok(read) => {
                assert_eq!(read, part.len(), "all is taken unless the reader stops");
                self.took(read, has_events);
                self.stops_at_next = stops;
            }
            Err(ending) => {
                self.took(part.len(), has_events);
                self.ending = Some(ending);
            }
        }
        self.check_events(before);
        self.check();
    }

    fn took(&mut self, count: usize, has_events: bool) {
        self.taken += count;
        self.since_event = if has_events { count } else { self.since_event + count };
        if self.opened_at.is_none() && has_events {
            self.opened_at = Some(self.taken);
        }
    }

    pub(crate) fn send(&mut self, sizes: [usize; 2]) {
        if !self.connection.is_open() {
            return;
        }
        let begin = self.transmitted + self.connection.output_bytes() as u64;
        let mut writer = self.connection.message(Some(begin), &mut self.pool);
        let positions = [Position::More, Position::Last];
        for (size, position) in sizes.into_iter().zip(positions) {
            let frame = SharedFrame::from(vec![7; size]);
            let Ok(()) = writer.put(Part::Frame(frame), position);
        }
        self.sent.push((begin, sizes.to_vec()));
        self.check();
    }

    pub(crate) fn transmit(&mut self, count: usize) {
        let waiting = self.connection.output_bytes();
        let slices = self.connection.output();
        assert_eq!(slices.is_empty(), waiting == 0);
        assert!(slices.iter().all(|slice| !slice.is_empty()));
        let mut offered = Vec::new();
        for slice in &slices {
            let left = count.saturating_sub(offered.len());
            offered.extend_from_slice(&slice[..left.min(slice.len())]);
        }
        drop(slices);
        self.listener.receive(*START, &offered);
        self.connection.transmitted(self.now, offered.len(), &mut self.pool);
        self.transmitted += offered.len() as u64;
        assert_eq!(self.connection.output_bytes(), waiting - offered.len());
        self.check();
    }

    /// Time passes, and what is due is done as it becomes due.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(at) = self.connection.poll_timeout().filter(|at| *at <= until) {
            // A shell that slept too long has an older one.
            self.now = self.now.max(at);
            if let Err(ending) = self.connection.handle_timeout(self.now, &mut self.pool) {
                let of_time = [Ending::HandshakeTimeout, Ending::PongTimeout, Ending::TtlExpired];
                assert!(of_time.contains(&ending), "{ending}");
                self.ending = Some(ending);
            }
            let next = self.connection.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "a timer that stays due");
        }
        self.now = until;
        self.check();
    }

    pub(crate) fn require_pong(&mut self, is_required: bool) {
        self.connection.set_pong_required(is_required);
        self.check();
    }

    /// Who the peer is comes first and once; messages stay within the limits.
    fn check_events(&self, before: usize) {
        for (at, event) in self.events.iter().enumerate().skip(before) {
            let Event::Message(message) = event else {
                assert_eq!(at, 0, "it opens first, and once");
                continue;
            };
            assert!(at > 0, "a message before READY");
            let bytes: usize = message.frames.iter().map(|frame| frame.len()).sum();
            assert!((1..=self.limits.message_frames_max).contains(&message.frames.len()));
            assert!(bytes <= self.limits.message_bytes_max);
            assert!(message.allocated_bytes <= bytes + HEADER * message.frames.len());
        }
    }

    fn check(&self) {
        let connection = &self.connection;
        let is_open = self.opened_at.is_some() && self.ending.is_none();
        assert_eq!(connection.is_open(), is_open);
        match (&self.ending, self.opened_at) {
            (Some(_), _) => assert_eq!(connection.poll_timeout(), None),
            (None, None) => {
                assert!(connection.poll_timeout().is_some(), "a handshake has a deadline");
                assert!(self.taken <= GREETING_BYTES + self.limits.handshake_bytes_max);
            }
            (None, Some(_)) => {}
        }
        let held = connection.input_bytes();
        // A frame has two bytes at least, and counts with its entry and its allocation.
        let finished = FRAME_COSTS * (self.since_event / 2);
        let growing = 2 * self.since_event.max(4);
        assert!(held <= growing + finished, "{held} of {}", self.since_event);
        // A frame that grows may take twice its bytes; what is finished takes its own.
        let frames = self.limits.message_frames_max;
        let most = self.limits.message_bytes_max
            + (HEADER + FRAME_COSTS) * frames
            + 2 * (LARGE_FRAME_BYTES + HEADER);
        assert!(held <= most, "{held}");
    }

    /// Unless a timer ended it, the same has come as in one piece.
    pub(crate) fn check_same_meaning(&self, whole: &Self) {
        let of_time = [Ending::HandshakeTimeout, Ending::PongTimeout, Ending::TtlExpired];
        if self.ending.as_ref().is_some_and(|ending| of_time.contains(ending)) {
            assert!(self.events.len() <= whole.events.len());
        } else {
            assert_eq!(self.events.len(), whole.events.len());
            assert_eq!(self.ending, whole.ending);
        }
        self.events.iter().zip(&whole.events).for_each(|pair| match pair {
            // How much is allocated depends on the cuts.
            (Event::Message(one), Event::Message(other)) => assert_eq!(one.frames, other.frames),
            (one, other) => assert_eq!(one, other),
        });
    }

    /// What is unsent is what the kernel has seen nothing of; the peer understands the rest.
    pub(crate) fn check_unsent_and_output(mut self) {
        while self.script.drains && self.connection.output_bytes() > 0 {
            self.transmit(usize::MAX);
        }
        if self.connection.output_bytes() == 0 {
            let sent: Vec<Vec<usize>> = self.sent.iter().map(|(_, sizes)| sizes.clone()).collect();
            self.listener.check(self.opened_at.is_some(), self.ending.as_ref(), &sent);
        }
        let begins = self.sent.iter().map(|(begin, _)| *begin);
        let unsent: Vec<u64> = begins.filter(|begin| *begin >= self.transmitted).collect();
        assert_eq!(self.connection.into_unsent().collect::<Vec<u64>>(), unsent);
    }
}
