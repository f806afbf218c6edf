//! What can go wrong, and the exit code it means.

use std::{fmt, io, path::PathBuf};

use bootkeep_protocol::{verifier::Reason, Problem, ProblemKind};
use serde::Serialize;

/// Who refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Party {
    /// This program's own checks, with the owner's own roots and policies.
    OwnAppraisal,
    /// The registrar.
    Registrar,
    /// The verifier.
    Verifier,
    /// The CA.
    Ca,
    /// The node.
    Node,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnAppraisal => "own appraisal",
            Self::Registrar => "registrar",
            Self::Verifier => "verifier",
            Self::Ca => "CA",
            Self::Node => "node",
        })
    }
}

/// A node or its evidence was refused: by whom and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Who refused.
    pub by: Party,
    /// Which checks failed.
    pub reasons: Vec<Reason>,
}

impl Refusal {
    /// A refusal for one reason.
    #[must_use]
    pub fn new(by: Party, code: &str, detail: impl Into<String>) -> Self {
        let reason = Reason {
            code: code.to_owned(),
            detail: detail.into(),
        };
        Self {
            by,
            reasons: vec![reason],
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by {}", self.by)?;
        for reason in &self.reasons {
            write!(f, "\n  {}: {}", reason.code, reason.detail)?;
        }
        Ok(())
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or an input file is not usable.
    #[error("{0}")]
    Usage(String),
    /// There is no such node, file or record.
    #[error("{0}")]
    NotFound(String),
    /// A check of trust failed.
    #[error("{0}")]
    Untrusted(Refusal),
    /// A service gave no answer.
    #[error("the {service} cannot be reached: {detail}")]
    Unreachable {
        /// Which.
        service: Party,
        /// Why.
        detail: String,
    },
    /// It may work later.
    #[error("{0}")]
    TryAgain(String),
    /// A service refused for a reason that is not trust.
    #[error("the {service} refused: {problem}")]
    Refused {
        /// Which.
        service: Party,
        /// Its words.
        problem: Problem,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// An own refusal for one reason.
    #[must_use]
    pub fn untrusted(by: Party, code: &str, detail: impl Into<String>) -> Self {
        Self::Untrusted(Refusal::new(by, code, detail))
    }

    /// The error of a refusal by `service`.
    #[must_use]
    pub fn from_problem(service: Party, problem: Problem) -> Self {
        match problem.kind {
            ProblemKind::NotFound => Self::NotFound(problem.detail),
            ProblemKind::Untrusted => Self::untrusted(service, &problem.code, problem.detail),
            ProblemKind::Busy | ProblemKind::Unavailable => {
                Self::TryAgain(format!("the {service}: {}", problem.detail))
            }
            _ => Self::Refused { service, problem },
        }
    }

    /// The program's exit code: 1 failed, 2 usage, 3 not found, 4 untrusted, 5 unreachable, 75 try again.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::File { .. } | Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Untrusted(_) => 4,
            Self::Unreachable { .. } => 5,
            Self::TryAgain(_) => 75,
        }
    }

    /// Whether the same step may well work a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TryAgain(_) => true,
            Self::Refused { problem, .. } => problem.kind == ProblemKind::Internal,
            _ => false,
        }
    }

    /// A word for `--output json`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::NotFound(_) => "not-found",
            Self::Untrusted(_) => "untrusted",
            Self::Unreachable { .. } => "unreachable",
            Self::TryAgain(_) => "try-again",
            Self::Refused { .. } | Self::File { .. } | Self::Failed(_) => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_problem_has_its_exit_code() {
        let cases = [
            (ProblemKind::Malformed, 1, false),
            (ProblemKind::TooLarge, 1, false),
            (ProblemKind::Forbidden, 1, false),
            (ProblemKind::NotFound, 3, false),
            (ProblemKind::Conflict, 1, false),
            (ProblemKind::Untrusted, 4, false),
            (ProblemKind::Busy, 75, true),
            (ProblemKind::Unavailable, 75, true),
            (ProblemKind::Internal, 1, true),
        ];
        for (kind, code, transient) in cases {
            let error = Error::from_problem(Party::Verifier, Problem::new(kind, "c", "d"));
            assert_eq!(error.exit_code(), code, "{kind:?}");
            assert_eq!(error.is_transient(), transient, "{kind:?}");
        }
    }

    #[test]
    fn a_refusal_says_who_and_why() {
        let error = Error::untrusted(Party::OwnAppraisal, "pcr-4", "PCR 4 is not listed");
        assert_eq!(
            error.to_string(),
            "refused by own appraisal\n  pcr-4: PCR 4 is not listed"
        );
    }
}
