//! Accepting connections and answering on them, each with a deadline for everything.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, Request, Response, StatusCode, header},
    response::IntoResponse as _,
};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::Service,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Handle,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    connection::{Connection, Remote},
    gate::AccessTotals,
    listener::{Accepted, Listener},
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

/// What all connections share.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) routes: Router,
    /// Where answers are made; `None`: where connections are served.
    pub(super) runtime: Option<Handle>,
    pub(super) totals: Arc<AccessTotals>,
}

/// Serves until the node has drained and the last answers have left. Dropping it ends all
/// connections.
pub(super) async fn serve(
    listeners: Vec<Listener>,
    serving: Serving,
    drained: watch::Receiver<Option<DrainReceipt>>,
) {
    let each = listeners.into_iter().map(|one| listen(one, serving.clone(), drained.clone()));
    let all = join_all(each);
    drop((serving, drained));
    all.await;
}

/// Serves the connections of one listener, which have slots of their own: the node's own user gets in at the
/// Unix socket, however many connections there are by TCP.
async fn listen(
    listener: Listener,
    serving: Serving,
    mut drained: watch::Receiver<Option<DrainReceipt>>,
) {
    let slots = Arc::new(Slots::default());
    // Not the receipt itself: a node waits for those that hold it, and they are who asked for it.
    let (leaving, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    // One too many is closed: all others are being answered.
                    if let Some(slot) = slots.admit(remote.ip()) {
                        let answers = Answers { serving: serving.clone(), remote, slot: slot.into() };
                        connections.spawn(begin(stream, answers, leaving.subscribe()));
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

/// One connection, from what comes before its first request.
async fn begin(stream: Accepted, answers: Answers, leaving: watch::Receiver<bool>) {
    match stream {
        Accepted::Plain(stream) => converse(Connection::new(stream), answers, leaving).await,
        Accepted::Unix(stream) => converse(Connection::new(stream), answers, leaving).await,
        Accepted::Secured(stream, tls) => {
            if let Some(stream) = secure(Connection::new(stream), tls, &answers).await {
                converse(stream, answers, leaving).await;
            }
        }
    }
}

/// The handshake of TLS, which ends as the head of a request does: after a while, or when another connection
/// needs its slot.
async fn secure(
    connection: Connection<TcpStream>,
    tls: Arc<ServerConfig>,
    answers: &Answers,
) -> Option<Box<TlsStream<Connection<TcpStream>>>> {
    let handshake = timeout(HEAD_TIMEOUT, TlsAcceptor::from(tls).accept(connection));
    let failed = tokio::select! {
        secured = Box::pin(handshake) => match secured {
            Ok(Ok(stream)) => return Some(Box::new(stream)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        },
        () = answers.slot.ended() => "another connection needed its slot".to_owned(),
    };
    answers.serving.totals.handshake_failed();
    tracing::debug!(from = %answers.remote, "a TLS handshake of the administration port failed: {failed}");
    None
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
async fn converse(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    answers: Answers,
    mut leaving: watch::Receiver<bool>,
) {
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
    serving: Serving,
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
        let answer = TowerToHyperService::new(self.serving.routes.clone()).call(request);
        let answer = match &self.serving.runtime {
            None => answer.boxed(),
            Some(runtime) => Elsewhere(runtime.spawn(answer)).answer().boxed(),
        };
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

/// An answer that another runtime makes, and gives up when nothing waits for it any more.
struct Elsewhere(JoinHandle<Result<Response<Body>, Infallible>>);

impl Elsewhere {
    async fn answer(mut self) -> Result<Response<Body>, Infallible> {
        (&mut self.0).await.unwrap_or_else(|_| Ok(stopped()))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn stopped() -> Response<Body> {
    let error = json!({ "error": "the node has stopped" });
    (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response()
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
