//! Runtime policy: what a running node may have measured.
//!
//! | part of the document | accepts |
//! |---|---|
//! | `files` | a path with one of its digests |
//! | `rules` | paths of a pattern with one of some digests |
//! | `signing_keys` | files that a key signed (IMA signatures) |
//! | `excludes` | paths of a pattern, whatever is there |
//! | `buffers` | keys of keyrings, command lines of kexec, other critical data |
//! | `device_mapper` | tables of dm-verity, dm-crypt and others |
//!
//! `refuse` goes before all of them. `violations` and `memfd` say what is done with these. An entry that no rule
//! accepts is refused.

mod buffers;
mod check;
mod device_mapper;
mod document;
mod files;
mod keys;
mod make;
mod overlay;
mod path_rule;
mod pattern;
mod rules;
mod tree;
mod verdict;
mod warnings;

use serde::{Deserialize, Serialize};

pub use buffers::{BufferRule, CertificateRule, Sha256Rule, TextRule};
pub use device_mapper::DeviceRule;
pub use files::FileDigests;
pub use keys::SigningKey;
pub use path_rule::{PathRule, RuleDigest};
pub use pattern::{PathPattern, RegexText, TextPattern};
pub use rules::RuntimeRules;
pub use tree::Tree;
pub use verdict::{Accepted, Explanation, Missing};

/// The name of the list's first entry.
const BOOT_AGGREGATE: &str = "boot_aggregate";

/// What is said to violations: a file was measured while somebody could write it, so its digest says nothing.
///
/// There is no rule by path: PCR 10 takes all ones for a violation, so the path in the list is what the node likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViolationRule {
    /// Refused. Excludes do not help: nothing covers the path of a violation.
    #[default]
    Refuse,
    /// Accepted: kernels with `ima_policy=tcb` record some in every boot, for account files and logs.
    Accept,
}

/// What is said to files that exist only in memory (`memfd:` names).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemfdRule {
    /// Refused, even when another rule would accept them.
    Refuse,
    /// They must be listed like any other file.
    #[default]
    Listed,
    /// Accepted, whatever they hold.
    Accept,
}

/// The runtime policy, version 2 (and 1, which has `files`, `excludes`, `also_under`, `violations` and `memfd`).
///
/// ```yaml
/// version: 2
/// violations: refuse
/// memfd: listed
/// excludes: [ "/var/log/**", { regex: "/run/user/[0-9]+/.*" } ]
/// also_under: [ /sysroot ]
/// signing_keys: [ { name: vendor, pem: "-----BEGIN CERTIFICATE-----…", paths: [ "/opt/vendor/**" ] } ]
/// files: { /usr/bin/true: <hex>, /usr/bin/false: [ <hex>, <hex> ] }
/// ```
///
/// Share it behind an `Arc`: tens of thousands of files take some megabytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "document::Document", into = "document::Document")]
pub struct RuntimePolicy {
    files: files::Files,
    excludes: pattern::Patterns,
    refuse: pattern::Patterns,
    rules: path_rule::PathRules,
    prefixes: overlay::Prefixes,
    keys: keys::SigningKeys,
    buffers: buffers::Buffers,
    devices: device_mapper::Devices,
    violations: ViolationRule,
    memfd: MemfdRule,
}

impl RuntimePolicy {
    /// Number of listed files.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files.0.len()
    }

    /// The listed files.
    pub fn listed(&self) -> impl Iterator<Item = (&str, &FileDigests)> {
        let files = self.files.0.iter();
        files.map(|(path, digests)| (path.as_ref(), digests))
    }

    /// The excludes, as text.
    #[must_use]
    pub fn excludes(&self) -> Vec<String> {
        let texts = self.excludes.list().iter();
        texts.map(|pattern| pattern.text().to_owned()).collect()
    }

    /// The keys whose signatures are accepted, by name.
    pub fn signing_keys(&self) -> impl Iterator<Item = &SigningKey> {
        self.keys.written()
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

    /// Whether it names no file, rule or key and so accepts no program. Excludes alone make no policy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.0.is_empty() && self.rules.is_empty() && self.keys.is_empty()
    }
}
