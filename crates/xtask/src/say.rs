//! What a person reads. A closed pipe is no reason to stop.

use std::{
    io::{self, Write as _},
    time::Duration,
};

/// One line, or several, on standard output.
#[cfg(not(test))]
pub(crate) fn line(text: &str) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// The same where the test runner can keep it back.
#[cfg(test)]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// One line, or several, on standard error.
pub(crate) fn complaint(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// `830 ms`, `43.2 s` or `3 min 12 s`, whatever reads best.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1_000.0)
    } else if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_the_unit_that_reads_best() {
        for (milliseconds, text) in [(7, "7 ms"), (43_210, "43.2 s"), (192_400, "3 min 12 s")] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), text);
        }
    }
}
