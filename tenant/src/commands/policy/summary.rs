//! A policy in few words.

use serde::Serialize;

use super::boot;
use crate::{output::Show, policies::AnyPolicy};

/// What a policy asks for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Summary {
    /// A boot policy.
    Boot {
        /// Accepted values by PCR.
        values: Vec<(u8, usize)>,
        /// Whether a node without an event log is refused.
        event_log_required: bool,
        /// Accepted events by PCR, with their notes.
        events: Vec<(u8, Vec<String>)>,
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
                values: policy
                    .pcrs
                    .iter()
                    .map(|(pcr, values)| (*pcr, values.len()))
                    .collect(),
                event_log_required: policy.event_log.required,
                events: policy
                    .event_log
                    .events
                    .iter()
                    .map(|(pcr, rules)| {
                        (*pcr, rules.iter().map(|rule| rule.note.clone()).collect())
                    })
                    .collect(),
                warnings: policy.warnings(),
            },
            AnyPolicy::Runtime(policy) => Self::Runtime {
                files: policy.files(),
                excludes: policy.excludes().to_vec(),
                warnings: policy.warnings(),
            },
        }
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
            Self::Boot {
                values,
                event_log_required,
                events,
                ..
            } => boot::text(values, *event_log_required, events),
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
