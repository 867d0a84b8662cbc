//! The blocking client.

mod connections;
mod core;
pub(crate) mod driver;
pub(crate) mod outstanding;
mod pipeline;
pub(crate) mod replies;

use std::time::Duration;

use mdp_wire::ServiceName;

pub(crate) use self::core::Notice;
pub use self::pipeline::{Completion, Pipeline};
use crate::{
    CallError, CallOptions, ClientOptions, ConnectError, Correlation, IntoFrames, PipelineError,
    RequestId, Version,
    client::{
        driver::{Driver, Patience},
        outstanding::Lane,
    },
    listing::{Listing, MMI_ENDPOINTS},
};

/// Asks services by way of a broker, one request after the other, and waits for the replies.
///
/// Each attempt waits for [`ClientOptions::timeout`]; then, or at once when the connection is
/// known to be dead, the request is sent again with a new socket to the next endpoint. 7/MDP
/// takes services to be idempotent: with more than one attempt a worker may see a request twice,
/// unless [`ClientOptions::idempotent`] says that it must not.
///
/// A request whose connection is not established goes to any other broker that can be reached
/// before, without an attempt being counted. Connections are made, and brokers asked, while calls
/// are made: between calls this client does nothing.
///
/// On the wire the client looks like the REQ client that MDP7-11 asks for. It uses a DEALER, which
/// adds the empty frame itself (MDP7-13), because a REQ socket cannot pass over a reply that
/// belongs to something else and go on waiting.
///
/// ```
/// # use std::thread;
/// # let context = zmq::Context::new();
/// # let broker = context.socket(zmq::ROUTER)?;
/// # broker.bind("inproc://call")?;
/// # let broker = thread::spawn(move || {
/// #     let request = broker.recv_multipart(0).unwrap();
/// #     broker.send_multipart(request, 0).unwrap();
/// # });
/// use mdp_client::{Client, ClientOptions};
///
/// let options = ClientOptions::new(["inproc://call"]); // "broker-1:5555", "broker-2:5555", ...
/// # let options = options.context(context.clone());
/// let mut client = Client::connect(options)?;
/// let reply = client.call("echo", "hello")?;
/// assert_eq!(reply.frames, [b"hello"]);
/// assert_eq!(reply.attempts, 1);
/// # broker.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Client {
    driver: Driver,
    version: Version,
    correlation: Correlation,
    reply_bytes_max: usize,
}

impl Client {
    /// Makes a client. The connection is made with the first request.
    ///
    /// # Errors
    /// The options cannot be used.
    pub fn connect(options: ClientOptions) -> Result<Self, ConnectError> {
        let ClientOptions { version, correlation, reply_bytes_max, .. } = options;
        Ok(Self { driver: Driver::new(options)?, version, correlation, reply_bytes_max })
    }

    /// Asks a service and waits for the whole reply. In 0.2 the frames of partial replies come
    /// first, then those of the final one.
    ///
    /// # Errors
    /// No reply came, or it is too large.
    pub fn call(
        &mut self,
        service: impl AsRef<[u8]>,
        body: impl IntoFrames,
    ) -> Result<Reply, CallError> {
        self.call_with_options(service, body, CallOptions::new())
    }

    /// As [`Self::call`], with something else than the client's options.
    ///
    /// ```no_run
    /// # use mdp_client::{CallError, CallOptions, Client, ClientOptions};
    /// # let mut client = Client::connect(ClientOptions::default())?;
    /// let once = CallOptions::new().idempotent(false);
    /// match client.call_with_options("billing", "charge 5", once) {
    ///     Ok(reply) => println!("charged: {}", reply.request_id),
    ///     Err(CallError::MayHaveBeenExecuted { request_id, .. }) => println!("ask: {request_id}"),
    ///     Err(error) => println!("not charged: {error}"),
    /// }
    /// # Ok::<(), mdp_client::ConnectError>(())
    /// ```
    ///
    /// # Errors
    /// No reply came, or it is too large.
    pub fn call_with_options(
        &mut self,
        service: impl AsRef<[u8]>,
        body: impl IntoFrames,
        options: CallOptions,
    ) -> Result<Reply, CallError> {
        let service = ServiceName::try_from(service.as_ref())?;
        let mut collected = Collected::new(self.reply_bytes_max);
        let asked = (service.clone(), body.into_frames(), options);
        let reply = self.ask(asked, &mut |id, partial| collected.push(id, &service, partial))?;
        collected.complete(&service, reply)
    }

