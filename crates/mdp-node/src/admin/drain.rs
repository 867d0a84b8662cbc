//! `POST /api/v1/drain`: asked once, then told on the way, until the receipt.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{backend::Backend, change::DrainRequest, failure::Failure};
use crate::DrainReceipt;

/// How often whoever waits is told how far the drain is.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// One JSON value per line.
const LINES: &str = "application/x-ndjson";

/// Lets the node drain. Without `wait` the answer comes at once; with it the answer is lines of
/// JSON, the last of which is the receipt. Asking again changes nothing, and may wait, too.
pub(super) fn answer(
    backend: &Arc<dyn Backend>,
    request: &DrainRequest,
) -> Result<Response, Failure> {
    if let Some(node) = request.node.as_ref().filter(|node| *node != backend.name()) {
        return Err(Failure::other_node(node, backend.name(), backend.status().as_ref()));
    }
    let receipt = backend.receipt();
    let was_draining = backend.is_draining();
    tracing::info!(again = was_draining, "a drain is asked for");
    backend.drain();
    if request.wait {
        let lines = Body::from_stream(lines(Arc::clone(backend), receipt));
        return Ok(([(header::CONTENT_TYPE, LINES)], lines).into_response());
    }
    let node = backend.name().as_str();
    let page = json!({ "draining": true, "node": node, "again": was_draining });
    Ok((StatusCode::ACCEPTED, Json(page)).into_response())
}

type Receipt = watch::Receiver<Option<DrainReceipt>>;
type Line = Result<Bytes, serde_json::Error>;

/// Whom the lines of a drain go to, and what was said.
struct Telling {
    backend: Arc<dyn Backend>,
    receipt: Receipt,
    /// When the next line is due; `None` before the first one.
    next_at: Option<Instant>,
    is_over: bool,
}

/// The first line comes at once, then one each second, then the receipt. A node that ends otherwise
/// than by its drain breaks the lines off.
fn lines(
    backend: Arc<dyn Backend>,
    receipt: Receipt,
) -> impl stream::Stream<Item = Line> + Send + 'static {
    let telling = Telling { backend, receipt, next_at: None, is_over: false };
    stream::unfold(telling, |mut telling| async move {
        if telling.is_over {
            return None;
        }
        let line = telling.next_line().await;
        Some((line, telling))
    })
}

impl Telling {
    async fn next_line(&mut self) -> Line {
        // The first line says who drains, even if that is over already.
        if let Some(at) = self.next_at
            && let Some(receipt) = until(&mut self.receipt, at).await
        {
            self.is_over = true;
            return serde_json::to_vec(&receipt).map(line);
        }
        self.next_at = Some(self.next_at.unwrap_or_else(Instant::now) + PROGRESS_INTERVAL);
        let mut progress = json!({
            "event": "draining",
            "node": self.backend.name().as_str(),
            "timeout_ms": u64::try_from(self.backend.drain_timeout().as_millis()).unwrap_or(u64::MAX),
        });
        // The broker thread may be done already, or busy.
        if let (Ok(report), Some(progress)) =
            (self.backend.totals().await, progress.as_object_mut())
        {
            let gauges = report.gauges;
            progress.insert("workers".to_owned(), gauges.workers.into());
            progress.insert("queued".to_owned(), gauges.queued_requests.into());
            let in_flight = gauges.held_requests + gauges.forwarded_requests;
            progress.insert("in_flight".to_owned(), in_flight.into());
        }
        serde_json::to_vec(&progress).map(line)
    }
}

fn line(mut json: Vec<u8>) -> Bytes {
    json.push(b'\n');
    json.into()
}

/// The receipt, if it comes until then. There is always somebody who could tell it: the backend.
async fn until(receipt: &mut Receipt, deadline: Instant) -> Option<DrainReceipt> {
    let told = timeout_at(deadline, receipt.wait_for(Option::is_some)).await;
    told.ok().and_then(|told| told.ok().and_then(|receipt| *receipt))
}
