//! What was measured, as text.

use std::io;

use super::{Measured, PROMISED_WINDOW, RATE_RATIO_MIN};
use crate::compare::{Sample, write_rows};

const HEADINGS: [&str; 9] =
    ["in flight", "answer", "answers/s", "ratio", "p50 us", "ratio", "p99 us", "CPU us", "errors"];

/// Writes two lines for each window.
///
/// # Errors
/// The writer's.
pub fn write_table(out: &mut dyn io::Write, measured: &Measured) -> io::Result<()> {
    let mut rows = vec![HEADINGS.map(String::from)];
    for result in &measured.windows {
        let window = result.window.to_string();
        rows.push(row(window, "local, 501", result.local, None));
        rows.push(row(String::new(), "mmi.service, 200", result.linearizable, Some(result.ratio)));
    }
    write_rows(out, &rows)
}

/// Writes the promise and what came of it.
///
/// # Errors
/// The writer's.
pub fn write_promise(out: &mut dyn io::Write, ratio: f64) -> io::Result<()> {
    let verdict = if ratio >= RATE_RATIO_MIN { "met" } else { "MISSED" };
    writeln!(
        out,
        "rate of linearizable answers to that of local ones, {PROMISED_WINDOW} in flight: \
         {ratio:.2} (target at least {RATE_RATIO_MIN:.2}) {verdict}"
    )
}

fn row(window: String, answer: &str, sample: Sample, ratio: Option<Sample>) -> [String; 9] {
    let of_local = |figure: fn(Sample) -> f64| {
        ratio.map(|ratio| format!("{:.2}", figure(ratio))).unwrap_or_default()
    };
    [
        window,
        answer.to_owned(),
        format!("{:.0}", sample.requests_per_second),
        of_local(|ratio| ratio.requests_per_second),
        format!("{:.0}", sample.p50_us),
        of_local(|ratio| ratio.p50_us),
        format!("{:.0}", sample.p99_us),
        format!("{:.2}", sample.cpu_us),
        format!("{:.0}", sample.errors),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmi::WindowResult;

    #[test]
    fn ratios_stand_beside_the_linearizable_answers() {
        let sample = |rate| Sample { requests_per_second: rate, ..Sample::default() };
        let result = WindowResult {
            window: PROMISED_WINDOW,
            local: sample(1_000.0),
            linearizable: sample(700.0),
            ratio: sample(0.7),
            rounds: Vec::new(),
        };
        let measured = Measured { windows: vec![result], elections: 0 };
        let mut out = Vec::new();

        write_table(&mut out, &measured).unwrap();
        write_promise(&mut out, measured.promised_ratio().unwrap()).unwrap();

        let text = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][..4], ["256", "local,", "501", "1000"], "{text}");
        assert_eq!(lines[2][..4], ["mmi.service,", "200", "700", "0.70"], "{text}");
        assert_eq!(lines[3].last(), Some(&"met"), "{text}");
    }
}
