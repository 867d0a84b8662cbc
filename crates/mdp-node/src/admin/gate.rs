//! Who gets in: which requests are answered, by where they come from and by what they present.

use std::{
    sync::{
        PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{
    connection::Remote,
    failure::{Failure, Reason},
    lured,
    port::RemoteChanges,
    routes::{Answer, Shared},
    secrets::{AdminSecrets, Permission},
    server, token,
};
use mdp_rate_limiter::event;

/// Why a request was denied, beside the answer: what it presented gives no permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// It presented no token.
    Missing,
    /// It presented one that is none of ours.
    Wrong,
    /// It presented one for pages, and asked for a change.
    ReadOnly,
}

impl Denial {
    const ALL: [Self; 3] = [Self::Missing, Self::Wrong, Self::ReadOnly];

    /// In metrics and in the log.
    const fn label(self) -> &'static str {
        match self {
            Self::Missing => "no_token",
            Self::Wrong => "wrong_token",
            Self::ReadOnly => "read_token",
        }
    }

    /// RFC 6750, 3.1.
    const fn challenge(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Missing => "Bearer",
            Self::Wrong => "Bearer error=\"invalid_token\"",
            Self::ReadOnly => "Bearer error=\"insufficient_scope\"",
        })
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Missing | Self::Wrong => StatusCode::UNAUTHORIZED,
            Self::ReadOnly => StatusCode::FORBIDDEN,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Missing => {
                "a token is needed here: Authorization: Bearer TOKEN, with one of admin.token_file, or for pages \
                 of admin.read_token_file"
            }
            Self::Wrong => {
                "this is no token of this node (admin.token_file, for pages admin.read_token_file, too)"
            }
            Self::ReadOnly => "this token is for pages alone; changes need one of admin.token_file",
        }
    }
}

/// How often requests and connections were turned away.
#[derive(Debug, Default)]
pub(super) struct AccessTotals {
    denied: [AtomicU64; Denial::ALL.len()],
    failed_handshakes: AtomicU64,
}

impl AccessTotals {
    pub(super) fn handshake_failed(&self) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed_handshakes(&self) -> u64 {
        self.failed_handshakes.load(Ordering::Relaxed)
    }

    /// Each reason, with how often it was one.
    pub(super) fn denied(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.denied.iter().map(|count| count.load(Ordering::Relaxed));
        Denial::ALL.into_iter().map(Denial::label).zip(counts)
    }

    fn count(&self, denial: Denial) {
        let counts = Denial::ALL.into_iter().zip(&self.denied);
        if let Some((_, count)) = counts.into_iter().find(|(other, _)| *other == denial) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Changes are for people and programs of this machine, unless the configuration says otherwise.
pub(super) async fn only_allowed(
    State(admin): Shared,
    ConnectInfo(remote): ConnectInfo<Remote>,
    request: Request,
    next: Next,
) -> Answer {
    if !remote.is_here() && admin.access.changes == RemoteChanges::Refused {
        let reason = "changes are accepted from this machine only; set admin.allow_remote = true on \
                      this node to accept them from others";
        return Err(Failure::new(StatusCode::FORBIDDEN, reason));
    }
    if let Some(reason) = lured::foreign_page(request.headers(), remote.scheme()) {
        return Err(Failure::new(StatusCode::FORBIDDEN, reason));
    }
    Ok(next.run(request).await)
}

/// Pages are for those who mean this node: a page of another server that a browser shows may have made
/// its own name point here. Probes tell nothing that is worth it.
pub(super) async fn only_meant(State(admin): Shared, request: Request, next: Next) -> Answer {
    let is_probe = server::is_probe(request.uri().path());
    let meant = admin.access.names.are_meant(request.uri(), request.headers());
    if let (Err(host), false) = (meant, is_probe) {
        let reason = format!(
            "this node does not go by the name {host:?}; ask it by an address, or name it in admin.hosts"
        );
        return Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, reason));
    }
    Ok(next.run(request).await)
}

/// What is asked for needs a token where one is configured, but for probes, and but for the Unix socket: who
/// may connect to that is the node's own user.
pub(super) async fn only_with_token(
    State(admin): Shared,
    ConnectInfo(remote): ConnectInfo<Remote>,
    request: Request,
    next: Next,
) -> Response {
    let denial = denial(&admin.access.secrets, remote, &request);
    let Some(denial) = denial else { return next.run(request).await };
    admin.totals.count(denial);
    let mut answer = Failure::new(denial.status(), denial.reason()).into_response();
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, denial.challenge());
    answer.extensions_mut().insert(denial);
    answer
}

fn denial(secrets: &AdminSecrets, remote: Remote, request: &Request) -> Option<Denial> {
    let is_change = is_change(request.method());
    // A page that a proxy brings to the socket is not the node's own user.
    let is_own_user = match remote {
        Remote::Local(_) => !(is_change && lured::is_from_page(request.headers())),
        Remote::Plain(_) | Remote::Secured(_) => false,
    };
    if is_own_user || server::is_probe(request.uri().path()) {
        return None;
    }
    match (secrets.permission(request.headers()), is_change) {
        (Permission::Change, _) | (Permission::Read { .. }, false) => None,
        (Permission::Read { by_token: true }, true) => Some(Denial::ReadOnly),
        (Permission::Read { by_token: false } | Permission::Nothing, _) => {
            let is_presented = token::presented(request.headers()).is_some();
            Some(if is_presented { Denial::Wrong } else { Denial::Missing })
        }
    }
}

/// Whatever does not only look.
fn is_change(method: &Method) -> bool {
    *method != Method::GET && *method != Method::HEAD
}

/// Logs changes that were asked for and not made, because of what they ask or of who asks, and whatever was
/// denied.
pub(super) async fn log_refused(
    State(admin): Shared,
    ConnectInfo(remote): ConnectInfo<Remote>,
    request: Request,
    next: Next,
) -> Response {
    let is_change = is_change(request.method());
    let path = request.uri().path().to_owned();
    let answer = next.run(request).await;
    let denial = answer.extensions().get::<Denial>().map(|denial| denial.label());
    if !is_change && denial.is_none() {
        return answer;
    }
    let Some(Reason(reason)) = answer.extensions().get() else { return answer };
    let mut refusals = admin.refusals.lock().unwrap_or_else(PoisonError::into_inner);
    let admission = refusals.admit(Instant::now(), &remote.ip());
    drop(refusals);
    let status = answer.status().as_u16();
    let what = if is_change {
        "a change that was asked for was not made"
    } else {
        "a page that was asked for was not shown"
    };
    event!(admission, warn, path, from = %remote, status, denial, reason, "{what}");
    answer
}
