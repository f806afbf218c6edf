//! Digests that are accepted wherever a pattern matches: files whose path has a version in it.

use std::{fmt, str::FromStr};

use bootkeep_evidence::ima::FileDigest;
use serde::{Deserialize, Serialize};

use super::pattern::{PathPattern, Patterns};
use crate::error::PolicyError;

/// Most digests of one rule.
const MAX_DIGESTS: usize = 4096;

/// A digest in a rule: `sha256:<hex>`, or bare hex for SHA-256; `verity:sha256:<hex>` for a digest of fs-verity.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleDigest(FileDigest);

impl fmt::Debug for RuleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for RuleDigest {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let bad = || PolicyError::Digest(text.chars().take(80).collect());
        let (algorithm, digits) = text.rsplit_once(':').unwrap_or(("sha256", text));
        let length = match algorithm {
            "sha256" | "verity:sha256" => 32,
            "sha384" => 48,
            "sha512" | "verity:sha512" => 64,
            _ => return Err(bad()),
        };
        let lower = !digits.bytes().any(|byte| byte.is_ascii_uppercase());
        let bytes = hex::decode(digits).ok();
        let bytes = bytes.filter(|bytes| bytes.len() == length && lower);
        Ok(Self(FileDigest {
            algorithm: algorithm.to_owned(),
            bytes: bytes.ok_or_else(bad)?,
        }))
    }
}

impl TryFrom<String> for RuleDigest {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

impl From<RuleDigest> for String {
    fn from(digest: RuleDigest) -> Self {
        digest.0.to_string()
    }
}

/// A rule of `rules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathRule {
    /// Which paths.
    pub path: PathPattern,
    /// What a file there may be: one of these.
    pub digests: Vec<RuleDigest>,
}

/// The rules of a policy, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct PathRules {
    rules: Vec<PathRule>,
    paths: Patterns,
}

impl PartialEq for PathRules {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl PathRules {
    pub(super) fn new(rules: Vec<PathRule>) -> Result<Self, PolicyError> {
        for rule in &rules {
            if rule.digests.len() > MAX_DIGESTS {
                return Err(PolicyError::TooMany {
                    what: "digests in one rule",
                    limit: MAX_DIGESTS,
                });
            }
        }
        let paths = Patterns::new(rules.iter().map(|rule| rule.path.clone()).collect())?;
        Ok(Self { rules, paths })
    }

    pub(super) fn list(&self) -> &[PathRule] {
        &self.rules
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule that accepts a file with one of these names; `Err(true)` when there are rules for it and none does.
    pub(super) fn accept(&self, names: &[&str], digest: &FileDigest) -> Result<usize, bool> {
        if self.is_empty() {
            return Err(false);
        }
        let mut matched = false;
        for number in names.iter().flat_map(|name| self.paths.find_all(name)) {
            matched = true;
            let digests = self.rules.get(number).map(|rule| rule.digests.as_slice());
            if digests.is_some_and(|all| all.iter().any(|one| one.0 == *digest)) {
                return Ok(number);
            }
        }
        Err(matched)
    }
}
