//! A bell that a thread hears in its poll: how a queue wakes a thread that waits for sockets.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The end that rings. Cheap to clone, never waits.
#[derive(Clone, Debug)]
pub(crate) struct Ringer {
    clapper: Arc<Clapper>,
}

/// The end that hears.
#[derive(Debug)]
pub(crate) struct Bell {
    sound: UnixStream,
    clapper: Arc<Clapper>,
}

#[derive(Debug)]
struct Clapper {
    stream: UnixStream,
    /// Whether it rings already, so that ringing again costs no system call.
    rings: AtomicBool,
}

/// Two ends of a new bell.
pub(crate) fn bell() -> io::Result<(Ringer, Bell)> {
    let (stream, sound) = UnixStream::pair()?;
    stream.set_nonblocking(true)?;
    sound.set_nonblocking(true)?;
    let clapper = Arc::new(Clapper { stream, rings: AtomicBool::new(false) });
    Ok((Ringer { clapper: Arc::clone(&clapper) }, Bell { sound, clapper }))
}

impl Ringer {
    /// Rings. After the message is in the queue, never before.
    pub(crate) fn ring(&self) {
        self.clapper.ring();
    }
}

impl Clapper {
    fn ring(&self) {
        if !self.rings.swap(true, Ordering::AcqRel) {
            // A stream that cannot take another byte rings already.
            match (&self.stream).write(&[1]) {
                Ok(_) | Err(_) => {}
            }
        }
    }
}

impl Bell {
    /// Readable while it rings.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.sound.as_fd()
    }

    /// Silences it. Before the queue is read, never after: a message that comes in between rings
    /// again.
    pub(crate) fn silence(&self) {
        let mut rings = [0_u8; 8];
        // Hardly ever more than one byte; what is left rings once for nothing.
        match (&self.sound).read(&mut rings) {
            Ok(_) | Err(_) => {}
        }
        // The swap sees what whoever rang last had put into the queue.
        self.clapper.rings.swap(false, Ordering::AcqRel);
    }

    /// Rings for messages that were left in the queue.
    pub(crate) fn ring_again(&self) {
        self.clapper.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn rings(bell: &Bell) -> bool {
        let mut descriptors = [PollFd::from_borrowed_fd(bell.descriptor(), PollFlags::IN)];
        poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(1)
    }

    #[test]
    fn bell_rings_until_it_is_silenced() {
        let (ringer, bell) = bell().unwrap();
        assert!(!rings(&bell));

        ringer.ring();
        ringer.ring();
        assert!(rings(&bell));

        bell.silence();
        assert!(!rings(&bell));
        bell.ring_again();
        assert!(rings(&bell));
    }

    #[test]
    fn no_message_is_left_unheard() {
        const MESSAGES: u32 = 200_000;
        let (ringer, bell) = bell().unwrap();
        let (sender, receiver) = mpsc::sync_channel(16);
        let producer = thread::spawn(move || {
            for number in 0..MESSAGES {
                sender.send(number).unwrap();
                ringer.ring();
            }
        });

        let mut next = 0;
        while next < MESSAGES {
            let mut descriptors = [PollFd::from_borrowed_fd(bell.descriptor(), PollFlags::IN)];
            let deadline = Timespec { tv_sec: 20, tv_nsec: 0 };
            assert_eq!(poll(&mut descriptors, Some(&deadline)), Ok(1), "deaf at {next}");
            bell.silence();
            while let Ok(number) = receiver.try_recv() {
                assert_eq!(number, next);
                next += 1;
            }
        }
        producer.join().unwrap();
    }
}
