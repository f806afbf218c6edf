//! Refusals: RFC 9457 problem documents with a stable `type`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What kind of refusal; decides HTTP status and exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The message cannot be read: wrong JSON, wrong base64, a field out of its range.
    Malformed,
    /// The message is over its limit.
    TooLarge,
    /// No client certificate, or one without the role.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It contradicts what is already known (another AK, another enrolment, a used challenge).
    Conflict,
    /// Evidence, certificate or proof was checked and is not good.
    Untrusted,
    /// Too many requests; try again.
    Busy,
    /// A peer or the node could not be reached in time; try again.
    Unavailable,
    /// A fault on our side; the log has the cause.
    Internal,
}

impl ProblemKind {
    /// HTTP status code.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::TooLarge => 413,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Untrusted => 422,
            Self::Busy => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Malformed => "the message cannot be read",
            Self::TooLarge => "the message is too large",
            Self::Forbidden => "not allowed",
            Self::NotFound => "not found",
            Self::Conflict => "contradicts what is known",
            Self::Untrusted => "not trusted",
            Self::Busy => "too many requests",
            Self::Unavailable => "not reachable now",
            Self::Internal => "internal fault",
        }
    }
}

/// A refusal. Carries no secret: `detail` is written by us, texts of the peer are cleaned first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Problem {
    /// Stable kind.
    #[serde(rename = "type")]
    pub kind: ProblemKind,
    /// The kind in words.
    pub title: String,
    /// HTTP status code.
    pub status: u16,
    /// Stable kebab-case code of the very cause, e.g. `ek-untrusted`.
    pub code: String,
    /// What is wrong and what to do.
    pub detail: String,
}

impl Problem {
    /// A refusal of this kind, cause and explanation.
    #[must_use]
    pub fn new(kind: ProblemKind, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            title: kind.title().to_owned(),
            status: kind.status(),
            code: code.to_owned(),
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.title, self.detail, self.code)
    }
}