    /// Asks a service, gives each partial reply (0.2) to `on_partial` as it comes, and returns
    /// the final one. Each part starts the timeout anew.
    ///
    /// ```
    /// # use std::thread;
    /// # let context = zmq::Context::new();
    /// # let broker = context.socket(zmq::ROUTER)?;
    /// # broker.bind("inproc://call_with")?;
    /// # let broker = thread::spawn(move || {
    /// #     let mut frames = broker.recv_multipart(0).unwrap();
    /// #     for (command, body) in [(2, "first"), (2, "second"), (3, "last")] {
    /// #         frames[2] = vec![command];
    /// #         frames[4] = body.into();
    /// #         broker.send_multipart(&frames, 0).unwrap();
    /// #     }
    /// # });
    /// # use mdp_client::{Client, ClientOptions, Version};
    /// # let options = ClientOptions::new(["inproc://call_with"]).context(context.clone());
    /// # let mut client = Client::connect(options.version(Version::V02))?;
    /// let mut parts = Vec::new();
    /// let last = client.call_with("report", "2026", |part| parts.push(part))?;
    /// assert_eq!(parts, [[b"first".to_vec()], [b"second".to_vec()]]);
    /// assert_eq!(last.frames, [b"last"]);
    /// # broker.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// No reply came, or it broke off: after a first part the request is not sent again.
    pub fn call_with(
        &mut self,
        service: impl AsRef<[u8]>,
        body: impl IntoFrames,
        on_partial: impl FnMut(Vec<Vec<u8>>),
    ) -> Result<Reply, CallError> {
        self.call_with_parts(service, body, CallOptions::new(), on_partial)
    }

    /// As [`Self::call_with`], with something else than the client's options.
    ///
    /// # Errors
    /// No reply came, or it broke off: after a first part the request is not sent again.
    pub fn call_with_parts(
        &mut self,
        service: impl AsRef<[u8]>,
        body: impl IntoFrames,
        options: CallOptions,
        mut on_partial: impl FnMut(Vec<Vec<u8>>),
    ) -> Result<Reply, CallError> {
        let service = ServiceName::try_from(service.as_ref())?;
        self.ask((service, body.into_frames(), options), &mut |_, partial| {
            on_partial(partial);
            Ok(())
        })
    }

    /// Asks the broker whether any worker offers a service (8/MMI, `mmi.service`).
    ///
    /// # Errors
    /// No reply came.
    pub fn mmi_service(&mut self, service: impl AsRef<[u8]>) -> Result<Availability, CallError> {
        let reply = self.call(MMI_SERVICE, service.as_ref())?;
        Ok(Availability::from_reply(&reply))
    }

