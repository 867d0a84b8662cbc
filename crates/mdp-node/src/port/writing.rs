//! What peers are sent: queues that are written as far as the kernel takes them.

use std::{
    io::{self, Read as _, Write as _},
    time::Instant,
};

use mdp_transport::{ConnectionId, Transport};

use super::{Port, interest, socket_of};
use crate::poller::token;

/// How much may wait for one peer before it is tried to be written, within a turn.
const WRITE_AT_ONCE_BYTES: usize = 256 * 1024;

impl Port {
    /// Writes what waits for one peer, if that is much, without waiting for the end of the turn.
    pub(crate) fn write_if_much<T>(
        &mut self,
        now: Instant,
        id: ConnectionId,
        transport: &mut Transport<T>,
    ) {
        if transport.output_bytes(id) > WRITE_AT_ONCE_BYTES && !transport.is_blocked(id) {
            self.write(now, id, transport);
        }
    }

    /// Writes what waited for room in the kernel. To be called after each look at the poller: what is sent
    /// to a peer that reads must not add up.
    pub(crate) fn write_where_room<T>(&mut self, now: Instant, transport: &mut Transport<T>) {
        while let Some(id) = self.writable.pop() {
            if transport.is_blocked(id) {
                self.write(now, id, transport);
            }
        }
    }

    /// Writes what waits, as far as the kernel takes it, and closes what ended.
    pub(crate) fn flush<T>(&mut self, now: Instant, transport: &mut Transport<T>) {
        while let Some(id) = transport.poll_writable() {
            self.write(now, id, transport);
        }
        self.close_ended(transport);
    }

    fn write<T>(&mut self, now: Instant, id: ConnectionId, transport: &mut Transport<T>) {
        loop {
            let output = transport.output(id);
            let Some(socket) = socket_of(&mut self.sockets, id).filter(|_| !output.is_empty())
            else {
                drop(output);
                return self.ask_for_room(id, false, transport);
            };
            match socket.stream.write_vectored(&output) {
                Ok(count) if count > 0 => {
                    drop(output);
                    transport.transmitted(now, id, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(output);
                    socket.wants_room = true;
                    transport.blocked(now, id);
                    return self.ask_for_room(id, true, transport);
                }
                // Nothing can be written any more, but what the peer said last may still be there: the
                // connection ends once that was read.
                written @ (Ok(_) | Err(_)) => {
                    drop(output);
                    socket.failure = written.err().map(|error| error.kind());
                    socket.is_closing = true;
                    if !std::mem::replace(&mut socket.is_ready, true) {
                        self.ready.push_back(id);
                    }
                    return transport.blocked(now, id);
                }
            }
        }
    }

    /// The poller is to tell when more can be written, or no longer. TCP always does.
    fn ask_for_room<T>(&mut self, id: ConnectionId, is_wanted: bool, transport: &mut Transport<T>) {
        let Some(socket) = socket_of(&mut self.sockets, id) else { return };
        if socket.tells_room == is_wanted || socket.stream.may_always_tell_room() {
            return;
        }
        let token = token(self.name, id.number());
        match self.registry.reregister(&mut socket.stream, token, interest(is_wanted)) {
            Ok(()) => socket.tells_room = is_wanted,
            // It would wait forever.
            Err(_) => transport.closed(id),
        }
    }

    /// Closes the sockets of connections that ended.
    pub(super) fn close_ended<T>(&mut self, transport: &mut Transport<T>) {
        while let Some(closing) = transport.poll_closing() {
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

    /// Says to all peers that nothing follows, and takes no new ones. They are read until they close their
    /// ends, because closing a socket with something unread takes back what was written.
    pub(crate) fn say_bye(&mut self) {
        self.listeners.stop();
        for socket in self.sockets.iter_mut().flatten() {
            // A peer that is gone needs no farewell.
            match socket.stream.shut_down() {
                Ok(()) | Err(_) => {}
            }
        }
    }
}
