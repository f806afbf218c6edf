//! Boot policy: which boots are acceptable.
//!
//! Version 1 lists PCR values and event digests. Version 2 speaks in rules ([`RulePolicy`], `docs/policies-boot.md`).

mod command_line;
mod document;
mod firmware;
mod grub;
mod known_good;
mod look;
mod pattern;
mod pcrsig;
mod phases;
mod predict;
mod rules;
mod secure_boot;
mod stages;
mod uki;
mod v1;
mod validate;
mod warnings;

use bootkeep_evidence::{eventlog::EventLog, ClockInfo, PcrValues};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use document::{
    CommandLineRule, FileRule, FirmwareRule, GrubRule, KeyRule, Listed, Pcr11, PcrSignature,
    PhaseRule, RulePolicy, SbatRule, SecureBoot, Separators, SignedRule, SignerRule, StageRule,
    StageSource, UkiRule, Unlisted,
};
pub use known_good::{KnownGoodOptions, MadeBootPolicy, RuleChoice};
pub use pattern::Pattern;
pub use predict::{
    as_qemu_hands_over, initramfs_values, kernel_version, predict, sha256, version_in_name,
    NewConfig, NewKernel, NewLoader, NewUki, NextBoot, Open, Places, PredictError, Predicted,
    Rename, UkiContents, UkiError, Why,
};
pub use v1::{BootOptions, EventLogRule, EventRule, ValuePolicy};

use crate::{
    appraise::{KnownGood, UnsafeClock},
    error::PolicyError,
    reason::Reasons,
};

/// The PCRs a boot policy may speak of: 10 is IMA's, 15 the latch, above are no boot's.
fn allowed(pcr: u8) -> bool {
    matches!(pcr, 0..=9 | 11..=14)
}

/// A boot policy of either version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum BootPolicy {
    /// Version 1: values and digests.
    Values(ValuePolicy),
    /// Version 2: rules.
    Rules(Box<RulePolicy>),
}

