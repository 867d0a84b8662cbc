//! The other end: a connection that reads what the one under test writes.

use std::time::Instant;

use mdp_transport::{
    BufferPool, Connection, ConnectionLimits, Ending, Event, Flow, Introduction, LocalSocket,
    PeerIntroduction, Side, SocketType,
};

use crate::script::Script;

pub(crate) struct Listener {
    connection: Connection<()>,
    pool: BufferPool,
    socket_type: SocketType,
    introduction: Option<PeerIntroduction>,
    messages: Vec<Vec<usize>>,
    ending: Option<Ending>,
}

impl Listener {
    pub(crate) fn new(script: &Script, now: Instant) -> Self {
        let mut pool = BufferPool::default();
        let side = match script.side {
            Side::Accepting => Side::Dialling,
            Side::Dialling => Side::Accepting,
        };
        let local = LocalSocket { socket_type: SocketType::Dealer, routing_id: &[] };
        let introduction = Introduction { side, local, limits: ConnectionLimits::default() };
        Self {
            connection: Connection::new(now, &introduction, &mut pool),
            pool,
            socket_type: script.socket_type,
            introduction: None,
            messages: Vec::new(),
            ending: None,
        }
    }

    pub(crate) fn receive(&mut self, now: Instant, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        assert_eq!(self.ending, None, "nothing is written after an ERROR");
        let (introduction, messages) = (&mut self.introduction, &mut self.messages);
        let take = |event| {
            match event {
                Event::Opened(peer) => assert_eq!(introduction.replace(peer), None),
                Event::Message(message) => {
                    messages.push(message.frames.iter().map(|frame| frame.len()).collect());
                }
            }
            Flow::Continue
        };
        match self.connection.received(now, bytes, &mut self.pool, take) {
            Ok(count) => assert_eq!(count, bytes.len()),
            Err(ending) => self.ending = Some(ending),
        }
    }

    /// It understood everything.
    pub(crate) fn check(&self, was_open: bool, ending: Option<&Ending>, sent: &[Vec<usize>]) {
        let refused = Ending::PeerError("Invalid socket type".into());
        let expected = (ending == Some(&Ending::SocketType)).then_some(refused);
        assert_eq!(self.ending, expected);
        assert_eq!(self.messages, sent);
        if was_open {
            let peer = self.introduction.as_ref().expect("an open connection said who it is");
            assert_eq!((peer.socket_type, peer.minor), (self.socket_type, 1));
        }
    }
}
