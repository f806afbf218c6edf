//! Signed policies: put, list, show, retire.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    Json,
};
use bootkeep_protocol::{
    dsse::Envelope,
    limits::MAX_ENROLMENT,
    policy::{PolicyAnswer, PolicyRecord},
    Problem, ProblemKind,
};
use bootkeep_service::{BoundedJson, ProblemResponse};

use super::{Shared, Tenant};
use crate::{
    policies::{policy_id, unknown, PolicyId},
    service::Verifier,
};

/// Kind, name and generation of a path.
type Named = Path<(String, String, u64)>;

fn record(verifier: &Verifier, id: &PolicyId, generation: u64) -> Result<PolicyRecord, Problem> {
    let followers = verifier.fleet.followers();
    verifier.policies.record(id, generation, &followers)
}

pub(super) async fn list(_: Tenant, State(verifier): Shared) -> Json<Vec<PolicyRecord>> {
    Json(verifier.policies.records(&verifier.fleet.followers()))
}

pub(super) async fn put(
    _: Tenant,
    State(verifier): Shared,
    Path((kind, name, generation)): Named,
    BoundedJson(envelope): BoundedJson<Envelope, MAX_ENROLMENT>,
) -> Result<Json<PolicyRecord>, ProblemResponse> {
    let id = policy_id(&kind, &name)?;
    let policies = verifier.clone();
    let (asked, envelope) = (id.clone(), Arc::new(envelope));
    let signed = envelope.clone();
    // A policy of megabytes takes its time to be read: not on the threads that serve connections.
    let verify = move || policies.policies.verify(&asked, generation, &signed);
    let policy = tokio::task::spawn_blocking(verify).await.map_err(|_| {
        let detail = "the policy could not be read";
        Problem::new(ProblemKind::Internal, "internal", detail)
    })??;
    let database = &verifier.fleet.database;
    verifier
        .policies
        .put(database, &id, policy, &envelope)
        .await?;
    tracing::info!(kind, name, generation, "policy taken");
    Ok(Json(record(&verifier, &id, generation)?))
}

pub(super) async fn show(
    _: Tenant,
    State(verifier): Shared,
    Path((kind, name, generation)): Named,
) -> Result<Json<PolicyAnswer>, ProblemResponse> {
    let id = policy_id(&kind, &name)?;
    let record = record(&verifier, &id, generation)?;
    let stored = verifier.fleet.database.policy(&id, generation).await;
    let envelope = stored.map_err(Problem::from)?.ok_or_else(unknown)?;
    Ok(Json(PolicyAnswer { record, envelope }))
}

pub(super) async fn retire(
    _: Tenant,
    State(verifier): Shared,
    Path((kind, name, generation)): Named,
) -> Result<Json<PolicyRecord>, ProblemResponse> {
    let id = policy_id(&kind, &name)?;
    let (fleet, policies) = (&verifier.fleet, &verifier.policies);
    policies
        .retire(&fleet.database, &id, generation, || fleet.followers())
        .await?;
    tracing::info!(kind, name, generation, "policy retired");
    Ok(Json(record(&verifier, &id, generation)?))
}
