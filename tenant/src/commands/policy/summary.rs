//! A policy in few words.

use serde::Serialize;

use super::objects::Generation;
use crate::{output::Show, policies::AnyPolicy};

/// What a policy asks for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Summary {
    /// A boot policy.
    Boot {
        /// The version of the document.
        version: u32,
        /// What it asks for, a line for each rule.
        rules: Vec<String>,
        /// What a person should know.
        warnings: Vec<String>,
    },
    /// A runtime policy.
    Runtime {
        /// Number of files.
        files: usize,
        /// Paths that are not judged.
        excludes: Vec<String>,
        /// What a person should know.
        warnings: Vec<String>,
    },
}

impl Summary {
    pub(super) fn of(policy: &AnyPolicy) -> Self {
        match policy {
            AnyPolicy::Boot(policy) => Self::Boot {
                version: policy.version(),
                rules: policy.summary(),
                warnings: policy.warnings(),
            },
            AnyPolicy::Runtime(policy) => Self::Runtime {
                files: policy.files(),
                excludes: policy.excludes().to_vec(),
                warnings: policy.warnings(),
            },
        }
    }

    /// With more for a person to know.
    pub(super) fn with(mut self, notes: Vec<String>) -> Self {
        match &mut self {
            Self::Boot { warnings, .. } | Self::Runtime { warnings, .. } => warnings.extend(notes),
        }
        self
    }

    fn warnings(&self) -> &[String] {
        match self {
            Self::Boot { warnings, .. } | Self::Runtime { warnings, .. } => warnings,
        }
    }
}

impl Show for Summary {
    fn human(&self) -> String {
        let mut text = match self {
            Self::Boot { version, rules, .. } => {
                let mut text = format!("boot policy, version {version}\n");
                for rule in rules {
                    text.push_str(&format!("  {rule}\n"));
                }
                text
            }
            Self::Runtime {
                files, excludes, ..
            } => {
                let mut text = format!("runtime policy: {files} files\n");
                for pattern in excludes {
                    text.push_str(&format!("  not judged: {pattern}\n"));
                }
                text
            }
        };
        for warning in self.warnings() {
            text.push_str(&format!("warning: {warning}\n"));
        }
        text
    }
}

/// A signed policy: whose generation it is, and what it asks for.
#[derive(Debug, Serialize)]
pub(super) struct Signed {
    signed: Generation,
    policy: Summary,
}

impl Signed {
    pub(super) fn new(signed: Generation, policy: Summary) -> Self {
        Self { signed, policy }
    }
}

impl Show for Signed {
    fn human(&self) -> String {
        self.signed.human() + &self.policy.human()
    }
}
