//! What peers are sent: queues that are written as far as the kernel takes them.

use std::{
    io::{self, Read as _, Write as _},
    time::Instant,
};

use mdp_broker::{Outgoing, PeerId};
use mdp_transport::{ConnectionId, MessageWriter, SharedFrame};
use mdp_wire::{Token, worker::FromBroker};

use super::{ClientPort, connection_id, interest, socket_of};

/// How much may wait for one peer before it is tried to be written, within a turn.
const WRITE_AT_ONCE_BYTES: usize = 256 * 1024;

impl ClientPort {
    /// Puts a message into the queue of a peer. One that does not read gets no heartbeats: unread
    /// messages prove as much, and heartbeats would pile up.
    pub(crate) fn send(&mut self, now: Instant, to: &PeerId, message: Outgoing<SharedFrame>) {
        let id = connection_id(to);
        if is_heartbeat(&message) && self.transport.is_blocked(id) {
            return;
        }
        let token = request_token(&message);
        self.transport.send(id, token, |writer| encode(message, writer));
        if self.transport.output_bytes(id) > WRITE_AT_ONCE_BYTES && !self.transport.is_blocked(id) {
            self.write(now, id);
        }
    }

    /// Writes what waits, as far as the kernel takes it, and closes what ended.
    pub(crate) fn flush(&mut self, now: Instant) {
        while let Some(id) = self.transport.poll_writable() {
            self.write(now, id);
        }
        self.close_ended();
    }

    pub(super) fn write(&mut self, now: Instant, id: ConnectionId) {
        loop {
            let output = self.transport.output(id);
            let Some(socket) = socket_of(&mut self.sockets, id).filter(|_| !output.is_empty())
            else {
                drop(output);
                return self.ask_for_room(id, false);
            };
            match socket.stream.write_vectored(&output) {
                Ok(count) if count > 0 => {
                    drop(output);
                    self.transport.transmitted(now, id, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(output);
                    self.transport.blocked(now, id);
                    return self.ask_for_room(id, true);
                }
                // Nothing can be written any more, but what the peer said last may still be there: the
                // connection ends once that was read.
                Ok(_) | Err(_) => {
                    drop(output);
                    socket.is_closing = true;
                    if !std::mem::replace(&mut socket.is_ready, true) {
                        self.ready.push_back(id);
                    }
                    return self.transport.blocked(now, id);
                }
            }
        }
    }

    /// The poller is to tell when more can be written, or no longer. TCP always does.
    fn ask_for_room(&mut self, id: ConnectionId, is_wanted: bool) {
        let Some(socket) = socket_of(&mut self.sockets, id) else { return };
        if socket.tells_room == is_wanted || socket.stream.may_always_tell_room() {
            return;
        }
        let token = mio::Token(usize::try_from(id.number()).unwrap_or(usize::MAX));
        let registry = self.poll.registry();
        match registry.reregister(&mut socket.stream, token, interest(is_wanted)) {
            Ok(()) => socket.tells_room = is_wanted,
            // It would wait for ever.
            Err(_) => self.transport.closed(id),
        }
    }

    /// Closes the sockets of connections that ended.
    pub(super) fn close_ended(&mut self) {
        while let Some(closing) = self.transport.poll_closing() {
            let place = self.sockets.get_mut(closing.id.slot());
            let socket = place.and_then(|it| it.take_if(|socket| socket.id == closing.id));
            let Some(mut socket) = socket else { continue };
            let output = closing.output();
            if output.is_empty() {
                continue;
            }
            // What has come is read first: closing a socket with something unread takes back what was
            // written. All of it is a courtesy, tried once.
            let tried = socket
                .stream
                .write_vectored(&output)
                .and_then(|_| socket.stream.shut_down())
                .and_then(|()| socket.stream.read(&mut self.scratch));
            match tried {
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Says to all peers that nothing follows. They are read until they close their ends, because closing
    /// a socket with something unread takes back what was written.
    pub(crate) fn say_bye(&mut self) {
        for socket in self.sockets.iter_mut().flatten() {
            // A peer that is gone needs no farewell.
            match socket.stream.shut_down() {
                Ok(()) | Err(_) => {}
            }
        }
    }
}

fn encode(message: Outgoing<SharedFrame>, writer: &mut MessageWriter<'_, Token>) {
    let encoded = match message {
        Outgoing::Client(reply) => reply.encode(writer),
        Outgoing::Worker { version, message } => message.encode(version, writer),
    };
    match encoded {
        Ok(()) => {}
    }
}

/// The token of a request for a worker.
const fn request_token(message: &Outgoing<SharedFrame>) -> Option<Token> {
    match message {
        Outgoing::Worker { message: FromBroker::Request { client, .. }, .. } => Some(*client),
        Outgoing::Client(_)
        | Outgoing::Worker { message: FromBroker::Heartbeat | FromBroker::Disconnect, .. } => None,
    }
}

const fn is_heartbeat(message: &Outgoing<SharedFrame>) -> bool {
    matches!(message, Outgoing::Worker { message: FromBroker::Heartbeat, .. })
}
