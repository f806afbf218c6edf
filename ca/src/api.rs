//! HTTP routes.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{header, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
    Json, Router,
};
use bootkeep_protocol::{
    ca::{
        CertificateRecord, CurrentCrl, IssueRequest, Issued, RevokeCertificates,
        RevokedCertificates,
    },
    limits::{clean_text, MAX_CERTIFICATE, MAX_SERIALS, MAX_TEXT},
    NodeId, Problem, ProblemKind, Role,
};
use bootkeep_service::{BoundedJson, Peer, ProblemResponse};

use crate::{ocsp, Ca};

type Answer<T> = Result<Json<T>, ProblemResponse>;

pub(crate) fn router(ca: Arc<Ca>) -> Router {
    Router::new()
        .route("/v1/certificates", post(issue).get(list))
        .route("/v1/crl", get(current_crl))
        .route("/v1/nodes/{id}/revoke", post(revoke))
        .with_state(ca)
}

pub(crate) fn public_router(ca: Arc<Ca>) -> Router {
    Router::new()
        .route("/crl.der", get(crl))
        .route("/ca.der", get(certificate))
        .with_state(ca.clone())
        .merge(ocsp::router(ca))
}

async fn issue(
    peer: Peer,
    State(ca): State<Arc<Ca>>,
    BoundedJson(request): BoundedJson<IssueRequest>,
) -> Answer<Issued> {
    peer.require(&[Role::Tenant])?;
    check(&request)?;
    Ok(Json(ca.issue(&request).await.map_err(Problem::from)?))
}

fn check(request: &IssueRequest) -> Result<(), Problem> {
    let malformed = |code: &str, detail: &str| Problem::new(ProblemKind::Malformed, code, detail);
    let label = &request.label;
    if label.is_empty() || label.chars().count() > MAX_TEXT || label.chars().any(char::is_control) {
        return Err(malformed(
            "bad-label",
            "a label has 1 to 256 characters, none of them a control character",
        ));
    }
    if request.csr.as_slice().len() > MAX_CERTIFICATE {
        return Err(malformed(
            "bad-csr",
            "the certification request is too long",
        ));
    }
    Ok(())
}

async fn list(peer: Peer, State(ca): State<Arc<Ca>>) -> Answer<Vec<CertificateRecord>> {
    peer.require(&[Role::Tenant])?;
    Ok(Json(ca.certificates().await.map_err(Problem::from)?))
}

async fn revoke(
    peer: Peer,
    State(ca): State<Arc<Ca>>,
    Path(node): Path<NodeId>,
    BoundedJson(request): BoundedJson<RevokeCertificates>,
) -> Answer<RevokedCertificates> {
    peer.require(&[Role::Tenant, Role::Verifier])?;
    if request.keep.len() > MAX_SERIALS {
        let detail = format!("at most {MAX_SERIALS} serial numbers can be kept");
        return Err(Problem::new(ProblemKind::Malformed, "too-many-serials", detail).into());
    }
    let reason = clean_text(&request.reason);
    Ok(Json(
        ca.revoke(&node, &reason, &request.keep)
            .await
            .map_err(Problem::from)?,
    ))
}

/// For who must know whose list it is: the plain one below says it only by its signature.
async fn current_crl(peer: Peer, State(ca): State<Arc<Ca>>) -> Answer<CurrentCrl> {
    peer.require(&[Role::Tenant, Role::Verifier])?;
    let none = || {
        Problem::new(
            ProblemKind::Unavailable,
            "no-crl",
            "there is no list in force",
        )
    };
    let crl = ca.crl().ok_or_else(none)?;
    Ok(Json(CurrentCrl {
        crl: crl.der.clone().into(),
        authority: ca.certificate_der().map_err(Problem::from)?.into(),
    }))
}

async fn crl(State(ca): State<Arc<Ca>>) -> Response {
    match ca.crl() {
        Some(crl) => der("application/pkix-crl", crl.der.clone()),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn certificate(State(ca): State<Arc<Ca>>) -> Response {
    match ca.certificate_der() {
        Ok(certificate) => der("application/pkix-cert", certificate),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Revocations must be seen at once: nothing between us and a node may keep an old list.
fn der(kind: &'static str, bytes: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, bytes).into_response()
}
