//! SIGTERM and SIGINT: the first asks to stop, the second ends the process at once.

use std::{
    io, process,
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
    iterator::Signals,
};

use crate::exit::Exit;

const STOP: [i32; 2] = [SIGTERM, SIGINT];

/// What the second signal does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Second {
    /// It ends the process within the signal handler, so that nothing can be in its way.
    Ends,
    /// It ends the process after this, on the thread of the first.
    EndsAfter(fn()),
}

/// Signals are caught from here on; what the first does is said later, and none is lost until then.
#[derive(Debug)]
pub(crate) struct StopSignals {
    signals: Signals,
    second: Second,
}

impl StopSignals {
    /// Catches the signals.
    pub(crate) fn catch(second: Second) -> io::Result<Self> {
        match second {
            Second::Ends => {
                let is_second = Arc::new(AtomicBool::new(false));
                for signal in STOP {
                    // Handlers run in this order, so the first signal only arms the exit.
                    let code = i32::from(Exit::Failure.code());
                    flag::register_conditional_shutdown(signal, code, Arc::clone(&is_second))?;
                    flag::register(signal, Arc::clone(&is_second))?;
                }
            }
            Second::EndsAfter(_) => {}
        }
        Ok(Self { signals: Signals::new(STOP)?, second })
    }

    /// Calls `stop` once, on a thread of its own, at the first signal.
    pub(crate) fn on_first(self, stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let Self { mut signals, second } = self;
        let watch = move || {
            let mut signals = signals.forever();
            let Some(signal) = signals.next() else { return };
            let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            tracing::info!(signal = name, "stopping; a second signal ends the process at once");
            stop();
            if let (Second::EndsAfter(clean_up), Some(_)) = (second, signals.next()) {
                clean_up();
                end();
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop)
    }
}

#[expect(clippy::exit, reason = "a person who asks twice does not want to wait for other threads")]
fn end() {
    process::exit(i32::from(Exit::Failure.code()));
}
