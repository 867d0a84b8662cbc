//! [`Poller`]: what a thread sleeps in until one of its ports, or its bell, has news.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

use mdp_core::PortName;
use mio::{Events, Interest, Registry, Token, unix::SourceFd};

use crate::port::Port;

/// How many events the poller tells at once.
const EVENTS_MAX: usize = 1_024;
/// How many bits of a token say what a port calls something; those above say which port it is.
const PORT_SHIFT: u32 = 62;
const BELL: Token = Token(usize::MAX);

const fn prefix(port: PortName) -> usize {
    match port {
        PortName::Clients => 0,
        PortName::Nodes => 1,
    }
}

/// The token of something that a port calls by this number.
pub(crate) const fn token(port: PortName, number: u64) -> Token {
    #[expect(clippy::cast_possible_truncation, reason = "only 64-bit systems are supported")]
    let number = number as usize;
    Token((prefix(port) << PORT_SHIFT) | (number & ((1 << PORT_SHIFT) - 1)))
}

/// What a port calls what this token stands for, if it is of this port.
const fn number_of(port: PortName, token: Token) -> Option<u64> {
    if token.0 >> PORT_SHIFT == prefix(port) {
        Some((token.0 & ((1 << PORT_SHIFT) - 1)) as u64)
    } else {
        None
    }
}

/// What a thread sleeps in.
#[derive(Debug)]
pub(crate) struct Poller {
    poll: mio::Poll,
    events: Events,
    /// Whether there were as many events as the poller can tell at once.
    has_more: bool,
}

impl Poller {
    /// A poller that hears a bell.
    pub(crate) fn new(bell: BorrowedFd<'_>) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        poll.registry().register(&mut SourceFd(&bell.as_raw_fd()), BELL, Interest::READABLE)?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS_MAX), has_more: false })
    }

    /// Where ports register their sockets.
    pub(crate) fn registry(&self) -> io::Result<Registry> {
        self.poll.registry().try_clone()
    }

    /// Waits for news, and tells each port what is its own; true if the bell rang.
    pub(crate) fn poll(
        &mut self,
        timeout: Duration,
        ports: &mut [(PortName, &mut Port)],
    ) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            // A process that stood still is told so first of all; what has come meanwhile is asked for.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.poll.poll(&mut self.events, Some(Duration::ZERO))?;
            }
            Err(error) => return Err(error),
        }
        let (mut count, mut rang) = (0, false);
        for event in &self.events {
            count += 1;
            if event.token() == BELL {
                rang = true;
                continue;
            }
            for (name, port) in ports.iter_mut() {
                if let Some(number) = number_of(*name, event.token()) {
                    port.wake(number, event);
                }
            }
        }
        self.has_more = count == EVENTS_MAX;
        Ok(rang)
    }

    /// How many news there were when it was asked last.
    #[cfg(test)]
    pub(crate) fn events(&self) -> usize {
        self.events.iter().count()
    }

    /// Whether there may be news that were not told.
    pub(crate) const fn has_more(&self) -> bool {
        self.has_more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_ports_are_told_apart() {
        let highest = (1 << PORT_SHIFT) - 1;
        for name in [PortName::Clients, PortName::Nodes] {
            for number in [0, 1, 1 << 40, highest] {
                let token = token(name, number);
                assert_ne!(token, BELL);
                for other in [PortName::Clients, PortName::Nodes] {
                    let expected = (other == name).then_some(number);
                    assert_eq!(number_of(other, token), expected);
                }
            }
        }
    }
}
