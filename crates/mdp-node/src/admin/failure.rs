//! [`Failure`]: a request that gets an error, as JSON.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use mdp_catalog::NodeName;
use mdp_raft::{ChangeError, ClusterStatus, NotReady};
use serde_json::{Value, json};

use crate::ReportError;

/// Why a request was not carried out, beside the answer, for the log.
#[derive(Clone, Debug)]
pub(super) struct Reason(pub(super) String);

/// Why a request was not carried out.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    body: Value,
}

impl Failure {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        let reason: String = reason.into();
        Self { status, body: json!({ "error": reason }) }
    }

    /// What was sent cannot be understood.
    pub(super) fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason)
    }

    /// The change makes no sense for a node that is alone.
    pub(super) fn no_cluster(node: &NodeName) -> Self {
        let reason = format!("{node} is in no cluster: its cluster.peers is empty");
        Self::new(StatusCode::CONFLICT, reason)
    }

    /// Somebody else was meant; `status` tells whether this node knows that one.
    pub(super) fn other_node(
        wanted: &NodeName,
        node: &NodeName,
        status: Option<&ClusterStatus>,
    ) -> Self {
        let members = status.map_or(&[][..], |status| status.members.as_slice());
        let Some(other) = members.iter().find(|member| member.name == *wanted) else {
            let reason = format!("this is {node}, which knows no node named {wanted}");
            return Self::new(StatusCode::NOT_FOUND, reason);
        };
        let other = json!({ "name": wanted.as_str(), "cluster_endpoint": other.endpoint });
        let error = format!("this is {node}, not {wanted}");
        let body = json!({ "error": error, "node": node.as_str(), "others": [other] });
        Self { status: StatusCode::CONFLICT, body }
    }

    /// Why a change was not made. If this node cannot make it now, what it knows is told, too, and
    /// who else could be asked.
    pub(super) fn of_change(error: &ChangeError, status: Option<&ClusterStatus>) -> Self {
        let mut failure = Self::new(status_of(error), error.to_string());
        let is_unable = match error {
            ChangeError::NoLeader
            | ChangeError::OutcomeUnknown { .. }
            | ChangeError::Timeout { .. } => true,
            ChangeError::UnknownMember { .. } | ChangeError::Refused { .. } => false,
        };
        if let (Some(status), Some(body)) = (status, failure.body.as_object_mut())
            && (is_unable || !status.not_ready.is_empty())
        {
            let others = status.members.iter().filter(|member| member.name != status.name);
            let others = others.map(
                |other| json!({ "name": other.name.as_str(), "cluster_endpoint": other.endpoint }),
            );
            body.insert("node".to_owned(), status.name.as_str().into());
            body.insert("reasons".to_owned(), codes(&status.not_ready).into());
            body.insert("details".to_owned(), texts(&status.not_ready).into());
            body.insert("others".to_owned(), others.collect());
        }
        failure
    }
}

const fn status_of(error: &ChangeError) -> StatusCode {
    match error {
        ChangeError::NoLeader
        | ChangeError::OutcomeUnknown { .. }
        | ChangeError::Timeout { .. } => StatusCode::SERVICE_UNAVAILABLE,
        ChangeError::UnknownMember { .. } => StatusCode::NOT_FOUND,
        ChangeError::Refused { .. } => StatusCode::CONFLICT,
    }
}

/// The words for probes.
pub(super) fn codes(reasons: &[NotReady]) -> Vec<Value> {
    reasons.iter().map(|reason| reason.code.into()).collect()
}

/// The sentences for people.
pub(super) fn texts(reasons: &[NotReady]) -> Vec<Value> {
    reasons.iter().map(|reason| format!("{}: {}", reason.code, reason.text).into()).collect()
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let reason = self.body.get("error").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut answer = (self.status, Json(self.body)).into_response();
        answer.extensions_mut().insert(Reason(reason));
        answer
    }
}
