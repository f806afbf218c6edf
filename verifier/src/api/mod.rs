//! The HTTP front. Every route but the link demands the role `tenant`.

mod nodes;
mod relay;
mod steps;

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::IntoResponse,
    routing::{get, post},
    Router,
};
use bootkeep_protocol::{NodeId, Problem, ProblemKind, Role};
use bootkeep_service::{LinkUpgrade, Peer, ProblemResponse};

use crate::{counters, fleet::Node, link, service::Verifier};

type Shared = State<Arc<Verifier>>;

pub(crate) fn router(verifier: Arc<Verifier>) -> Router {
    Router::new()
        .route("/v1/link", get(open_link))
        .route("/v1/nodes", get(nodes::list))
        .route(
            "/v1/nodes/{id}",
            get(nodes::status).put(nodes::enrol).delete(nodes::forget),
        )
        .route("/v1/nodes/{id}/steps", get(steps::steps))
        .route("/v1/nodes/{id}/links", get(nodes::links))
        .route("/v1/nodes/{id}/relay", post(relay::relay))
        .route("/v1/nodes/{id}/revoke", post(nodes::revoke))
        .with_state(verifier)
}

pub(crate) fn metrics_router(verifier: Arc<Verifier>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(verifier)
}

async fn open_link(State(verifier): Shared, upgrade: LinkUpgrade) -> impl IntoResponse {
    upgrade.on_open(|peer, end| link::serve(verifier, peer, end))
}

async fn metrics(State(verifier): Shared) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    (
        [(axum::http::header::CONTENT_TYPE, kind)],
        verifier.counters.text() + &counters::lines(&verifier.webhooks.counters()),
    )
}

/// Proof, as an argument of a handler, that the tenant asks. First among them: nothing else is read before.
pub(crate) struct Tenant;

impl<S: Send + Sync> FromRequestParts<S> for Tenant {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemResponse> {
        let peer = <Peer as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        peer.require(&[Role::Tenant])?;
        Ok(Self)
    }
}

fn node_id(text: &str) -> Result<NodeId, Problem> {
    text.parse().map_err(|error: bootkeep_protocol::IdError| {
        Problem::new(ProblemKind::Malformed, "bad-node-id", error.to_string())
    })
}

/// A node that is enrolled.
fn enrolled(verifier: &Verifier, id: &str) -> Result<Arc<Node>, Problem> {
    let node = verifier.fleet.get(&node_id(id)?);
    node.filter(|node| node.enrolment().is_some())
        .ok_or_else(not_enrolled)
}

fn not_enrolled() -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        "not-enrolled",
        "this verifier has no enrolment for the node",
    )
}
