//! Runtime policy: which files a running node may have measured.

mod document;
mod rules;
mod tree;

use std::collections::BTreeMap;

use bootkeep_evidence::ima::{Entry, FileDigest};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

pub use document::FileDigests;
pub use rules::RuntimeRules;
pub use tree::Tree;

use bootkeep_protocol::verifier::Reason;

use crate::{error::PolicyError, reason::Reasons};

/// Most files of one policy.
pub(crate) const MAX_FILES: usize = 1_000_000;
/// Most excludes of one policy.
const MAX_EXCLUDES: usize = 128;
/// Longest exclude (bytes).
const MAX_PATTERN: usize = 256;
/// The name of the list's first entry.
const BOOT_AGGREGATE: &str = "boot_aggregate";

/// What is said to violations: a file was measured while somebody could write it, so its digest says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViolationRule {
    /// Refused. Excludes do not help: nothing covers the path of a violation.
    #[default]
    Refuse,
    /// Accepted: kernels with `ima_policy=tcb` record some in every boot, for account files and logs.
    Accept,
}

/// What is said to files that exist only in memory (`memfd:` names).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemfdRule {
    /// They must be listed like any other file.
    #[default]
    Listed,
    /// Accepted, whatever they hold.
    Accept,
}

/// The runtime policy, version 1: path → accepted SHA-256 digests, and excludes.
///
/// ```json
/// { "version": 1, "violations": "refuse", "memfd": "listed",
///   "excludes": ["/var/log/**"], "also_under": ["/sysroot"],
///   "files": { "/usr/bin/true": "<hex>", "/usr/bin/false": ["<hex>", "<hex>"] } }
/// ```
///
/// Share it behind an `Arc`: tens of thousands of files take some megabytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "document::Document", into = "document::Document")]
pub struct RuntimePolicy {
    files: BTreeMap<Box<str>, FileDigests>,
    excludes: Vec<String>,
    also_under: Vec<String>,
    violations: ViolationRule,
    memfd: MemfdRule,
    excluded: GlobSet,
}

impl PartialEq for RuntimePolicy {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
            && self.excludes == other.excludes
            && self.also_under == other.also_under
            && self.violations == other.violations
            && self.memfd == other.memfd
    }
}

/// Compiles excludes: `*` and `?` stay within one folder, `**` crosses folders. Matching takes linear time.
fn compile(patterns: &[String]) -> Result<GlobSet, PolicyError> {
    if patterns.len() > MAX_EXCLUDES {
        return Err(PolicyError::TooMany {
            what: "excludes",
            limit: MAX_EXCLUDES,
        });
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let bad = |problem: String| PolicyError::Glob {
            pattern: pattern.chars().take(80).collect(),
            problem,
        };
        if pattern.is_empty() || pattern.len() > MAX_PATTERN {
            return Err(bad(format!("it must have 1 to {MAX_PATTERN} bytes")));
        }
        let glob = GlobBuilder::new(pattern)
            .literal_separator(true)
            .backslash_escape(true)
            .build();
        set.add(glob.map_err(|error| bad(error.kind().to_string()))?);
    }
    set.build().map_err(|error| PolicyError::Glob {
        pattern: String::new(),
        problem: error.kind().to_string(),
    })
}

impl RuntimePolicy {
    /// A policy of the files of some trees: a root file system, an unpacked initramfs.
    ///
    /// Every regular file counts, with the path it has in its tree; links are not followed.
    ///
    /// # Errors
    /// When a file cannot be read, or there are too many.
    pub fn from_trees(trees: &[Tree]) -> Result<Self, PolicyError> {
        let mut policy = Self {
            also_under: vec!["/sysroot".to_owned()],
            ..Self::default()
        };
        for tree in trees {
            tree.visit(&mut |path, digest| policy.accept_file(path, digest))?;
        }
        Ok(policy)
    }

    /// A policy of what a node has measured, `boot_aggregate` and violations left out.
    ///
    /// # Errors
    /// For an entry of an unknown template or with another digest than SHA-256.
    pub fn from_list(entries: &[Entry]) -> Result<Self, PolicyError> {
        let mut policy = Self::default();
        for (number, entry) in entries.iter().enumerate() {
            if entry.path == BOOT_AGGREGATE || entry.violation {
                continue;
            }
            let problem = |problem: String| PolicyError::Entry { number, problem };
            let digest = entry
                .digest
                .as_ref()
                .ok_or_else(|| problem(format!("unknown template {:?}", entry.template)))?;
            let digest = sha256_of(digest).ok_or_else(|| {
                problem(format!("its digest is {}, not SHA-256", digest.algorithm))
            })?;
            policy.accept_file(&entry.path, digest)?;
        }
        Ok(policy)
    }

    /// Accepts one file more.
    ///
    /// # Errors
    /// When there are too many.
    pub fn accept_file(&mut self, path: &str, digest: [u8; 32]) -> Result<(), PolicyError> {
        let full = self.files.len() >= MAX_FILES;
        match self.files.get_mut(path) {
            Some(digests) => digests.add(digest),
            None if full => {
                return Err(PolicyError::TooMany {
                    what: "files",
                    limit: MAX_FILES,
                })
            }
            None => {
                self.files.insert(path.into(), FileDigests::One(digest));
            }
        }
        Ok(())
    }

