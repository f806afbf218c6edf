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

    /// Whether it says something about our own policies only, nothing about the node: none counts at this time.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        let ours =
            |reason: &Reason| matches!(reason.code.as_str(), "policy-expired" | "policy-empty");
        self.more == 0 && self.reasons.iter().all(ours)
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

    /// Takes a reason that another policy object gave.
    pub(crate) fn push(&mut self, reason: Reason) {
        self.add(&reason.code, reason.detail);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds what was found elsewhere.
    pub(crate) fn append(&mut self, other: Self) {
        for reason in other.list {
            self.push(reason);
        }
        self.more += other.more;
    }

    pub(crate) fn append_refusal(&mut self, refusal: &Refusal) {
        for reason in refusal.reasons() {
            self.push(reason);
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