    /// Sends requests without waiting for the replies of earlier ones, at most `limit` at a time:
    /// up to [`PIPELINED_REQUESTS_MAX`](crate::PIPELINED_REQUESTS_MAX) over one socket with
    /// [`Correlation::Envelope`] in 0.1, else up to
    /// [`CLIENT_SOCKETS_MAX`](crate::CLIENT_SOCKETS_MAX), each with its own socket.
    ///
    /// ```
    /// # use std::thread;
    /// # let context = zmq::Context::new();
    /// # let broker = context.socket(zmq::ROUTER)?;
    /// # broker.bind("inproc://pipeline")?;
    /// # let broker = thread::spawn(move || {
    /// #     let requests: Vec<_> = (0..3).map(|_| broker.recv_multipart(0).unwrap()).collect();
    /// #     for request in requests.iter().rev() {
    /// #         broker.send_multipart(request, 0).unwrap();
    /// #     }
    /// # });
    /// # use mdp_client::{Client, ClientOptions};
    /// # let options = ClientOptions::new(["inproc://pipeline"]).context(context.clone());
    /// # let mut client = Client::connect(options)?;
    /// let mut pipeline = client.pipeline(100)?;
    /// let ids = [pipeline.send("echo", "a")?, pipeline.send("echo", "b")?, pipeline.send("echo", "c")?];
    /// while let Some(completion) = pipeline.recv() {
    ///     let place = ids.iter().position(|id| *id == completion.id).ok_or("unknown id")?;
    ///     assert_eq!(completion.result?.frames, [[b"abc"[place]]]);
    /// }
    /// # broker.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The limit is zero or too high.
    pub fn pipeline(&mut self, limit: usize) -> Result<Pipeline<'_>, PipelineError> {
        let (lane, max) = driver::pipeline_lane(self.version, self.correlation);
        if limit == 0 || limit > max {
            return Err(PipelineError::LimitOutOfRange { limit, max });
        }
        Ok(Pipeline::new(&mut self.driver, lane, limit, self.reply_bytes_max))
    }

    /// What the client has seen since it was made.
    #[must_use]
    pub fn counters(&self) -> ClientCounters {
        self.driver.counters()
    }

    fn ask(
        &mut self,
        (service, body, options): (ServiceName, Vec<Vec<u8>>, CallOptions),
        on_partial: &mut OnPartial<'_>,
    ) -> Result<Reply, CallError> {
        if self.driver.is_too_large(&service, &body) {
            self.ask_for_limits();
        }
        if options.fail_fast {
            CallError::foreseen(&service, self.availability(&service).as_ref())?;
        }
        let result = self.ask_once((service.clone(), body, options), on_partial);
        result.map_err(|error| {
            if error.needs_availability() {
                error.explained_by(self.availability(&service))
            } else {
                error
            }
        })
    }

    /// A request that is refused by the limits that are known may still suit the broker's own.
    fn ask_for_limits(&mut self) {
        let Ok(question) = ServiceName::try_from(MMI_ENDPOINTS) else { return };
        let asked = (question, Vec::new(), QUESTION);
        if let Ok(reply) = self.ask_once(asked, &mut |_, _| Ok(())) {
            self.driver.learn_limits(&Listing::from_body(&reply.frames));
        }
    }

    /// What the broker says about the service, if it says something soon. It is asked nothing about
    /// its own services.
    fn availability(&mut self, service: &ServiceName) -> Option<Availability> {
        if service.is_reserved() {
            return None;
        }
        let question = ServiceName::try_from(MMI_SERVICE).ok()?;
        let body = vec![service.as_bytes().to_vec()];
        let reply = self.ask_once((question, body, QUESTION), &mut |_, _| Ok(()));
        reply.ok().as_ref().map(Availability::from_reply)
    }

    fn ask_once(
        &mut self,
        (service, body, options): (ServiceName, Vec<Vec<u8>>, CallOptions),
        on_partial: &mut OnPartial<'_>,
    ) -> Result<Reply, CallError> {
        // What came unasked since the last call must not be taken for the answer to this one.
        self.driver.discard_unasked()?;
        let asked = self.driver.submit(Lane::Exclusive, service, body, options);
        loop {
            while let Some(notice) = self.driver.poll_notice() {
                match notice {
                    Notice::Done { id, result } if id == asked => return result,
                    Notice::Partial { id, frames } if id == asked => {
                        on_partial(asked, frames).inspect_err(|_| self.driver.cancel(asked))?;
                    }
                    Notice::Done { .. } | Notice::Partial { .. } => {}
                }
            }
            let turned = self.driver.turn(Patience::Io);
            turned.inspect_err(|_| self.driver.cancel(asked))?;
        }
    }
}

