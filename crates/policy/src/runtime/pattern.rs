//! Patterns of paths and texts. All of them take time that is linear in what they are matched against, whoever wrote
//! them: globs and regular expressions without back-references, bounded in number and compiled size.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde::{Deserialize, Serialize};

use crate::error::PolicyError;

/// Most patterns of one list.
pub(super) const MAX_PATTERNS: usize = 256;
/// Longest glob (bytes).
const MAX_GLOB: usize = 256;
/// Longest regular expression (bytes).
const MAX_REGEX: usize = 1024;
/// Largest compiled set of expressions, and what matching them may cache (bytes).
const MAX_COMPILED: usize = 1 << 20;
/// Deepest nesting of an expression.
const MAX_NESTING: u32 = 32;
/// Paths where programs may come to lie. A pattern that matches one of them is wide.
const PROBES: [&str; 12] = [
    "/usr/bin/env",
    "/usr/sbin/sshd",
    "/usr/lib/systemd/systemd",
    "/usr/local/bin/x",
    "/etc/x",
    "/opt/x",
    "/tmp/x",
    "/var/tmp/x",
    "/dev/shm/x",
    "/run/x",
    "/root/x",
    "/home/user/x",
];

/// Which paths a rule is about: a glob, or `{ regex: … }` for the whole of a path.
///
/// In a glob, `*` and `?` stay within one folder, `**` crosses folders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PathPattern {
    /// `/var/log/**`
    Glob(String),
    /// `/run/user/[0-9]+/.*`
    Regex(RegexText),
}

/// A regular expression as it is written in a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegexText {
    /// It must match the whole text.
    pub regex: String,
}

impl PathPattern {
    /// A glob.
    #[must_use]
    pub fn glob(text: &str) -> Self {
        Self::Glob(text.to_owned())
    }

    /// A regular expression for the whole path.
    #[must_use]
    pub fn regex(text: &str) -> Self {
        Self::Regex(RegexText {
            regex: text.to_owned(),
        })
    }

    /// As written.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Glob(text) | Self::Regex(RegexText { regex: text }) => text,
        }
    }

    /// Whether it matches the whole of this path; one that cannot be compiled matches none.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let alone = Patterns::new(vec![self.clone()]);
        alone.is_ok_and(|alone| alone.find(path).is_some())
    }

    /// Whether programs may come to lie where it matches.
    pub(super) fn is_wide(&self) -> bool {
        let alone = Patterns::new(vec![self.clone()]);
        alone.is_ok_and(|alone| PROBES.iter().any(|probe| alone.find(probe).is_some()))
    }
}

fn bad(pattern: &str, problem: impl ToString) -> PolicyError {
    PolicyError::Pattern {
        pattern: pattern.chars().take(80).collect(),
        problem: problem.to_string(),
    }
}

fn check_length(text: &str, limit: usize) -> Result<(), PolicyError> {
    if text.is_empty() || text.len() > limit {
        return Err(bad(text, format!("it must have 1 to {limit} bytes")));
    }
    Ok(())
}

pub(super) fn glob(text: &str) -> Result<Glob, PolicyError> {
    check_length(text, MAX_GLOB)?;
    GlobBuilder::new(text)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| bad(text, error.kind()))
}

/// The expression, anchored at both ends.
fn anchored(text: &str) -> Result<String, PolicyError> {
    check_length(text, MAX_REGEX)?;
    // On its own first, so that no bracket in the text can end the group.
    build(text).map_err(|error| bad(text, error))?;
    Ok(format!(r"\A(?:{text})\z"))
}

fn build(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .nest_limit(MAX_NESTING)
        .build()
}

/// A list of patterns, compiled together.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns {
    list: Vec<PathPattern>,
    globs: GlobSet,
    /// Where each glob stands in the list.
    glob_places: Vec<usize>,
    expressions: RegexSet,
    expression_places: Vec<usize>,
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Patterns {
    pub(super) fn new(list: Vec<PathPattern>) -> Result<Self, PolicyError> {
        if list.len() > MAX_PATTERNS {
            return Err(PolicyError::TooMany {
                what: "patterns in one list",
                limit: MAX_PATTERNS,
            });
        }
        let mut globs = GlobSetBuilder::new();
        let mut expressions = Vec::new();
        let (mut glob_places, mut expression_places) = (Vec::new(), Vec::new());
        for (place, pattern) in list.iter().enumerate() {
            match pattern {
                PathPattern::Glob(text) => {
                    globs.add(glob(text)?);
                    glob_places.push(place);
                }
                PathPattern::Regex(RegexText { regex }) => {
                    expressions.push(anchored(regex)?);
                    expression_places.push(place);
                }
            }
        }
        Ok(Self {
            list,
            globs: globs.build().map_err(|error| bad("", error.kind()))?,
            glob_places,
            expressions: set(&expressions)?,
            expression_places,
        })
    }

    pub(super) fn list(&self) -> &[PathPattern] {
        &self.list
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first pattern of the list that matches.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let globs = self.globs.matches(path).into_iter();
        let expressions = self.expressions.matches(path).into_iter();
        globs
            .filter_map(|index| self.glob_places.get(index))
            .chain(expressions.filter_map(|index| self.expression_places.get(index)))
            .min()
            .copied()
    }

    /// All patterns that match, in no order.
    pub(super) fn find_all(&self, path: &str) -> Vec<usize> {
        let globs = self.globs.matches(path).into_iter();
        let expressions = self.expressions.matches(path).into_iter();
        globs
            .filter_map(|index| self.glob_places.get(index))
            .chain(expressions.filter_map(|index| self.expression_places.get(index)))
            .copied()
            .collect()
    }
}

fn set(expressions: &[String]) -> Result<RegexSet, PolicyError> {
    RegexSetBuilder::new(expressions)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .nest_limit(MAX_NESTING)
        .build()
        .map_err(|error| bad("", error))
}

/// A text that must be met: exactly, or by `{ regex: … }` as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct TextPattern {
    written: Written,
    compiled: Option<Regex>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    /// YAML reads some texts as numbers.
    Number(u64),
    Regex(RegexText),
}

impl PartialEq for TextPattern {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl TryFrom<Written> for TextPattern {
    type Error = PolicyError;

    fn try_from(written: Written) -> Result<Self, PolicyError> {
        let written = match written {
            Written::Number(number) => Written::Text(number.to_string()),
            other => other,
        };
        let compiled = match &written {
            Written::Regex(RegexText { regex }) => {
                Some(build(&anchored(regex)?).map_err(|error| bad(regex, error))?)
            }
            _ => None,
        };
        Ok(Self { written, compiled })
    }
}

impl From<TextPattern> for Written {
    fn from(pattern: TextPattern) -> Self {
        pattern.written
    }
}

impl TextPattern {
    /// This text.
    #[must_use]
    pub fn exact(text: &str) -> Self {
        Self {
            written: Written::Text(text.to_owned()),
            compiled: None,
        }
    }

    /// Every text that the expression matches as a whole.
    ///
    /// # Errors
    /// [`PolicyError::Pattern`].
    pub fn regex(text: &str) -> Result<Self, PolicyError> {
        Self::try_from(Written::Regex(RegexText {
            regex: text.to_owned(),
        }))
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        match (&self.compiled, &self.written) {
            (Some(regex), _) => regex.is_match(text),
            (None, Written::Text(exact)) => exact == text,
            (None, _) => false,
        }
    }
}
