//! The tenant's questions to a node, passed on.

use axum::{
    extract::{Path, State},
    Json,
};
use bootkeep_protocol::{
    limits::MAX_TEXT,
    link::{Call, Reply, SharePart},
    verifier::{RelayRequest, State as NodeState},
    Phase, Problem, ProblemKind, Role,
};
use bootkeep_service::{BoundedJson, ProblemResponse};

use super::{node_id, Shared, Tenant};
use crate::{
    fleet::{Node, Verdict},
    link::{keep_confirmation, untrusted},
};

/// What an encapsulated key and a wrapped share may take (bytes).
const MAX_WRAPPED: usize = 256;

pub(super) async fn relay(
    _: Tenant,
    State(verifier): Shared,
    Path(id): Path<String>,
    BoundedJson(request): BoundedJson<RelayRequest>,
) -> Result<Json<Reply>, ProblemResponse> {
    check(&request.call)?;
    let node = verifier.fleet.get(&node_id(&id)?).ok_or_else(no_link)?;
    if node.enrolment().is_some() && node.trust().verdict == Verdict::Revoked {
        return Err(untrusted("revoked", "the node is revoked: nothing is passed on to it").into());
    }
    check_keep(&node, &request)?;
    let link = node.link(request.phase).ok_or_else(no_link)?;
    let reply = link.calls.ask(request.call).await.map_err(Problem::from)?;
    if let Reply::Share {
        confirmation: Some(confirmation),
    } = &reply
    {
        keep_confirmation(&verifier, &node, &link, confirmation.clone()).await;
    }
    Ok(Json(reply))
}

fn no_link() -> Problem {
    Problem::new(
        ProblemKind::Unavailable,
        "no-link",
        "the node has no open link of that phase now",
    )
}

/// Only what a tenant has to say: its own quotes, its own credential, share U.
fn check(call: &Call) -> Result<(), Problem> {
    let not_relayed = |detail: &str| Problem::new(ProblemKind::Forbidden, "not-relayed", detail);
    match call {
        Call::Quote(quote) if quote.asker != Role::Tenant => {
            Err(not_relayed("only quotes for the tenant are passed on"))
        }
        Call::Revocations(_) => Err(not_relayed("revocations come from the verifier alone")),
        Call::Share(share)
            if share.part != SharePart::U || share.envelope.is_some() || share.kept.is_some() =>
        {
            Err(not_relayed("only share U is passed on"))
        }
        Call::Keep(keep)
            if keep.encapsulated.0.len() > MAX_WRAPPED || keep.ciphertext.0.len() > MAX_WRAPPED =>
        {
            Err(too_large(MAX_WRAPPED))
        }
        Call::Share(share)
            if share.encapsulated.0.len() > MAX_WRAPPED
                || share.ciphertext.0.len() > MAX_WRAPPED =>
        {
            Err(too_large(MAX_WRAPPED))
        }
        Call::Activate(activate) if activate.challenge_id.len() > MAX_TEXT => {
            Err(too_large(MAX_TEXT))
        }
        _ => Ok(()),
    }
}

/// A U to keep goes to the running system of a trusted node, and only that of the K that is staged for it.
fn check_keep(node: &Node, request: &RelayRequest) -> Result<(), Problem> {
    let Call::Keep(keep) = &request.call else {
        return Ok(());
    };
    let conflict = |code: &str, detail: &str| Problem::new(ProblemKind::Conflict, code, detail);
    if request.phase != Phase::Runtime || node.state() != Some(NodeState::Trusted) {
        let detail = "a U to keep is passed on to the running system of a trusted node only";
        return Err(conflict("not-trusted", detail));
    }
    if node.keys().staged_share() != Some(&keep.id) {
        let detail =
            "this U is of no K that is staged for the node: stage one with an enrolment first";
        return Err(conflict("not-staged", detail));
    }
    Ok(())
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        ProblemKind::TooLarge,
        "too-large",
        format!("a field of the call is over {limit} bytes"),
    )
}
