//! Unary gRPC calls over HTTP/2, with nothing between the caller and the connection: on a machine
//! that servers and generator share, a lean generator is to etcd's advantage.

use anyhow::{Context as _, anyhow, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, Method, Request, Uri, Version};
use prost::Message;
use tokio::net::TcpStream;

/// In front of each message: one byte that says whether it is compressed, four for its length.
const PREFIX_BYTES: usize = 5;
/// How much may arrive before we say that it was read; far more than any answer has.
const WINDOW_BYTES: u32 = 1 << 20;

/// One HTTP/2 connection, which carries any number of calls at once. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Channel {
    send: SendRequest<Bytes>,
    authority: String,
}

/// A method and an encoded request, to be sent any number of times.
#[derive(Clone)]
pub(crate) struct Call {
    uri: Uri,
    message: Bytes,
}

impl Channel {
    /// Connects to `host:port`; the connection ends with the runtime.
    pub(crate) async fn connect(authority: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(authority).await.context("connect")?;
        stream.set_nodelay(true)?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(stream)
            .await
            .context("HTTP/2 handshake")?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { send, authority: authority.to_owned() })
    }

    /// A call of this method, such as `etcdserverpb.KV/Range`.
    pub(crate) fn prepare(&self, method: &str, request: &impl Message) -> anyhow::Result<Call> {
        let uri = format!("http://{}/{method}", self.authority).parse()?;
        let length = request.encoded_len();
        let mut message = BytesMut::with_capacity(PREFIX_BYTES + length);
        message.put_u8(0);
        message.put_u32(u32::try_from(length)?);
        request.encode(&mut message)?;
        Ok(Call { uri, message: message.freeze() })
    }

    /// Makes a call and waits for its answer.
    pub(crate) async fn make<A: Message + Default>(&mut self, call: &Call) -> anyhow::Result<A> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = call.uri.clone();
        let headers = request.headers_mut();
        headers.insert("te", http::HeaderValue::from_static("trailers"));
        headers.insert("content-type", http::HeaderValue::from_static("application/grpc"));

        ready(&mut self.send).await?;
        let (response, mut body) = self.send.send_request(request, false)?;
        body.send_data(call.message.clone(), true)?;
        let (head, mut body) = response.await?.into_parts();
        let message = read(&mut body).await?;
        match body.trailers().await? {
            Some(trailers) => succeeded(&trailers)?,
            // An error without a message has its status up here.
            None => succeeded(&head.headers)?,
        }
        let message = message.get(PREFIX_BYTES..).context("no message in the answer")?;
        A::decode(message).context("the answer cannot be decoded")
    }

    /// One call.
    pub(crate) async fn call<A: Message + Default>(
        &mut self,
        method: &str,
        request: &impl Message,
    ) -> anyhow::Result<A> {
        let call = self.prepare(method, request)?;
        self.make(&call).await
    }
}

/// Waits until the connection takes one more stream.
async fn ready(send: &mut SendRequest<Bytes>) -> Result<(), h2::Error> {
    std::future::poll_fn(|context| send.poll_ready(context)).await
}

/// All bytes of a body; an answer nearly always comes in one piece, which is not copied.
async fn read(body: &mut RecvStream) -> anyhow::Result<Bytes> {
    let mut whole = Bytes::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        whole = if whole.is_empty() { piece } else { [whole, piece].concat().into() };
    }
    Ok(whole)
}

fn succeeded(headers: &HeaderMap) -> anyhow::Result<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let status = text("grpc-status").ok_or_else(|| anyhow!("an answer without grpc-status"))?;
    ensure!(status == "0", "grpc-status {status}: {}", text("grpc-message").unwrap_or_default());
    Ok(())
}