/// Looks only for the version.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl BootPolicy {
    /// Version 1, from the quoted values and the log of a boot that is known to be good: see
    /// [`ValuePolicy::from_evidence`].
    ///
    /// # Errors
    /// [`PolicyError::Replay`] when the log does not explain a firmware PCR.
    pub fn from_evidence(
        quoted: &PcrValues,
        log: Option<&EventLog>,
        options: &BootOptions,
    ) -> Result<Self, PolicyError> {
        ValuePolicy::from_evidence(quoted, log, options).map(Self::Values)
    }

    /// Version 2, from one or several boots that are known to be good: rules that survive updates where the logs
    /// show them.
    ///
    /// # Errors
    /// [`PolicyError`] when a log does not explain its PCRs or lies about itself.
    pub fn from_known_good(
        boots: &[KnownGood],
        options: &KnownGoodOptions,
    ) -> Result<MadeBootPolicy, PolicyError> {
        known_good::make(boots, options)
    }

    /// Accepts the foretold boot, too, and what it accepted before. Digests, commands and words of command lines are added
    /// where the policy lists such; rules on keys, on Secure Boot, on what a command line must and must not have stay.
    ///
    /// # Errors
    /// [`PolicyError::Open`] when a rule decides on a PCR that cannot be foretold, [`PolicyError::NextBoot`] when the boot
    /// is still refused.
    pub fn extended(
        &self,
        next: &Predicted,
        clock: ClockInfo,
    ) -> Result<MadeBootPolicy, PolicyError> {
        known_good::extend(self, next, clock)
    }

    /// Reads a JSON document.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, PolicyError> {
        let Version { version } = serde_json::from_slice(bytes)?;
        match version {
            v1::VERSION => Ok(Self::Values(serde_json::from_slice(bytes)?)),
            validate::VERSION => Ok(Self::Rules(serde_json::from_slice(bytes)?)),
            found => Err(PolicyError::BootVersion(found)),
        }
        .and_then(Self::validated)
    }

    /// Reads a YAML document; JSON is read, too.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn from_yaml(bytes: &[u8]) -> Result<Self, PolicyError> {
        // JSON is YAML, and much faster read as what it is.
        if bytes.trim_ascii_start().starts_with(b"{") {
            return Self::from_json(bytes);
        }
        let Version { version } = serde_yaml::from_slice(bytes)?;
        match version {
            v1::VERSION => Ok(Self::Values(serde_yaml::from_slice(bytes)?)),
            validate::VERSION => Ok(Self::Rules(serde_yaml::from_slice(bytes)?)),
            found => Err(PolicyError::BootVersion(found)),
        }
        .and_then(Self::validated)
    }

    /// Reads a document that was part of another.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn from_value(value: Value) -> Result<Self, PolicyError> {
        let Version { version } = Version::deserialize(&value)?;
        match version {
            v1::VERSION => Ok(Self::Values(serde_json::from_value(value)?)),
            validate::VERSION => Ok(Self::Rules(serde_json::from_value(value)?)),
            found => Err(PolicyError::BootVersion(found)),
        }
        .and_then(Self::validated)
    }

    /// The document, as a value for another document.
    ///
    /// # Errors
    /// [`PolicyError::Document`], never for a policy that was read.
    pub fn to_value(&self) -> Result<Value, PolicyError> {
        Ok(serde_json::to_value(self)?)
    }

    /// The document as YAML.
    ///
    /// # Errors
    /// [`PolicyError::Yaml`], never for a policy that was read.
    pub fn to_yaml(&self) -> Result<String, PolicyError> {
        Ok(serde_yaml::to_string(self)?)
    }

    /// Checks what the form alone does not say.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn validated(self) -> Result<Self, PolicyError> {
        match self {
            Self::Values(policy) => policy.validated().map(Self::Values),
            Self::Rules(policy) => {
                validate::check(&policy)?;
                Ok(Self::Rules(policy))
            }
        }
    }

    /// Accepts also what `other` accepts, for a second kernel. Only what both ask for is still asked for.
    ///
    /// # Errors
    /// [`PolicyError::Merge`] unless both are of version 1: boots of version 2 are joined by making the policy from
    /// all of them, or by two generations.
    pub fn merge(&mut self, other: &Self) -> Result<(), PolicyError> {
        match (self, other) {
            (Self::Values(policy), Self::Values(other)) => {
                policy.merge(other);
                Ok(())
            }
            _ => Err(PolicyError::Merge),
        }
    }

    /// Whether a document has a member that only boot policies have.
    #[must_use]
    pub fn resembles(value: &Value) -> bool {
        const MEMBERS: [&str; 16] = [
            "boot_stages",
            "db",
            "dbx",
            "event_log",
            "events",
            "firmware",
            "grub",
            "initrd",
            "kernel_command_line",
            "key_exchange_keys",
            "pcrs",
            "platform_key",
            "sbat",
            "secure_boot",
            "uki",
            "unlisted_events",
        ];
        MEMBERS.iter().any(|member| value.get(member).is_some())
    }

    /// The version of the document.
    #[must_use]
    pub fn version(&self) -> u32 {
        match self {
            Self::Values(policy) => policy.version,
            Self::Rules(policy) => policy.version,
        }
    }

    /// Whether it accepts nothing because it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Values(policy) => policy.is_empty(),
            Self::Rules(policy) => rules::is_empty(policy),
        }
    }

    /// What a person should know before relying on this policy.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Self::Values(policy) => policy.warnings(),
            Self::Rules(policy) => warnings::of(policy),
        }
    }

    /// What is said to a boot after the power went without a shutdown.
    #[must_use]
    pub fn unsafe_clock(&self) -> UnsafeClock {
        match self {
            Self::Values(policy) => policy.unsafe_clock,
            Self::Rules(policy) => policy.unsafe_clock,
        }
    }

    /// What it asks for, a line for each rule.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        match self {
            Self::Values(policy) => policy.summary(),
            Self::Rules(policy) => rules::summary(policy),
        }
    }

    /// The event-log rules, then the PCR values. Each reason names the event, the PCR and the rule.
    pub(crate) fn check(
        &self,
        quoted: &PcrValues,
        log: Option<&EventLog>,
        signatures: Option<&[u8]>,
        reasons: &mut Reasons,
    ) {
        match self {
            _ if self.is_empty() => reasons.add(
                "boot-policy-empty",
                "the boot policy asks for nothing: it accepts nothing",
            ),
            Self::Values(policy) => policy.check(quoted, log, reasons),
            Self::Rules(policy) => rules::check(policy, quoted, log, signatures, reasons),
        }
    }
}
