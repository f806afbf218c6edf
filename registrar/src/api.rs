//! HTTP routes.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post, put},
    Json, Router,
};
use bootkeep_protocol::{
    limits::MAX_TEXT,
    registrar::{
        ActivateRequest, Activated, Approval, ApprovedEk, Challenge, NodeRecord, RegisterRequest,
    },
    NodeId, Problem, ProblemKind, Role,
};
use bootkeep_service::{BoundedJson, Peer, ProblemResponse};
use serde::Deserialize;

use crate::Registrar;

/// Records in one answer when the asker does not say how many.
const ALL: u32 = 100_000;

type Service = State<Arc<Registrar>>;
type Answer<T> = Result<T, ProblemResponse>;

pub(crate) fn router(registrar: Arc<Registrar>) -> Router {
    Router::new()
        .route("/v1/nodes", post(register).get(records))
        .route("/v1/nodes/{id}", get(record).delete(forget))
        .route("/v1/nodes/{id}/activate", post(activate))
        .route("/v1/approvals", get(approvals))
        .route("/v1/approvals/{id}", put(approve).delete(withdraw))
        .with_state(registrar)
}

pub(crate) fn metrics_router(registrar: Arc<Registrar>) -> Router {
    let metrics = |State(registrar): Service| async move { registrar.counters.text() };
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(registrar)
}

impl Registrar {
    /// Counts a refusal on its way out.
    fn counted<T>(&self, answer: Result<T, Problem>) -> Answer<T> {
        answer.map_err(|problem| {
            self.counters.refused(&problem);
            problem.into()
        })
    }
}

async fn register(
    State(registrar): Service,
    BoundedJson(request): BoundedJson<RegisterRequest>,
) -> Answer<Json<Challenge>> {
    let answer = registrar.challenge(request).await;
    registrar.counted(answer).map(Json)
}

async fn activate(
    State(registrar): Service,
    Path(node): Path<NodeId>,
    BoundedJson(answer): BoundedJson<ActivateRequest>,
) -> Answer<Json<Activated>> {
    let answer = registrar.activate(&node, &answer).await;
    registrar.counted(answer).map(Json)
}

/// Part of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    /// Only ids after this one.
    #[serde(default)]
    after: Option<NodeId>,
    /// At most so many.
    #[serde(default)]
    limit: Option<u32>,
}

async fn records(
    peer: Peer,
    State(registrar): Service,
    Query(page): Query<Page>,
) -> Answer<Json<Vec<NodeRecord>>> {
    registrar.counted(peer.require(&[Role::Tenant, Role::Verifier]))?;
    let after = page.after.as_ref().map_or("", NodeId::as_str);
    let limit = page.limit.unwrap_or(ALL).min(ALL);
    let records = registrar.database.records(after, limit).await;
    registrar.counted(records.map_err(Problem::from)).map(Json)
}

async fn record(
    peer: Peer,
    State(registrar): Service,
    Path(node): Path<NodeId>,
) -> Answer<Json<NodeRecord>> {
    registrar.counted(peer.require(&[Role::Tenant, Role::Verifier]))?;
    let record = registrar
        .database
        .record(&node)
        .await
        .map_err(Problem::from);
    let record = record.and_then(|record| {
        record.ok_or_else(|| not_found("not-registered", "this node is not registered"))
    });
    registrar.counted(record).map(Json)
}

async fn forget(
    peer: Peer,
    State(registrar): Service,
    Path(node): Path<NodeId>,
) -> Answer<StatusCode> {
    registrar.counted(peer.require(&[Role::Tenant]))?;
    let existed = registrar.counted(
        registrar
            .database
            .forget(&node)
            .await
            .map_err(Problem::from),
    )?;
    if existed {
        tracing::warn!(node = node.short(), "forgotten");
    }
    registrar.counted(deleted(existed))
}

async fn approvals(peer: Peer, State(registrar): Service) -> Answer<Json<Vec<ApprovedEk>>> {
    registrar.counted(peer.require(&[Role::Tenant]))?;
    let approvals = registrar.database.approvals().await;
    registrar
        .counted(approvals.map_err(Problem::from))
        .map(Json)
}

async fn approve(
    peer: Peer,
    State(registrar): Service,
    Path(node): Path<NodeId>,
    BoundedJson(approval): BoundedJson<Approval>,
) -> Answer<Json<ApprovedEk>> {
    registrar.counted(peer.require(&[Role::Tenant]))?;
    let note = approval.note;
    registrar.counted(check_note(&note))?;
    let done = registrar.database.approve(&node, &note).await;
    registrar.counted(done.map_err(Problem::from))?;
    tracing::warn!(
        node = node.short(),
        note,
        "EK approved without a certificate"
    );
    Ok(Json(ApprovedEk {
        node_id: node,
        note,
    }))
}

/// Notes are shown on terminals and in logs (A05).
fn check_note(note: &str) -> Result<(), Problem> {
    if note.chars().count() > MAX_TEXT || note.chars().any(char::is_control) {
        let detail =
            format!("a note has at most {MAX_TEXT} characters, none of them a control character");
        return Err(Problem::new(ProblemKind::Malformed, "bad-note", detail));
    }
    Ok(())
}

async fn withdraw(
    peer: Peer,
    State(registrar): Service,
    Path(node): Path<NodeId>,
) -> Answer<StatusCode> {
    registrar.counted(peer.require(&[Role::Tenant]))?;
    let existed = registrar.counted(
        registrar
            .database
            .withdraw(&node)
            .await
            .map_err(Problem::from),
    )?;
    if existed {
        tracing::warn!(node = node.short(), "approval withdrawn");
    }
    registrar.counted(deleted(existed))
}

fn deleted(existed: bool) -> Result<StatusCode, Problem> {
    existed
        .then_some(StatusCode::NO_CONTENT)
        .ok_or_else(|| not_found("no-such-entry", "there is none to delete"))
}

fn not_found(code: &str, detail: &str) -> Problem {
    Problem::new(ProblemKind::NotFound, code, detail)
}
