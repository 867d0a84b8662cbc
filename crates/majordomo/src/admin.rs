//! HTTP to the administration port of a running node.

use std::{
    env, fmt,
    io::{self, BufRead as _, BufReader, Read},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use mdp_node::Endpoint;
use serde_json::Value;
use thiserror::Error;
use ureq::{
    Agent, Body,
    http::{Response, StatusCode},
};

use crate::args::{ADMIN_DEFAULT, NodeArgs};

/// The environment variable that stands for `--admin`.
const VARIABLE: &str = "MAJORDOMO_ADMIN";
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
    #[error("{origin} {text:?} is not valid: use http://HOST:PORT, the admin.bind of a node")]
    Address {
        /// The flag or the variable.
        origin: &'static str,
        /// What was typed.
        text: String,
    },
    /// Nobody answered.
    #[error(
        "{url} does not answer: {reason}; is the node running, and is this its admin.bind? Name \
         another node with --admin http://HOST:PORT"
    )]
    NoAnswer {
        /// Who was asked.
        url: String,
        /// What happened.
        reason: ureq::Error,
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
    #[error("{url}: {reason}{known}")]
    Refused {
        /// Who was asked.
        url: String,
        /// The status of the answer.
        status: StatusCode,
        /// What the node says.
        reason: String,
        /// What the node knows that helps to go on.
        known: Known,
    },
}

impl AdminError {
    /// What happened, without advice, for a line of a table.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::NoAnswer { url, reason } => format!("{url} does not answer: {reason}"),
            Self::Refused { url, reason, .. } => format!("{url}: {reason}"),
            Self::Address { .. } | Self::NoPage { .. } => self.to_string(),
        }
    }

    /// Whether something else should have been typed.
    pub(crate) fn is_usage(&self) -> bool {
        match self {
            Self::Address { .. } => true,
            Self::Refused { status, .. } => *status == StatusCode::BAD_REQUEST,
            Self::NoAnswer { .. } | Self::NoPage { .. } => false,
        }
    }

    /// Whether nobody was there to ask.
    pub(crate) const fn is_no_answer(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Address { .. } | Self::NoPage { .. } | Self::Refused { .. } => false,
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
    url: String,
    agent: Agent,
    timeout: Duration,
}

impl AdminClient {
    /// A client of the node that was typed, or that the environment names. Nothing is sent yet.
    pub(crate) fn new(node: &NodeArgs, timeout: Duration) -> Result<Self, AdminError> {
        let variable = env::var(VARIABLE).ok().filter(|text| !text.is_empty());
        let (origin, text) = match (&node.admin, variable) {
            (Some(typed), _) => ("--admin", typed.clone()),
            (None, Some(variable)) => (VARIABLE, variable),
            (None, None) => ("--admin", ADMIN_DEFAULT.to_owned()),
        };
        let url = base_url(&text).ok_or(AdminError::Address { origin, text })?;
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            // A node is asked directly, whatever the environment says about proxies.
            .proxy(None)
            .user_agent(concat!("majordomo/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { url, agent: config.new_agent(), timeout })
    }

    /// A page, whatever status it comes with.
    pub(crate) fn page(&self, path: &'static str) -> Result<Value, AdminError> {
        let answer = self.agent.get(self.at(path)).call();
        let (_, page) = self.read_page(path, answer)?;
        Ok(page)
    }

    /// A page of text that must be there.
    pub(crate) fn text(&self, path: &'static str) -> Result<String, AdminError> {
        let answer = self.agent.get(self.at(path)).call();
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
        let answer = self.agent.get(self.at(path)).call();
        let (status, page) = self.read_page(path, answer)?;
        self.accept(status, page)
    }

    /// Asks for a change and waits until it is made.
    pub(crate) fn change(&self, path: &'static str, body: &Value) -> Result<Value, AdminError> {
        let answer = self.agent.post(self.at(path)).send_json(body);
        let (status, page) = self.read_page(path, answer)?;
        self.accept(status, page)
    }

    /// Asks for a snapshot.
    pub(crate) fn snapshot(&self, path: &'static str) -> Result<Snapshot, AdminError> {
        let answer = self.agent.post(self.at(path)).send_empty();
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
        let request = self.agent.post(self.at(path)).config().timeout_global(None);
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

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
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
        Err(AdminError::Refused { url: self.url.clone(), status, reason, known: Known::of(&page) })
    }

    fn no_answer(&self, reason: ureq::Error) -> AdminError {
        AdminError::NoAnswer { url: self.url.clone(), reason }
    }

    fn no_page(&self, path: &'static str, reason: String) -> AdminError {
        AdminError::NoPage { url: self.url.clone(), path, reason }
    }
}

/// `http://HOST:PORT` of what was typed; `http://` and a `/` at the end make no difference.
fn base_url(text: &str) -> Option<String> {
    let rest = text.strip_prefix("http://").unwrap_or(text);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let endpoint: Endpoint = Some(rest).filter(|rest| !rest.contains("://"))?.parse().ok()?;
    let is_somewhere = !endpoint.is_wildcard() && endpoint.port() != 0;
    is_somewhere.then(|| format!("http://{}", endpoint.to_string().trim_start_matches("tcp://")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_and_port_are_needed() {
        for text in ["http://host-1:5580", "http://host-1:5580/", "host-1:5580"] {
            assert_eq!(base_url(text).as_deref(), Some("http://host-1:5580"), "{text}");
        }
        assert_eq!(base_url("http://[::1]:5580").as_deref(), Some("http://[::1]:5580"));
        for bad in ["https://h:1", "tcp://h:1", "h", "http://h", "http://*:1", "h:0", "h:1/x"] {
            assert_eq!(base_url(bad), None, "{bad}");
        }
    }

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
