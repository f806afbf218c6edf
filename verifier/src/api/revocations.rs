//! The revocation log for the tenant.

use axum::{
    extract::{Query, State},
    Json,
};
use bootkeep_protocol::revocation::Revocations;
use bootkeep_service::ProblemResponse;
use serde::Deserialize;

use super::{Shared, Tenant};

/// The query of the route.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
    /// Waits for an entry when there is none yet.
    #[serde(default)]
    wait: bool,
}

pub(super) async fn list(
    _: Tenant,
    State(verifier): Shared,
    Query(After { after, wait }): Query<After>,
) -> Result<Json<Revocations>, ProblemResponse> {
    if wait {
        verifier.await_revocations(after).await?;
    }
    Ok(Json(verifier.revocations_after(after).await?))
}
