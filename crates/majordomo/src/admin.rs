//! HTTP to the administration port of a running node, by TCP or by its Unix socket.

mod target;
mod trust;
mod unix;

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read},
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use mdp_node::SecretFileError;
use serde_json::Value;
use thiserror::Error;
use ureq::{
    Agent, Body, RequestBuilder,
    http::{Response, StatusCode, header},
    typestate::{WithBody, WithoutBody},
    unversioned::resolver::DefaultResolver,
};

use self::{
    target::{Found, Target, Tried},
    trust::Token,
    unix::SocketConnector,
};
use crate::args::NodeArgs;

/// What a URL at a Unix socket begins with: an address, so that no name is looked up.
const AT_SOCKET: &str = "http://127.0.0.1";
/// What helps where a node asks for a token.
const NEEDS_TOKEN: &str = "\n  give a token with --token-file FILE or MAJORDOMO_TOKEN_FILE, or ask by the \
                           node's socket, as its user, with --admin unix:PATH (its admin.socket)";
/// The longest page; that of 10,000 services has about 2 MiB.
const PAGE_BYTES_MAX: u64 = 64 << 20;
/// How many lines may wait to be looked at.
const LINES_MAX: usize = 16;
/// The longest snapshot.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;
/// The header that says which index of the log a snapshot stands for.
const INDEX_HEADER: &str = "x-majordomo-index";

/// A node did not do what it was asked.
#[derive(Debug, Error)]
pub(crate) enum AdminError {
    /// What was typed is no address of an administration port.
    #[error(
        "{origin} {text:?} is not valid: use http://HOST:PORT or https://HOST:PORT, the admin.bind of a node, \
         or unix:PATH, its admin.socket"
    )]
    Address {
        /// The flag or the variable.
        origin: &'static str,
        /// What was typed.
        text: String,
    },
    /// A file that was named cannot be used.
    #[error("{origin} {path:?}: {error}")]
    File {
        /// The flag or the variable.
        origin: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: SecretFileError,
    },
    /// It is not known whom to trust.
    #[error(
        "{url}: https needs the certificate of the authority that signed the node's, or the node's own: name \
         its file with --ca-file FILE or MAJORDOMO_CA_FILE (for a public authority that of the system, such as \
         /etc/ssl/certs/ca-certificates.crt)"
    )]
    NoCaFile {
        /// Who was to be asked.
        url: String,
    },
    /// No program answered.
    #[error("{url} does not answer: {reason}; {advice}{tried}")]
    NoAnswer {
        /// Who was asked.
        url: String,
        /// What happened.
        reason: Box<ureq::Error>,
        /// What to do about it.
        advice: &'static str,
        /// Who was asked before.
        tried: Tried,
    },
    /// Somebody else answered, or an answer was broken off.
    #[error("{url}{path} is no page of majordomo: {reason}")]
    NoPage {
        /// Who was asked.
        url: String,
        /// For what.
        path: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The node says no.
    #[error("{url}: {reason}{advice}{known}")]
    Refused {
        /// Who was asked.
        url: String,
        /// The status of the answer.
        status: StatusCode,
        /// What the node says.
        reason: String,
        /// What to do about it, if the node does not say so.
        advice: &'static str,
        /// What the node knows that helps to go on.
        known: Box<Known>,
    },
}

impl AdminError {
    /// What happened, without advice, for a line of a table.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::NoAnswer { url, reason, .. } => format!("{url} does not answer: {reason}"),
            Self::Refused { url, reason, .. } => format!("{url}: {reason}"),
            Self::Address { .. }
            | Self::File { .. }
            | Self::NoCaFile { .. }
            | Self::NoPage { .. } => self.to_string(),
        }
    }

    /// Whether something else should have been typed.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Address { .. } | Self::File { .. } | Self::NoCaFile { .. } => true,
            Self::Refused { status, .. } => *status == StatusCode::BAD_REQUEST,
            Self::NoAnswer { .. } | Self::NoPage { .. } => false,
        }
    }

    /// Whether nobody was there to ask.
    pub(crate) const fn is_no_answer(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Address { .. }
            | Self::File { .. }
            | Self::NoCaFile { .. }
            | Self::NoPage { .. }
            | Self::Refused { .. } => false,
        }
    }
}

/// What a node that cannot do something knows: why it is not ready, and whom to ask instead.
#[derive(Debug, Default)]
pub(crate) struct Known {
    node: String,
    details: Vec<String>,
    others: Vec<String>,
}

