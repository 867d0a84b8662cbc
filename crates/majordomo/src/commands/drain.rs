//! `majordomo drain`: a node leaves its cluster on purpose.

use std::{
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use anyhow::bail;
use serde_json::{Value, json};

use crate::{
    admin::{AdminClient, Lines},
    args::DrainArgs,
    commands::view::cell,
    exit::Exit,
    printer::{self, ProgressLine},
};

const DRAIN: &str = "/api/v1/drain";
/// How long the node may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// What a node needs besides `drain.timeout`: to tell the others, and for its last replies.
const MARGIN: Duration = Duration::from_secs(10);
/// A node that drains says something each second, so one that is silent for so long is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(10);

pub(super) fn run(args: &DrainArgs) -> anyhow::Result<Exit> {
    let client = AdminClient::new(&args.node, args.timeout.unwrap_or(ANSWER_MAX))?;
    let request = json!({ "node": args.name, "wait": args.wait });
    if args.wait {
        return wait(&client.lines(DRAIN, &request)?, args);
    }
    let answer = client.change(DRAIN, &request)?;
    if args.json {
        printer::json(&answer)?;
        return Ok(Exit::Ok);
    }
    let node = cell(&answer, "node");
    let is_again = answer.get("again").and_then(Value::as_bool).unwrap_or_default();
    let text = if is_again { "was draining already" } else { "drains" };
    printer::text(&format!("{node} {text}"))?;
    Ok(Exit::Ok)
}

/// Follows a drain to its end.
fn wait(lines: &Lines, args: &DrainArgs) -> anyhow::Result<Exit> {
    let (progress, start) = (ProgressLine::new(), Instant::now());
    let mut followed = Followed { node: "the node".to_owned(), time_max: args.timeout };
    loop {
        let time_max = followed.time_max.unwrap_or(ANSWER_MAX);
        let left = time_max.saturating_sub(start.elapsed());
        let line = match lines.next_within(left.min(SILENCE_MAX)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) if left <= SILENCE_MAX => {
                let time_max = humantime::format_duration(time_max);
                bail!("{} still drains after {time_max}, and goes on", followed.node);
            }
            Err(RecvTimeoutError::Timeout) => {
                let silence = humantime::format_duration(SILENCE_MAX);
                bail!("{} drains, and has said nothing for {silence}", followed.node);
            }
            Err(RecvTimeoutError::Disconnected) => bail!(
                "{} ended without a receipt: it was killed, or could not go on; its log says more",
                followed.node
            ),
        };
        let page: Value = serde_json::from_str(&line).unwrap_or_default();
        if page.get("event").and_then(Value::as_str) == Some("drained") {
            drop(progress);
            lines.wait_for_end(SILENCE_MAX);
            let text = if args.json { line } else { followed.receipt(&page) };
            printer::text(&text)?;
            return Ok(Exit::Ok);
        }
        followed.learn(&page);
        progress.show(&followed.progress(&page, start.elapsed()));
    }
}

/// A node that drains.
struct Followed {
    node: String,
    time_max: Option<Duration>,
}

impl Followed {
    /// A node says who it is, and how long it takes at most.
    fn learn(&mut self, page: &Value) {
        if let Some(node) = page.get("node").and_then(Value::as_str) {
            node.clone_into(&mut self.node);
        }
        if let Some(timeout) = page.get("timeout_ms").and_then(Value::as_u64) {
            let time_max = Duration::from_millis(timeout).saturating_add(MARGIN);
            self.time_max.get_or_insert(time_max);
        }
    }

    fn progress(&self, page: &Value, elapsed: Duration) -> String {
        let [in_flight, queued, workers] =
            ["in_flight", "queued", "workers"].map(|key| cell(page, key));
        format!(
            "{} drains: {in_flight} requests in flight, {queued} queued, {workers} workers, {} s",
            self.node,
            elapsed.as_secs()
        )
    }

    fn receipt(&self, page: &Value) -> String {
        let [finished, handed_over, dropped] =
            ["finished", "handed_over", "dropped"].map(|key| cell(page, key));
        let moved = page.get("leader_moved").and_then(Value::as_bool).unwrap_or_default();
        let moved = if moved { "another node leads now, " } else { "" };
        let took = page.get("took_ms").and_then(Value::as_u64).unwrap_or_default();
        let took = humantime::format_duration(Duration::from_millis(took));
        format!(
            "{} is drained: {finished} requests finished, {handed_over} handed over, {dropped} \
             dropped, {moved}in {took}",
            self.node
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed() -> Followed {
        Followed { node: "node-1".to_owned(), time_max: None }
    }

    #[test]
    fn receipt_is_a_sentence() {
        let page = json!({
            "event": "drained", "finished": 3, "handed_over": 1, "dropped": 0,
            "leader_moved": true, "took_ms": 1_250,
        });

        assert_eq!(
            followed().receipt(&page),
            "node-1 is drained: 3 requests finished, 1 handed over, 0 dropped, another node leads \
             now, in 1s 250ms"
        );
    }

    #[test]
    fn node_says_how_long_it_may_take_unless_that_was_typed() {
        let page = json!({ "node": "node-2", "timeout_ms": 20_000 });
        let mut patient = followed();
        let mut typed = Followed { time_max: Some(Duration::from_secs(1)), ..followed() };

        patient.learn(&page);
        typed.learn(&page);

        assert_eq!(
            (patient.node.as_str(), patient.time_max),
            ("node-2", Some(Duration::from_secs(30)))
        );
        assert_eq!(typed.time_max, Some(Duration::from_secs(1)));
    }
}
