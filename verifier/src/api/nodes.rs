//! Enrolment and status.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    http::StatusCode,
    Json,
};
use bootkeep_protocol::{
    limits::{clean_text, MAX_ENROLMENT},
    verifier::{Enrolment, LastEvidence, LinkInfo, NodeStatus, RevokeRequest},
    NodeId, Problem, ProblemKind,
};
use bootkeep_service::{BoundedJson, ProblemResponse};
use serde::Deserialize;

use super::{enrolled, node_id, not_enrolled, Shared, Tenant};
use crate::{
    fleet::{NewEnrolment, Node},
    link::{other_ak, untrusted},
};

type Answer<T> = Result<Json<T>, ProblemResponse>;

fn status_of(node: &Node) -> Result<NodeStatus, Problem> {
    node.status().ok_or_else(not_enrolled)
}

/// The query of the list: the part of it that is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// Starts behind this node.
    after: Option<NodeId>,
    /// At most so many.
    limit: Option<usize>,
}

pub(super) async fn list(
    _: Tenant,
    State(verifier): Shared,
    Query(part): Query<Part>,
) -> Json<Vec<NodeStatus>> {
    let nodes = verifier.fleet.all();
    let wanted = |node: &&Arc<Node>| part.after.as_ref().is_none_or(|after| node.id() > after);
    let statuses = nodes.iter().filter(wanted).filter_map(|node| node.status());
    // Reports of boot files are long: whoever wants one asks for its node.
    let statuses = statuses.map(|status| NodeStatus {
        boot_files: None,
        ..status
    });
    Json(statuses.take(part.limit.unwrap_or(usize::MAX)).collect())
}

pub(super) async fn evidence(
    _: Tenant,
    State(verifier): Shared,
    Path(id): Path<String>,
) -> Answer<LastEvidence> {
    let evidence = enrolled(&verifier, &id)?.evidence();
    Ok(Json(evidence.ok_or_else(no_evidence)?))
}

fn no_evidence() -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        "no-evidence",
        "no evidence of this node was appraised since the verifier was started",
    )
}

pub(super) async fn status(
    _: Tenant,
    State(verifier): Shared,
    Path(id): Path<String>,
) -> Answer<NodeStatus> {
    Ok(Json(status_of(&*enrolled(&verifier, &id)?)?))
}

pub(super) async fn enrol(
    _: Tenant,
    State(verifier): Shared,
    Path(id): Path<String>,
    BoundedJson(enrolment): BoundedJson<Enrolment, MAX_ENROLMENT>,
) -> Answer<NodeStatus> {
    let id = node_id(&id)?;
    // A policy of megabytes takes its time to be read: not on the threads that serve connections.
    let policies = verifier.clone();
    let check = move || NewEnrolment::check(enrolment, &policies.policies);
    let checked = tokio::task::spawn_blocking(check).await.map_err(|_| {
        Problem::new(
            ProblemKind::Internal,
            "internal",
            "the enrolment could not be read",
        )
    })??;
    let node = verifier.fleet.node(&id);
    let digest = checked.enrolled.terms.digest.clone();
    let detail = if checked.is_staged() {
        "its next boot begins with another K"
    } else {
        "waiting for evidence"
    };
    verifier.revocations.check_enrolment(&node, &digest)?;
    let changed = verifier
        .fleet
        .enrol(&node, checked)
        .await
        .map_err(Problem::from)?;
    if changed {
        node.step("enrolled", detail);
        end_other_aks(&node);
        verifier.revocations.mark(&node);
    }
    Ok(Json(status_of(&node)?))
}

/// Links that opened before the enrolment must be of the AK it names.
fn end_other_aks(node: &Arc<Node>) {
    let Some(enrolment) = node.enrolment() else {
        return;
    };
    for link in node.links() {
        if !link.fits(&enrolment) {
            link.end(other_ak());
        }
    }
}

pub(super) async fn forget(
    _: Tenant,
    State(verifier): Shared,
    Path(id): Path<String>,
) -> Result<StatusCode, ProblemResponse> {
    let node = enrolled(&verifier, &id)?;
    verifier.fleet.forget(&node).await.map_err(Problem::from)?;
    node.step("forgotten", "the tenant removed the enrolment");
    let id = node.id().clone();
    drop(node);
    verifier.fleet.tidy(&id);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn links(
    _: Tenant,
    State(verifier): Shared,
    Path(id): Path<String>,
) -> Answer<Vec<LinkInfo>> {
    let node = verifier.fleet.get(&node_id(&id)?);
    Ok(Json(node.map(|node| node.link_infos()).unwrap_or_default()))
}

pub(super) async fn revoke(
    _: Tenant,
    State(verifier): Shared,
    Path(id): Path<String>,
    BoundedJson(request): BoundedJson<RevokeRequest>,
) -> Answer<NodeStatus> {
    let node = enrolled(&verifier, &id)?;
    let reason = clean_text(&request.reason);
    let stored = verifier.fleet.revoke(&node, &reason).await;
    node.end_links(&untrusted("revoked", &reason));
    stored.map_err(Problem::from)?;
    node.step("revoked", &reason);
    if let Some(enrolment) = node.enrolment() {
        let reasons = node.trust().reasons;
        let appended = verifier.revoke(&node, &enrolment, reasons).await;
        appended.map_err(Problem::from)?;
    }
    Ok(Json(status_of(&node)?))
}