/// Takes a part of the reply to a request.
type OnPartial<'a> = dyn FnMut(RequestId, Vec<Vec<u8>>) -> Result<(), CallError> + 'a;

/// How `mmi.service` is asked when a call has failed, or before: a broker answers from its memory,
/// or says after half a second that it cannot know, and a call that has failed is not to be held up.
pub(crate) const QUESTION: CallOptions =
    CallOptions::new().timeout(Duration::from_secs(1)).attempts(1);

/// The reply to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The request that it answers, for logs. MDP has no header for it: see [`RequestId`].
    pub request_id: RequestId,
    /// The body. In 0.2 the frames of all parts that nothing else took, in order.
    pub frames: Vec<Vec<u8>>,
    /// The endpoint that answered.
    pub endpoint: String,
    /// The attempt that was answered, counted from 1.
    pub attempts: u32,
    /// The time since the request was made, all attempts together.
    pub elapsed: Duration,
}

/// What `mmi.service` says about a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Availability {
    /// `200`: a worker is registered.
    Offered,
    /// `404`: no worker is registered.
    NotOffered,
    /// `403`: this client's identity may neither call the service nor register it.
    NotAllowed,
    /// Any other code: `501` where the broker has no such service, `503` where a node of a
    /// cluster cannot know it at the moment.
    Unknown(String),
}

pub(crate) const MMI_SERVICE: &str = "mmi.service";

impl Availability {
    pub(crate) fn from_reply(reply: &Reply) -> Self {
        match reply.frames.first().map_or(&b""[..], Vec::as_slice) {
            b"200" => Self::Offered,
            b"404" => Self::NotOffered,
            b"403" => Self::NotAllowed,
            code => Self::Unknown(String::from_utf8_lossy(code).into_owned()),
        }
    }
}

/// What a client has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCounters {
    /// Requests sent, repeated ones included.
    pub requests_sent: u64,
    /// Replies, in 0.2 final ones.
    pub replies: u64,
    /// Partial replies.
    pub partials: u64,
    /// Replies ignored because they belong to no outstanding request.
    pub replies_unmatched: u64,
    /// Messages ignored because they are no replies in the client's version.
    pub replies_malformed: u64,
    /// Attempts that waited in vain.
    pub timeouts: u64,
    /// Requests that were sent and then sent again, counted each time.
    pub retries: u64,
    /// Changes of the broker that new requests go to.
    pub moves: u64,
    /// Connections that were established and then lost.
    pub connections_lost: u64,
    /// Connections that could not be established.
    pub endpoints_unreachable: u64,
}

/// A reply that is put together from its parts, up to a limit.
#[derive(Debug)]
pub(crate) struct Collected {
    frames: Vec<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
}

impl Collected {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { frames: Vec::new(), bytes: 0, bytes_max }
    }

    pub(crate) fn push(
        &mut self,
        request_id: RequestId,
        service: &ServiceName,
        part: Vec<Vec<u8>>,
    ) -> Result<(), CallError> {
        let bytes = part.iter().fold(self.bytes, |sum, frame| sum.saturating_add(frame.len()));
        if bytes > self.bytes_max {
            let service = service.clone();
            let bytes_max = self.bytes_max;
            return Err(CallError::ReplyTooLarge { request_id, service, bytes_max });
        }
        self.bytes = bytes;
        self.frames.extend(part);
        Ok(())
    }

    /// The last part makes the whole reply.
    pub(crate) fn complete(
        mut self,
        service: &ServiceName,
        mut reply: Reply,
    ) -> Result<Reply, CallError> {
        self.push(reply.request_id, service, std::mem::take(&mut reply.frames))?;
        reply.frames = self.frames;
        Ok(reply)
    }
}