impl Known {
    fn of(answer: &Value) -> Self {
        let list = |key: &str| answer.get(key).and_then(Value::as_array).into_iter().flatten();
        let text = |value: &Value, key: &str| {
            value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let others = list("others");
        Self {
            node: text(answer, "node"),
            details: list("details").filter_map(Value::as_str).map(str::to_owned).collect(),
            others: others
                .map(|other| {
                    format!("{} ({})", text(other, "name"), text(other, "cluster_endpoint"))
                })
                .collect(),
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for detail in &self.details {
            write!(f, "\n  {} says: {detail}", self.node)?;
        }
        if !self.others.is_empty() {
            let others = self.others.join(", ");
            write!(
                f,
                "\n  ask another node with --admin http://HOST:PORT (its admin.bind): {others}"
            )?;
        }
        Ok(())
    }
}

/// A snapshot of a node's catalog.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The index of the log that it stands for.
    pub(crate) index: u64,
    /// The encoded catalog.
    pub(crate) bytes: Vec<u8>,
}

/// What a node says line by line.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: Receiver<String>,
}

impl Lines {
    /// Reads on a thread of its own, which ends with the answer or with the process.
    fn read(reader: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, lines) = sync_channel(LINES_MAX);
        let read = move || {
            let lines = BufReader::new(reader.take(PAGE_BYTES_MAX)).lines().map_while(Result::ok);
            for line in lines {
                if sender.send(line).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("lines".to_owned()).spawn(read)?;
        Ok(Self { lines })
    }

    /// The next line; `Disconnected` when there are no more.
    pub(crate) fn next_within(&self, time: Duration) -> Result<String, RecvTimeoutError> {
        self.lines.recv_timeout(time)
    }

    /// Reads until there are no more, but not for longer than this from line to line.
    pub(crate) fn wait_for_end(&self, time: Duration) {
        while self.next_within(time).is_ok() {}
    }
}

/// One node's administration port.
#[derive(Debug)]
pub(crate) struct AdminClient {
    /// As errors show it.
    url: String,
    /// What the URLs of requests begin with.
    base: String,
    /// What a failure is likely to come from.
    advice: &'static str,
    tried: Tried,
    token: Option<Token>,
    agent: Agent,
    timeout: Duration,
}

impl AdminClient {
    /// A client of the node that was typed, or that the environment names, or that is found where nodes
    /// usually are. No request is sent yet.
    pub(crate) fn new(node: &NodeArgs, timeout: Duration) -> Result<Self, AdminError> {
        let Found { target, tried } = Found::search(node.admin.as_deref())?;
        let mut config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            // A node is asked directly, whatever the environment says about proxies.
            .proxy(None)
            .user_agent(concat!("majordomo/", env!("CARGO_PKG_VERSION")));
        if target.is_secured() {
            let trusted = trust::certificates(node.access.ca_file.as_deref())?;
            let trusted =
                trusted.ok_or_else(|| AdminError::NoCaFile { url: target.to_string() })?;
            config = config.tls_config(trusted);
        }
        let config = config.build();
        let (advice, url) = (advice(&target), target.to_string());
        let (base, agent, token) = match target {
            Target::Url(url) => {
                (url, config.new_agent(), Token::read(node.access.token_file.as_deref())?)
            }
            // Who may connect to a socket needs no token.
            Target::Socket(path) => {
                let connector = SocketConnector { path, timeout };
                let agent = Agent::with_parts(config, connector, DefaultResolver::default());
                (AT_SOCKET.to_owned(), agent, None)
            }
        };
        Ok(Self { url, base, advice, tried, token, agent, timeout })
    }

    /// A page, whatever status it comes with.
    pub(crate) fn page(&self, path: &'static str) -> Result<Value, AdminError> {
        let answer = self.get(path).call();
        let (_, page) = self.read_page(path, answer)?;
        Ok(page)
    }

    /// A page of text that must be there.
    pub(crate) fn text(&self, path: &'static str) -> Result<String, AdminError> {
        let answer = self.get(path).call();
        let answer = answer.map_err(|reason| self.no_answer(reason))?;
        if !answer.status().is_success() {
            let (status, page) = self.read_page(path, Ok(answer))?;
            self.accept(status, page)?;
            return Err(self.no_page(path, format!("it has status {status}")));
        }
        let text = answer.into_body().with_config().limit(PAGE_BYTES_MAX).read_to_string();
        text.map_err(|error| self.no_page(path, error.to_string()))
    }

    /// A page that must be there.
    pub(crate) fn view(&self, path: &'static str) -> Result<Value, AdminError> {
        let answer = self.get(path).call();
        let (status, page) = self.read_page(path, answer)?;
        self.accept(status, page)
    }

    /// Asks for a change and waits until it is made.
    pub(crate) fn change(&self, path: &'static str, body: &Value) -> Result<Value, AdminError> {
        let answer = self.post(path).send_json(body);
        let (status, page) = self.read_page(path, answer)?;
        self.accept(status, page)
    }

