//! Refusals.

use std::fmt;

use bootkeep_evidence::printable;
use bootkeep_protocol::verifier::Reason;

/// Reasons one refusal keeps; there may be thousands of unlisted files.
pub const MAX_REASONS: usize = 32;

/// Evidence was refused. Holds at least one reason, in the order of the checks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    reasons: Vec<Reason>,
    more: usize,
}

impl Refusal {
    /// A refusal with one reason. `code` is stable and in kebab-case.
    #[must_use]
    pub fn of(code: &str, detail: impl AsRef<str>) -> Self {
        let mut reasons = Reasons::default();
        reasons.add(code, detail);
        Self {
            reasons: reasons.list,
            more: 0,
        }
    }

    /// The reasons, at most [`MAX_REASONS`] and one line that counts the rest.
    #[must_use]
    pub fn reasons(&self) -> Vec<Reason> {
        let mut reasons = self.reasons.clone();
        if self.more > 0 {
            reasons.push(reason("more", &format!("and {} more", self.more)));
        }
        reasons
    }

    /// Whether one of the reasons has this code.
    #[must_use]
    pub fn has(&self, code: &str) -> bool {
        self.reasons.iter().any(|reason| reason.code == code)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, reason) in self.reasons().iter().enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            write!(f, "{comma}{} ({})", reason.detail, reason.code)?;
        }
        Ok(())
    }
}

fn reason(code: &str, detail: &str) -> Reason {
    Reason {
        code: code.to_owned(),
        detail: printable(detail),
    }
}

/// Reasons while they are collected.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    list: Vec<Reason>,
    more: usize,
}

impl Reasons {
    pub(crate) fn add(&mut self, code: &str, detail: impl AsRef<str>) {
        if self.list.len() < MAX_REASONS {
            self.list.push(reason(code, detail.as_ref()));
        } else {
            self.more += 1;
        }
    }

    /// `Ok` only when nothing was found.
    pub(crate) fn verdict(self) -> Result<(), Refusal> {
        if self.list.is_empty() {
            return Ok(());
        }
        Err(Refusal {
            reasons: self.list,
            more: self.more,
        })
    }
}
