//! The HTTP front. Every route but the link demands the role `tenant`.

mod nodes;
mod policies;
mod relay;
mod revocations;
mod steps;

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, State},
    http::request::Parts,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
    Router,
};
use bootkeep_protocol::{NodeId, Problem, ProblemKind, Role};
use bootkeep_service::{LinkUpgrade, Peer, ProblemResponse, RefusalCode};

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
        .route("/v1/nodes/{id}/evidence", get(nodes::evidence))
        .route("/v1/policies", get(policies::list))
        .route(
            "/v1/policies/{kind}/{name}/{generation}",
            get(policies::show).put(policies::put),
        )
        .route(
            "/v1/policies/{kind}/{name}/{generation}/retire",
            post(policies::retire),
        )
        .route("/v1/nodes/{id}/steps", get(steps::steps))
        .route("/v1/nodes/{id}/links", get(nodes::links))
        .route("/v1/nodes/{id}/relay", post(relay::relay))
        .route("/v1/nodes/{id}/revoke", post(nodes::revoke))
        .route("/v1/revocations", get(revocations::list))
        .layer(middleware::map_response_with_state(verifier.clone(), count))
        .with_state(verifier)
}

pub(crate) fn metrics_router(verifier: Arc<Verifier>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(verifier)
}

/// Counts refusals of the API as those of evidence are counted.
async fn count(State(verifier): Shared, response: Response) -> Response {
    if let Some(RefusalCode(code)) = response.extensions().get() {
        verifier.counters.refused(code);
    }
    response
}

async fn open_link(State(verifier): Shared, upgrade: LinkUpgrade) -> impl IntoResponse {
    upgrade.on_open(|peer, end| link::serve(verifier, peer, end))
}

async fn metrics(State(verifier): Shared) -> impl IntoResponse {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let states = counters::gauge(
        "nodes",
        "Enrolled nodes by state.",
        "state",
        &verifier.fleet.states(),
    );
    let policies = counters::gauge(
        "policy_generations",
        "Generations of policies that count now.",
        "kind",
        &verifier.policies.live(),
    );
    let text = verifier.counters.text()
        + &counters::lines(&verifier.webhooks.counters())
        + &states
        + &policies
        + &verifier.revocation_gauges().await;
    ([(axum::http::header::CONTENT_TYPE, kind)], text)
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
