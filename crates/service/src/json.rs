//! JSON bodies, bounded in size and time.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{header, HeaderMap},
};
use bootkeep_protocol::{limits::MAX_BODY, Problem, ProblemKind};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::ProblemResponse;

/// How long a body may take to come.
const DEADLINE: Duration = Duration::from_secs(60);

/// A JSON body of at most `LIMIT` bytes. The problem it refuses with tells where the text is wrong, never what it says:
/// bodies carry shares.
///
/// ```
/// # use bootkeep_service::BoundedJson;
/// # use bootkeep_protocol::{limits::MAX_ENROLMENT, registrar::RegisterRequest, verifier::Enrolment};
/// async fn register(BoundedJson(request): BoundedJson<RegisterRequest>) {}
/// async fn enrol(BoundedJson(request): BoundedJson<Enrolment, MAX_ENROLMENT>) {}
/// ```
#[derive(Debug)]
pub struct BoundedJson<T, const LIMIT: usize = MAX_BODY>(pub T);

impl<S, T, const LIMIT: usize> FromRequest<S> for BoundedJson<T, LIMIT>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, _: &S) -> Result<Self, ProblemResponse> {
        check_head(request.headers(), LIMIT)?;
        let body = timeout(DEADLINE, read(request.into_body(), LIMIT))
            .await
            .map_err(|_| malformed("body-too-slow", "the body did not come in time"))??;
        let value = serde_json::from_slice(&body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            malformed(
                "bad-json",
                format!("not the JSON this path takes, at line {line}, column {column}"),
            )
        })?;
        Ok(Self(value))
    }
}

fn check_head(headers: &HeaderMap, limit: usize) -> Result<(), Problem> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map(|kind| kind.as_bytes());
    let json = b"application/json";
    if !kind.is_some_and(|kind| {
        kind.len() >= json.len() && kind[..json.len()].eq_ignore_ascii_case(json)
    }) {
        return Err(malformed("not-json", "send application/json"));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(malformed(
            "encoded",
            "send the body without content encoding",
        ));
    }
    let length = headers.get(header::CONTENT_LENGTH);
    let announced = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match announced {
        Some(length) if length > limit as u64 => Err(too_large(limit)),
        _ => Ok(()),
    }
}

async fn read(body: Body, limit: usize) -> Result<axum::body::Bytes, Problem> {
    let collected = Limited::new(body, limit).collect().await;
    collected.map(|body| body.to_bytes()).map_err(|error| {
        match error.downcast_ref::<LengthLimitError>() {
            Some(_) => too_large(limit),
            None => malformed("body-broke-off", "the body broke off"),
        }
    })
}

fn malformed(code: &str, detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Malformed, code, detail)
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        ProblemKind::TooLarge,
        "too-large",
        format!("at most {limit} bytes are read here"),
    )
}
