//! What was measured, as text.

use std::io;

use super::{Measured, Promise};
use crate::compare::{Sample, write_rows};

const HEADINGS: [&str; 11] = [
    "load",
    "clients",
    "CPU us/req",
    "ratio",
    "libzmq us",
    "p50 us",
    "ratio",
    "p99 us",
    "req/s",
    "ratio",
    "errors",
];

/// Writes two lines for each load.
///
/// # Errors
/// The writer's.
pub fn write_table(out: &mut dyn io::Write, measured: &Measured) -> io::Result<()> {
    let mut rows = vec![HEADINGS.map(String::from)];
    for result in &measured.shapes {
        rows.push(row(result.shape.to_string(), "local", result.local, None));
        rows.push(row(String::new(), "other node", result.relay, Some(result.ratio)));
    }
    write_rows(out, &rows)
}

/// Writes the promises and what came of them.
///
/// # Errors
/// The writer's.
pub fn write_promises(out: &mut dyn io::Write, promises: &[Promise]) -> io::Result<()> {
    let width = promises.iter().map(|promise| promise.name.chars().count()).max().unwrap_or(0);
    for Promise { name, figure, target, .. } in promises {
        let verdict = if target.allows(*figure) { "met" } else { "MISSED" };
        writeln!(out, "{name:<width$}  {figure:.2} (target {target}) {verdict}")?;
    }
    Ok(())
}

/// Writes how busy the workers were whose jobs take time: only if they were is throughput theirs.
///
/// # Errors
/// The writer's.
pub fn write_busy(out: &mut dyn io::Write, measured: &Measured) -> io::Result<()> {
    for result in &measured.shapes {
        let Some([local, relay]) = result.workers_busy() else { continue };
        writeln!(
            out,
            "{}: workers had a job {:.0} % of the time, {:.0} % with clients on the other node",
            result.shape,
            local * 1e2,
            relay * 1e2
        )?;
    }
    Ok(())
}

fn row(load: String, clients: &str, sample: Sample, ratio: Option<Sample>) -> [String; 11] {
    let of_local = |figure: fn(Sample) -> f64| {
        ratio.map(|ratio| format!("{:.2}", figure(ratio))).unwrap_or_default()
    };
    [
        load,
        clients.to_owned(),
        format!("{:.2}", sample.cpu_us),
        of_local(|ratio| ratio.cpu_us),
        format!("{:.2}", sample.libzmq_us),
        format!("{:.0}", sample.p50_us),
        of_local(|ratio| ratio.p50_us),
        format!("{:.0}", sample.p99_us),
        format!("{:.0}", sample.requests_per_second),
        of_local(|ratio| ratio.requests_per_second),
        format!("{:.0}", sample.errors),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::{SHAPE_JOBS, ShapeResult, promises};

    #[test]
    fn ratios_stand_beside_the_relay() {
        let sample = |cpu_us, requests_per_second| Sample {
            cpu_us,
            requests_per_second,
            ..Sample::default()
        };
        let result = ShapeResult {
            shape: SHAPE_JOBS,
            local: sample(10.0, 16_000.0),
            relay: sample(24.0, 12_800.0),
            ratio: sample(2.4, 0.8),
            rounds: Vec::new(),
        };
        let measured = Measured { shapes: vec![result] };
        let mut out = Vec::new();

        write_table(&mut out, &measured).unwrap();
        write_promises(&mut out, &promises(&measured)).unwrap();
        write_busy(&mut out, &measured).unwrap();

        let text = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][9..], ["local", "10.00", "0.00", "0", "0", "16000", "0"], "{text}");
        assert_eq!(lines[2][..4], ["other", "node", "24.00", "2.40"], "{text}");
        assert_eq!(lines[2][8..], ["12800", "0.80", "0"], "{text}");
        assert!(text.contains("1 ms jobs  0.80 (target at least 0.95) MISSED\n"), "{text}");
        assert!(text.contains("had a job 50 % of the time, 40 % with"), "{text}");
    }
}
