//! What a policy says about one entry.

use std::fmt;

use super::PathPattern;

/// Which rule accepts an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Violations are accepted.
    Violation,
    /// `files` has the path with this digest.
    Listed,
    /// `files` has it under this name, which `also_under` or `overlay` leads to.
    ListedAs(String),
    /// A rule of `rules`.
    Rule {
        /// Its place in the list.
        number: usize,
        /// Its paths.
        path: PathPattern,
    },
    /// A key of `signing_keys`, by its name.
    Signature(String),
    /// An exclude.
    Excluded(PathPattern),
    /// `memfd: accept`.
    Memfd,
    /// A rule of `buffers`.
    Buffer,
    /// A rule of `device_mapper`, by its place.
    Device(usize),
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation => f.write_str("violations: accept"),
            Self::Listed => f.write_str("files"),
            Self::ListedAs(path) => write!(f, "files, as {path}"),
            Self::Rule { number, path } => write!(f, "rules[{number}] ({})", path.text()),
            Self::Signature(name) => write!(f, "signing key {name:?}"),
            Self::Excluded(pattern) => write!(f, "excludes ({})", pattern.text()),
            Self::Memfd => f.write_str("memfd: accept"),
            Self::Buffer => f.write_str("buffers"),
            Self::Device(number) => write!(f, "device_mapper[{number}]"),
        }
    }
}

/// Why none accepts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Stable, kebab-case.
    pub code: &'static str,
    /// What is wrong, without the entry's number and path.
    pub problem: String,
}

impl Missing {
    pub(super) fn new(code: &'static str, problem: impl ToString) -> Self {
        Self {
            code,
            problem: problem.to_string(),
        }
    }

    pub(super) fn about(self, rule: usize) -> Self {
        let problem = format!("device_mapper[{rule}]: {}", self.problem);
        Self { problem, ..self }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.problem, self.code)
    }
}

/// What `bootkeep policy explain` shows of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// The rule that accepts it.
    Accepted(Accepted),
    /// What is missing.
    Refused(Missing),
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(rule) => write!(f, "accepted by {rule}"),
            Self::Refused(missing) => write!(f, "refused: {missing}"),
        }
    }
}
