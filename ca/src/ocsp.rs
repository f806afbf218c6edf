//! OCSP over plain HTTP (RFC 6960 appendix A): the answers are signed.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::header,
    response::{IntoResponse, Response},
    routing::{get, post},
    Router,
};
use base64::{
    alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    Engine as _,
};
use bootkeep_pki::ocsp::{malformed_request, try_later, OcspRequest, MAX_REQUEST};

use crate::Ca;

/// Clients leave the padding out or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(crate) fn router(ca: Arc<Ca>) -> Router {
    Router::new()
        .route("/ocsp", post(posted))
        .route("/ocsp/{*request}", get(got))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(ca)
}

async fn posted(State(ca): State<Arc<Ca>>, body: Bytes) -> Response {
    answer(&ca, &body).await
}

/// The request in base64; a `/` of it may come as it is.
async fn got(State(ca): State<Arc<Ca>>, Path(text): Path<String>) -> Response {
    let request = Some(text)
        .filter(|text| text.len() <= 2 * MAX_REQUEST)
        .and_then(|text| BASE64.decode(text).ok());
    match request {
        Some(der) => answer(&ca, &der).await,
        None => response(malformed_request()),
    }
}

async fn answer(ca: &Ca, der: &[u8]) -> Response {
    let Ok(request) = OcspRequest::parse(der) else {
        return response(malformed_request());
    };
    response(ca.ocsp(&request).await.unwrap_or_else(|error| {
        tracing::error!(%error, "an OCSP request could not be answered");
        try_later()
    }))
}

/// A revocation must be seen at once: nothing on the way may keep an old answer.
fn response(der: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/ocsp-response"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, der).into_response()
}
