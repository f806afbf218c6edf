//! The same files under other names: overlayfs, containers, the initramfs' view of the root.

use regex::bytes::{Regex, RegexBuilder};

use super::pattern::glob;
use crate::error::PolicyError;

/// Most prefixes of each kind.
const MAX_PREFIXES: usize = 32;

/// Prefixes under which the policy's files may be seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    /// Literal ones.
    pub(super) also_under: Vec<String>,
    /// Globs: the layers and mounts of an overlay have a number or digest in their path.
    overlay: Vec<String>,
    compiled: Vec<Regex>,
}

impl PartialEq for Prefixes {
    fn eq(&self, other: &Self) -> bool {
        self.also_under == other.also_under && self.overlay == other.overlay
    }
}

impl Prefixes {
    pub(super) fn new(also_under: Vec<String>, overlay: Vec<String>) -> Result<Self, PolicyError> {
        if also_under.len() > MAX_PREFIXES || overlay.len() > MAX_PREFIXES {
            return Err(PolicyError::TooMany {
                what: "prefixes",
                limit: MAX_PREFIXES,
            });
        }
        let compiled: Result<Vec<Regex>, PolicyError> =
            overlay.iter().map(|text| compile(text)).collect();
        Ok(Self {
            compiled: compiled?,
            also_under,
            overlay,
        })
    }

    pub(super) fn overlay(&self) -> &[String] {
        &self.overlay
    }

    /// The names that a path also goes by.
    pub(super) fn others<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        let literal = self
            .also_under
            .iter()
            .filter_map(move |prefix| path.strip_prefix(prefix.as_str()))
            .filter(|rest| rest.starts_with('/'));
        let globs = self.compiled.iter().filter_map(move |prefix| {
            let rest = prefix.captures(path.as_bytes())?.get(1)?;
            path.get(rest.start()..)
        });
        literal.chain(globs)
    }
}

/// The glob as an expression for the start of a path, with the rest as its one group.
fn compile(text: &str) -> Result<Regex, PolicyError> {
    let bad = |problem: &str| PolicyError::Pattern {
        pattern: text.chars().take(80).collect(),
        problem: problem.to_owned(),
    };
    let parsed = glob(text)?;
    if !text.starts_with('/') || text.ends_with('/') || text.contains("**") {
        return Err(bad(
            "a prefix begins with a slash, does not end with one, and has no **",
        ));
    }
    let whole = parsed
        .regex()
        .strip_prefix("(?-u)^")
        .and_then(|rest| rest.strip_suffix('$'))
        .ok_or_else(|| bad("it cannot be a prefix"))?;
    RegexBuilder::new(&format!("(?s-u)^(?:{whole})(/.*)$"))
        .size_limit(1 << 20)
        .build()
        .map_err(|error| bad(&error.to_string()))
}
