//! Wakes a thread that waits in `zmq::poll`: one end of a socket pair is polled beside the links.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
};

use zmq::{PollEvents, PollItem};

/// The end that wakes.
#[derive(Debug)]
pub(crate) struct Bell(UnixStream);

/// The end that is waited for.
#[derive(Debug)]
pub(crate) struct BellListener(UnixStream);

/// Makes both ends.
pub(crate) fn bell() -> io::Result<(Bell, BellListener)> {
    let (bell, listener) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    listener.set_nonblocking(true)?;
    Ok((Bell(bell), BellListener(listener)))
}

impl Bell {
    /// Wakes the listener. A full pair has rung already, and a closed one has nobody to wake.
    pub(crate) fn ring(&self) {
        if let Err(error) = (&self.0).write(&[0])
            && error.kind() != io::ErrorKind::WouldBlock
        {
            tracing::trace!(%error, "nobody hears the bell");
        }
    }
}

impl BellListener {
    /// What to poll.
    pub(crate) fn poll_ring(&self) -> PollItem<'_> {
        PollItem::from_fd(self.fd(), PollEvents::POLLIN)
    }

    /// Takes all rings so far. To be called before the queue is read that the bell announces.
    pub(crate) fn silence(&self) {
        let mut rings = [0; 64];
        while (&self.0).read(&mut rings).is_ok_and(|count| count > 0) {}
    }

    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
