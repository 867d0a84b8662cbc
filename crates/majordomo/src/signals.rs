//! Signals: the first SIGTERM or SIGINT asks to stop, the second ends the process at once; no other
//! signal that can be sent by hand ends it.

use std::{
    fs, io, process,
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ},
    flag,
    iterator::Signals,
    low_level::signal_name,
};

use crate::{children, exit::Exit};

const STOP: [i32; 2] = [SIGTERM, SIGINT];

/// What has no meaning here, and would end the process if it were not caught.
const MEANINGLESS: [i32; 3] = [SIGUSR1, SIGUSR2, SIGQUIT];

/// What the second signal does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Second {
    /// It ends the process within the signal handler, so that nothing can be in its way.
    Ends,
    /// It ends the process after this, on the thread of the first.
    EndsAfter(fn()),
}

/// What SIGHUP does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HangUp {
    /// It asks to stop, as SIGTERM does: the terminal is gone. Under nohup it does nothing.
    Stops,
    /// It opens log files again, for programs that rotate them.
    ReopensLogs,
}

/// Signals are caught from here on; what the first does is said later, and none is lost until then.
pub(crate) struct StopSignals {
    signals: Signals,
    second: Second,
    hang_up: HangUp,
    reload: Option<Reload>,
}

/// Has files read again.
type Reload = Box<dyn Fn() + Send>;

impl StopSignals {
    /// Catches the signals.
    pub(crate) fn catch(second: Second, hang_up: HangUp) -> io::Result<Self> {
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
        let is_under_nohup = hang_up == HangUp::Stops && is_ignored(SIGHUP);
        let signals = Signals::new(STOP.into_iter().chain(MEANINGLESS).chain([SIGCHLD]))?;
        if !is_under_nohup {
            signals.handle().add_signal(SIGHUP)?;
        }
        Ok(Self { signals, second, hang_up, reload: None })
    }

    /// SIGHUP, where it does not stop, has files read again.
    pub(crate) fn on_hang_up(&mut self, reload: impl Fn() + Send + 'static) {
        self.reload = Some(Box::new(reload));
    }

    /// Calls `stop` once, on a thread of its own, at the first signal.
    pub(crate) fn on_first(self, stop: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let Self { mut signals, second, hang_up, reload } = self;
        let watch = move || {
            let mut stop = Some(stop);
            for signal in signals.forever() {
                match (meaning(signal, hang_up), stop.take(), second) {
                    (Meaning::Stop, Some(stop), _) => {
                        let signal = name(signal);
                        tracing::info!(
                            signal,
                            "stopping; a second signal ends the process at once"
                        );
                        stop();
                        continue;
                    }
                    (Meaning::Stop, None, Second::EndsAfter(clean_up)) => {
                        clean_up();
                        end();
                    }
                    // The handler has ended the process.
                    (Meaning::Stop, None, Second::Ends) => {}
                    (Meaning::Child, unused, _) => {
                        children::reap_orphans();
                        stop = unused;
                    }
                    (Meaning::None(_), unused, _) if signal == SIGHUP && reload.is_some() => {
                        tracing::info!(signal = name(signal), "identities are read again");
                        reload.iter().for_each(|reload| reload());
                        stop = unused;
                    }
                    (Meaning::None(why), unused, _) => {
                        tracing::info!(signal = name(signal), "ignored: {why}");
                        stop = unused;
                    }
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop)
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Stop,
    Child,
    /// Nothing, for this reason.
    None(&'static str),
}

fn meaning(signal: i32, hang_up: HangUp) -> Meaning {
    match signal {
        SIGCHLD => Meaning::Child,
        SIGHUP if hang_up == HangUp::ReopensLogs => {
            Meaning::None("the log goes to stderr, so there is no file to open again")
        }
        signal if MEANINGLESS.contains(&signal) => Meaning::None("it has no meaning here"),
        _ => Meaning::Stop,
    }
}

fn name(signal: i32) -> &'static str {
    signal_name(signal).unwrap_or("another")
}

/// Lets a write beyond `ulimit -f` fail, instead of ending the process without a word.
pub(crate) fn survive_file_size_limit() {
    // It fails only for signals that cannot be caught.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).ok();
}

/// Whether this process was started with the signal ignored; nohup does so.
fn is_ignored(signal: i32) -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let bit = u32::try_from(signal).unwrap_or(0).saturating_sub(1);
    mask.checked_shr(bit).is_some_and(|mask| mask & 1 == 1)
}

#[expect(clippy::exit, reason = "a person who asks twice does not want to wait for other threads")]
fn end() {
    process::exit(i32::from(Exit::Failure.code()));
}
