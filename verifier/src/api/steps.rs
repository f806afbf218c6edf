//! The steps of a node, as they come.

use std::time::Duration;

use axum::{
    extract::{Path, Query, State},
    Json,
};
use bootkeep_protocol::{limits::LONG_POLL_SECONDS, verifier::Steps};
use bootkeep_service::ProblemResponse;
use serde::Deserialize;
use tokio::time::{timeout_at, Instant};

use super::{enrolled, not_enrolled, Shared, Tenant};

/// The query of the route.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    #[serde(default)]
    after: u64,
}

/// Answers at once when there is a newer step, else when one comes or the time is over.
pub(super) async fn steps(
    _: Tenant,
    State(verifier): Shared,
    Path(id): Path<String>,
    Query(After { after }): Query<After>,
) -> Result<Json<Steps>, ProblemResponse> {
    let node = enrolled(&verifier, &id)?;
    let mut changes = node.watch();
    let deadline = Instant::now() + Duration::from_secs(LONG_POLL_SECONDS);
    loop {
        let steps = node.steps_after(after);
        let over = Instant::now() >= deadline;
        if !steps.is_empty() || over {
            return Ok(Json(Steps {
                steps,
                status: node.status().ok_or_else(not_enrolled)?,
                confirmation: node.confirmation(),
            }));
        }
        // Over or changed: the loop looks again.
        let _ = timeout_at(deadline, changes.changed()).await;
    }
}