    /// Asks for a snapshot.
    pub(crate) fn snapshot(&self, path: &'static str) -> Result<Snapshot, AdminError> {
        let answer = self.post(path).send_empty();
        let answer = answer.map_err(|reason| self.no_answer(reason))?;
        if !answer.status().is_success() {
            let (status, page) = self.read_page(path, Ok(answer))?;
            self.accept(status, page)?;
            return Err(self.no_page(path, format!("it has status {status}")));
        }
        let index = answer.headers().get(INDEX_HEADER).and_then(|index| index.to_str().ok());
        let index = index.and_then(|index| index.parse().ok());
        let index = index.ok_or_else(|| self.no_page(path, format!("it has no {INDEX_HEADER}")))?;
        let mut body = answer.into_body();
        let bytes = body.with_config().limit(SNAPSHOT_BYTES_MAX).read_to_vec();
        let bytes = bytes.map_err(|error| self.no_page(path, error.to_string()))?;
        Ok(Snapshot { index, bytes })
    }

    /// Asks for something that is told line by line as it happens. A refusal comes at once.
    pub(crate) fn lines(&self, path: &'static str, body: &Value) -> Result<Lines, AdminError> {
        // How long it may take is for the reader to say.
        let request = self.post(path).config().timeout_global(None);
        let request = request.timeout_connect(Some(self.timeout));
        let request = request.timeout_recv_response(Some(self.timeout)).build();
        let answer = request.send_json(body).map_err(|reason| self.no_answer(reason))?;
        if !answer.status().is_success() {
            let (status, page) = self.read_page(path, Ok(answer))?;
            self.accept(status, page)?;
            return Err(self.no_page(path, format!("it has status {status}")));
        }
        let lines = Lines::read(answer.into_body().into_reader());
        lines.map_err(|error| self.no_page(path, format!("no thread to read it: {error}")))
    }

    fn get(&self, path: &str) -> RequestBuilder<WithoutBody> {
        let request = self.agent.get(format!("{}{path}", self.base));
        match &self.token {
            None => request,
            Some(token) => request.header(header::AUTHORIZATION, token.bearer()),
        }
    }

    fn post(&self, path: &str) -> RequestBuilder<WithBody> {
        let request = self.agent.post(format!("{}{path}", self.base));
        match &self.token {
            None => request,
            Some(token) => request.header(header::AUTHORIZATION, token.bearer()),
        }
    }

    fn read_page(
        &self,
        path: &'static str,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<(StatusCode, Value), AdminError> {
        let answer = answer.map_err(|reason| self.no_answer(reason))?;
        let status = answer.status();
        let text = answer.into_body().with_config().limit(PAGE_BYTES_MAX).read_to_vec();
        let text = text.map_err(|error| self.no_page(path, error.to_string()))?;
        let page: Option<Value> = serde_json::from_slice(&text).ok().filter(Value::is_object);
        let page = page.ok_or_else(|| self.no_page(path, format!("no JSON, status {status}")))?;
        Ok((status, page))
    }

    fn accept(&self, status: StatusCode, page: Value) -> Result<Value, AdminError> {
        if status.is_success() {
            return Ok(page);
        }
        let reason = page.get("error").and_then(Value::as_str);
        let reason = reason.map_or_else(|| format!("status {status}"), str::to_owned);
        let needs_token = status == StatusCode::UNAUTHORIZED && self.token.is_none();
        let advice = if needs_token { NEEDS_TOKEN } else { "" };
        let (url, known) = (self.url.clone(), Box::new(Known::of(&page)));
        Err(AdminError::Refused { url, status, reason, advice, known })
    }

    fn no_answer(&self, reason: ureq::Error) -> AdminError {
        let (url, tried) = (self.url.clone(), self.tried.clone());
        AdminError::NoAnswer { url, reason: Box::new(reason), advice: self.advice, tried }
    }

    fn no_page(&self, path: &'static str, reason: String) -> AdminError {
        AdminError::NoPage { url: self.url.clone(), path, reason }
    }
}

/// What a failure is likely to come from.
const fn advice(target: &Target) -> &'static str {
    match target {
        Target::Url(_) => {
            "is the node running, and is this its admin.bind (https:// if it has an admin.cert_file)? Name \
             another node with --admin http://HOST:PORT, or its socket with --admin unix:PATH"
        }
        Target::Socket(_) => {
            "is the node running, is this its admin.socket, and are you its user? Name another node with --admin \
             http://HOST:PORT"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_tells_what_the_node_knows_and_whom_to_ask() {
        let known = Known::of(&serde_json::json!({
            "error": "no leader",
            "node": "node-1",
            "reasons": ["no_leader"],
            "details": ["no leader is known"],
            "others": [{ "name": "node-2", "cluster_endpoint": "tcp://h:2" }],
        }));

        assert_eq!(
            known.to_string(),
            "\n  node-1 says: no leader is known\n  ask another node with --admin http://HOST:PORT \
             (its admin.bind): node-2 (tcp://h:2)"
        );
        assert_eq!(Known::of(&serde_json::json!({ "error": "x" })).to_string(), "");
    }
}
