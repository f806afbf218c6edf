//! Problem documents as responses.

use axum::{
    body::Body,
    http::{header, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use bootkeep_protocol::{problem::PROBLEM_JSON, Problem, ProblemKind};

/// A [`Problem`] as an HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProblemResponse(pub Problem);

/// The code of a problem, as an extension of its response: for layers that count refusals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalCode(pub String);

impl From<Problem> for ProblemResponse {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        let problem = self.0;
        tracing::info!(status = problem.status, code = %problem.code, detail = %problem.detail, "refused");
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A struct of strings and numbers always makes JSON; an empty body would still carry the status.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        response.extensions_mut().insert(RefusalCode(problem.code));
        response
    }
}

/// Gives every refusal the one form: an error without a problem document gets one for its status.
pub(crate) fn in_one_voice(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || is_problem(&response) {
        return response;
    }
    let mut refusal = ProblemResponse(for_status(status)).into_response();
    *refusal.status_mut() = status;
    // RFC 9110 §15.5.6: a 405 must say which methods there are.
    if let Some(allow) = response.headers().get(header::ALLOW) {
        refusal.headers_mut().insert(header::ALLOW, allow.clone());
    }
    refusal
}

fn is_problem(response: &Response<Body>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.map(HeaderValue::as_bytes) == Some(PROBLEM_JSON.as_bytes())
}

fn for_status(status: StatusCode) -> Problem {
    let (kind, code, detail) = match status {
        StatusCode::NOT_FOUND => (
            ProblemKind::NotFound,
            "no-such-route",
            "there is nothing at this path",
        ),
        StatusCode::METHOD_NOT_ALLOWED => (
            ProblemKind::Malformed,
            "method-not-allowed",
            "this path does not take this method",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => {
            (ProblemKind::TooLarge, "too-large", "the body is too large")
        }
        status if status.is_client_error() => (
            ProblemKind::Malformed,
            "bad-request",
            "the request cannot be read",
        ),
        _ => (
            ProblemKind::Internal,
            "internal",
            "a fault on our side; the log has the cause",
        ),
    };
    Problem {
        status: status.as_u16(),
        ..Problem::new(kind, code, detail)
    }
}

/// The answer of a handler that panicked.
pub(crate) fn panicked() -> Response {
    tracing::error!("a handler panicked");
    ProblemResponse(for_status(StatusCode::INTERNAL_SERVER_ERROR)).into_response()
}
