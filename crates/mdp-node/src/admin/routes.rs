//! Which path answers what.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State, rejection::BytesRejection},
    http::{HeaderName, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use mdp_raft::{ChangeError, NotReady};
use mdp_rate_limiter::RateLimiter;
use serde_json::json;
use tokio::sync::Semaphore;

use super::{
    backend::{Backend, Changed, Page},
    change::{self, DrainRequest, MemberChange},
    drain,
    failure::{self, Failure},
    gate::{self, AccessTotals},
    liveness::Liveness,
    metrics,
    port::AdminAccess,
    process::ProcessTotals,
};

/// How long a request may take behind its head, its body included.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest body of a request.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;
/// Which index of the log a snapshot stands for.
const INDEX_HEADER: HeaderName = HeaderName::from_static("x-majordomo-index");

/// What every route knows.
#[derive(Debug)]
pub(super) struct Admin {
    backend: Arc<dyn Backend>,
    pub(super) access: AdminAccess,
    pub(super) totals: Arc<AccessTotals>,
    liveness: Liveness,
    /// Of the lines about changes that were not made, and about what was denied.
    pub(super) refusals: Mutex<RateLimiter>,
    /// For pages with a line for each service, worker or connection: one at a time, for each may take
    /// tens of megabytes, and milliseconds of the broker thread.
    lists: Semaphore,
}

pub(super) type Shared = State<Arc<Admin>>;
type Body = Result<Bytes, BytesRejection>;
pub(super) type Answer = Result<Response, Failure>;

/// All routes.
pub(super) fn routes(
    backend: Arc<dyn Backend>,
    access: AdminAccess,
    totals: Arc<AccessTotals>,
) -> Router {
    let liveness = Liveness::new(backend.turns());
    let (refusals, lists) = (Mutex::default(), Semaphore::new(1));
    let admin = Arc::new(Admin { backend, access, totals, liveness, refusals, lists });
    let change = Router::new()
        .route("/api/v1/members", post(change_members))
        .route("/api/v1/leader", post(transfer_leader))
        .route("/api/v1/upgrade", post(change_upgrade))
        .route("/api/v1/snapshot", post(take_snapshot))
        .route("/api/v1/connections", post(kick))
        .route("/api/v1/drain", post(ask_to_drain))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&admin), gate::only_allowed));
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .route("/api/v1/cluster", get(|admin: Shared| show(admin, Page::Cluster)))
        .route("/api/v1/status", get(|admin: Shared| show(admin, Page::Status)))
        .route("/api/v1/services", get(|admin: Shared| show(admin, Page::Services)))
        .route("/api/v1/workers", get(|admin: Shared| show(admin, Page::Workers)))
        .route("/api/v1/connections", get(|admin: Shared| show(admin, Page::Connections)))
        .route("/api/v1/upgrade", get(|admin: Shared| show(admin, Page::Upgrade)))
        .merge(change)
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_page)
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), gate::only_with_token))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), gate::only_meant))
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), gate::log_refused))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(in_time))
        .with_state(admin)
}

/// Alive means: this process does its own work. Never leader, quorum, other nodes.
async fn livez(State(admin): Shared) -> Answer {
    if admin.liveness.is_alive(|| admin.backend.turns()).await {
        return Ok(Json(json!({ "alive": true })).into_response());
    }
    let reason = "the broker thread makes no turns";
    Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, reason))
}

