//! Accepting connections and answering on them, each with a deadline for everything.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, Request, Response, StatusCode, header},
    response::IntoResponse as _,
};
use futures_util::{FutureExt as _, future::BoxFuture};
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::Service,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::sleep};

use super::{
    connection::{Connection, Remote},
    slots::{Busy, Slot, Slots},
};
use crate::DrainReceipt;

/// How long the head of a request may take, from when the connection waits for one: an idle
/// connection ends then, too.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long to wait after the system refused a connection, for instance because of too many open
/// files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The paths of probes.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// Whether this is the path of a probe, which is answered whatever else goes on.
pub(super) fn is_probe(path: &str) -> bool {
    PROBES.contains(&path)
}

/// Serves until the node has drained and the last answers have left. Dropping it ends all
/// connections.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    mut drained: watch::Receiver<Option<DrainReceipt>>,
) {
    let slots = Arc::new(Slots::default());
    // Not the receipt itself: a node waits for those that hold it, and they are who asked for it.
    let (leaving, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    // One too many is closed: all others are being answered.
                    if let Some(slot) = slots.admit(from.ip()) {
                        let routes = routes.clone();
                        let answers = Answers { routes, remote: Remote::new(from), slot: slot.into() };
                        connections.spawn(converse(Connection::new(stream), answers, leaving.subscribe()));
                    }
                }
                Err(error) => after_refusal(&error).await,
            },
            Some(_) = connections.join_next() => {}
            () = has_drained(&mut drained) => break,
        }
    }
    drop((listener, drained));
    leaving.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// A connection that ended before it was accepted is no reason to wait.
async fn after_refusal(error: &io::Error) {
    const OVER: [io::ErrorKind; 3] = [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionRefused,
    ];
    if !OVER.contains(&error.kind()) {
        tracing::debug!(%error, "the administration port cannot accept");
        sleep(ACCEPT_PAUSE).await;
    }
}

async fn has_drained(drained: &mut watch::Receiver<Option<DrainReceipt>>) {
    if drained.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// One connection, from its first request to its last.
async fn converse(connection: Connection, answers: Answers, mut leaving: watch::Receiver<bool>) {
    let slot = Arc::clone(&answers.slot);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let mut conversation = pin!(http.serve_connection(TokioIo::new(connection), answers));
    tokio::select! {
        // What went wrong is the peer's business.
        _ = &mut conversation => return,
        () = slot.ended() => return,
        // Dropped only with this connection.
        _ = leaving.wait_for(|is_leaving| *is_leaving) => {}
    }
    conversation.as_mut().graceful_shutdown();
    drop(conversation.await);
}

/// What answers the requests of one connection.
struct Answers {
    routes: Router,
    remote: Remote,
    slot: Arc<Slot>,
}

impl Service<Request<Incoming>> for Answers {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let Some(busy) = self.slot.begin(is_probe(request.uri().path())) else {
            return async { Ok(too_many()) }.boxed();
        };
        request.extensions_mut().insert(ConnectInfo(self.remote));
        let slot = Arc::clone(&self.slot);
        let answer = TowerToHyperService::new(self.routes.clone()).call(request);
        async move {
            let mut response = answer.await?;
            if slot.is_short() {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Body::new(Answer { body, _busy: busy })))
        }
        .boxed()
    }
}

fn too_many() -> Response<Body> {
    let error = json!({ "error": "too many requests are being answered; try again" });
    let headers = [(header::CONNECTION, "close"), (header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, headers, Json(error)).into_response()
}

/// The body of an answer, which keeps its connection busy until the last of it was taken over to be sent.
struct Answer {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answer {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