    /// Leaves paths out: whatever they hold is accepted.
    ///
    /// # Errors
    /// [`PolicyError::Glob`], [`PolicyError::TooMany`].
    pub fn exclude(&mut self, patterns: &[String]) -> Result<(), PolicyError> {
        let mut all = self.excludes.clone();
        for pattern in patterns {
            if !all.contains(pattern) {
                all.push(pattern.clone());
            }
        }
        self.excluded = compile(&all)?;
        self.excludes = all;
        Ok(())
    }

    /// Sets what is said to violations.
    pub fn set_violations(&mut self, rule: ViolationRule) {
        self.violations = rule;
    }

    /// Sets what is said to `memfd:` names.
    pub fn set_memfd(&mut self, rule: MemfdRule) {
        self.memfd = rule;
    }

    /// Accepts also the files and excludes of `other`. The stricter rule of the two stays.
    ///
    /// # Errors
    /// When there are too many.
    pub fn merge(&mut self, other: &Self) -> Result<(), PolicyError> {
        for (path, digests) in &other.files {
            for digest in digests.as_slice() {
                self.accept_file(path, *digest)?;
            }
        }
        for prefix in &other.also_under {
            if !self.also_under.contains(prefix) {
                self.also_under.push(prefix.clone());
            }
        }
        self.exclude(&other.excludes)?;
        if other.violations == ViolationRule::Refuse {
            self.violations = ViolationRule::Refuse;
        }
        if other.memfd == MemfdRule::Listed {
            self.memfd = MemfdRule::Listed;
        }
        Ok(())
    }

    /// Number of listed files.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// The excludes.
    #[must_use]
    pub fn excludes(&self) -> &[String] {
        &self.excludes
    }

    /// The rule about violations.
    #[must_use]
    pub fn violations(&self) -> ViolationRule {
        self.violations
    }

    /// The rule about `memfd:` names.
    #[must_use]
    pub fn memfd(&self) -> MemfdRule {
        self.memfd
    }

    /// Whether it lists nothing and so accepts nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What a person should know before relying on this policy.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.is_empty() {
            warnings.push("it lists no file: it accepts nothing".to_owned());
        }
        let probes = ["/usr/bin/env", "/usr/lib/systemd/systemd", "/tmp/x"];
        for pattern in &self.excludes {
            let one = compile(std::slice::from_ref(pattern)).unwrap_or_default();
            if probes.iter().any(|probe| one.is_match(probe)) {
                warnings.push(format!(
                    "the exclude {pattern:?} is wide: programs put there are accepted"
                ));
            }
        }
        if self.violations == ViolationRule::Accept {
            warnings.push(
                "violations are accepted: a file being written while it runs is not noticed"
                    .to_owned(),
            );
        }
        if self.memfd == MemfdRule::Accept {
            warnings.push(
                "memfd files are accepted: a program that exists only in memory passes".to_owned(),
            );
        }
        warnings
    }

    /// Checks one entry that a quote covers. `number` counts from 0 in the whole list.
    fn check(&self, number: u64, entry: &Entry, reasons: &mut Reasons) {
        let name = || format!("IMA entry {number}, {}", entry.path);
        let Some(digest) = &entry.digest else {
            let detail = format!("{}: unknown template {:?}", name(), entry.template);
            return reasons.add("ima-template", detail);
        };
        // PCR 10 takes all ones for a violation, so the node may write any path here: no exclude applies to it.
        if entry.violation {
            if self.violations == ViolationRule::Refuse {
                reasons.add(
                    "ima-violation",
                    format!("{}: measured while it could be written", name()),
                );
            }
            return;
        }
        if self.excluded.is_match(&entry.path) {
            return;
        }
        if self.memfd == MemfdRule::Accept && entry.path.starts_with("memfd:") {
            return;
        }
        let Some(accepted) = self.lookup(&entry.path) else {
            return reasons.add(
                "file-not-listed",
                format!("{}: not in the policy ({digest})", name()),
            );
        };
        match sha256_of(digest) {
            None => reasons.add(
                "file-digest-algorithm",
                format!(
                    "{}: measured with {}, the policy has SHA-256",
                    name(),
                    digest.algorithm
                ),
            ),
            Some(bytes) if accepted.contains(&bytes) => {}
            Some(_) => reasons.add(
                "file-digest",
                format!("{}: has another content ({digest})", name()),
            ),
        }
    }

    fn lookup(&self, path: &str) -> Option<&FileDigests> {
        self.files.get(path).or_else(|| {
            self.also_under
                .iter()
                .filter_map(|prefix| path.strip_prefix(prefix.as_str()))
                .filter(|rest| rest.starts_with('/'))
                .find_map(|rest| self.files.get(rest))
        })
    }
}

impl RuntimeRules for RuntimePolicy {
    fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn refusal(&self, number: u64, entry: &Entry) -> Option<Reason> {
        let mut reasons = Reasons::default();
        self.check(number, entry, &mut reasons);
        reasons.into_first()
    }
}

fn sha256_of(digest: &FileDigest) -> Option<[u8; 32]> {
    (digest.algorithm == "sha256")
        .then(|| digest.bytes.as_slice().try_into().ok())
        .flatten()
}