/// Ready means: clients and workers should come here.
async fn readyz(State(admin): Shared) -> Response {
    let reasons = not_ready(&*admin.backend);
    if reasons.is_empty() {
        return Json(json!({ "ready": true })).into_response();
    }
    let body = json!({
        "ready": false,
        "reasons": failure::codes(&reasons),
        "details": failure::texts(&reasons),
    });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

fn not_ready(backend: &dyn Backend) -> Vec<NotReady> {
    // Consensus itself counts a leader that was lost a moment ago.
    let mut reasons = backend.status().map_or_else(Vec::new, |status| status.not_ready);
    if backend.is_draining() && reasons.iter().all(|reason| reason.code != "draining") {
        reasons.push(NotReady { code: "draining", text: "this node leaves".to_owned() });
    }
    reasons
}

async fn show_metrics(State(admin): Shared) -> Answer {
    let backend = &*admin.backend;
    let scrape = metrics::Scrape {
        node: backend.name().clone(),
        turns: backend.turns(),
        is_ready: not_ready(backend).is_empty(),
        is_draining: backend.is_draining(),
        report: backend.totals().await?,
        status: backend.status(),
        catalog: backend.catalog_totals(),
        link: backend.link_totals(),
        process: ProcessTotals::now(),
        open_ports: admin.access.open_ports,
        identities: backend.identities(),
        access: Arc::clone(&admin.totals),
        stale_files: admin.access.secrets.stale(),
    };
    let text = metrics::text(scrape).map_err(|_| {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written")
    })?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn show(State(admin): Shared, page: Page) -> Answer {
    let _one_at_a_time = match page {
        Page::Services | Page::Workers | Page::Connections => Some(admin.lists.acquire().await),
        Page::Cluster | Page::Status | Page::Upgrade => None,
    };
    let mut value = admin.backend.page(page).await?;
    if let (Page::Status, Some(fields)) = (page, value.as_object_mut()) {
        fields.insert("warnings".to_owned(), json!(admin.access.warnings));
    }
    Ok(Json(value).into_response())
}

async fn change_members(State(admin): Shared, body: Body) -> Answer {
    let change = MemberChange::read(&read(body)?)?;
    tracing::info!(?change, "a change of the members is asked for");
    let answer = match &change {
        MemberChange::Add { name, endpoint } => {
            json!({ "action": "add", "name": name.as_str(), "endpoint": endpoint })
        }
        MemberChange::Remove { name } => json!({ "action": "remove", "name": name.as_str() }),
        MemberChange::Promote { name } => json!({ "action": "promote", "name": name.as_str() }),
    };
    made(&admin, admin.backend.change_members(change).await)?;
    Ok(Json(answer).into_response())
}

async fn transfer_leader(State(admin): Shared, body: Body) -> Answer {
    let to = change::read_leader(&read(body)?)?;
    tracing::info!(?to, "another leader is asked for");
    let leader = made(&admin, admin.backend.transfer_leader(to).await)?;
    Ok(Json(json!({ "leader": leader.as_str() })).into_response())
}

async fn change_upgrade(State(admin): Shared, body: Body) -> Answer {
    let change = change::read_upgrade(&read(body)?)?;
    tracing::info!(?change, "a change of the cluster's version is asked for");
    made(&admin, admin.backend.change_upgrade(change).await)?;
    show(State(admin), Page::Upgrade).await
}

/// Closes a connection of a client or worker of this node.
async fn kick(State(admin): Shared, body: Body) -> Answer {
    let connection = change::read_kick(&read(body)?)?;
    tracing::info!(connection, "a connection is to be closed");
    if admin.backend.kick(connection).await? {
        return Ok(Json(json!({ "kicked": connection })).into_response());
    }
    let reason = format!("there is no connection {connection} at this node");
    Err(Failure::new(StatusCode::NOT_FOUND, reason))
}

async fn take_snapshot(State(admin): Shared) -> Answer {
    let (index, bytes) = made(&admin, admin.backend.snapshot().await)?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (INDEX_HEADER, index.to_string()),
    ];
    Ok((headers, bytes).into_response())
}

async fn ask_to_drain(State(admin): Shared, body: Body) -> Answer {
    drain::answer(&admin.backend, &DrainRequest::read(&read(body)?)?)
}

fn made<T>(admin: &Admin, changed: Changed<T>) -> Result<T, Failure> {
    let of_change =
        |error: &ChangeError| Failure::of_change(error, admin.backend.status().as_ref());
    changed
        .ok_or_else(|| Failure::no_cluster(admin.backend.name()))?
        .map_err(|error| of_change(&error))
}

fn read(body: Body) -> Result<Bytes, Failure> {
    body.map_err(|rejection| {
        let reason = format!("the body cannot be read (limit {BODY_BYTES_MAX} bytes): {rejection}");
        Failure::new(rejection.status(), reason)
    })
}

async fn in_time(request: Request, next: Next) -> Answer {
    tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await.map_err(|_| {
        let seconds = REQUEST_TIMEOUT.as_secs();
        let reason = format!("not done within {seconds} s; a change may still happen");
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, reason)
    })
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    let reason = format!("{} is not asked for by {method}", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, reason)
}

async fn no_such_page(uri: Uri) -> Failure {
    let reason = format!(
        "there is no {}; there are /livez, /readyz, /metrics, /api/v1/status, /api/v1/cluster, \
         /api/v1/services, /api/v1/workers, /api/v1/connections, /api/v1/upgrade, and, for changes by POST, \
         /api/v1/members, /api/v1/leader, /api/v1/upgrade, /api/v1/snapshot, \
         /api/v1/connections, /api/v1/drain",
        uri.path()
    );
    Failure::new(StatusCode::NOT_FOUND, reason)
}
