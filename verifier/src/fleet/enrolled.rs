//! An enrolment, checked.

use std::sync::Arc;

use bootkeep_policy::{BootPolicy, RuntimePolicy};
use bootkeep_protocol::{
    limits::{clean_text, MAX_ENVELOPE, MAX_TEXT},
    policy::PolicySource,
    verifier::Enrolment,
    Bytes, Problem, ProblemKind,
};
use bootkeep_tpkd::{Share, KEY_LEN, V};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

/// Longest interval (seconds).
const MAX_INTERVAL: u32 = 86_400;

/// The parts of an enrolment that are not secret and not policy. Stored as one document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Terms {
    pub(crate) label: String,
    pub(crate) generation: u64,
    pub(crate) ak_digest: Bytes,
    pub(crate) latched_pcr15: Bytes,
    pub(crate) interval_seconds: u32,
    /// SHA-256 of the whole enrolment, hex: the same enrolment again changes nothing.
    pub(crate) digest: String,
}

/// An enrolment in use.
#[derive(Debug)]
pub(crate) struct Enrolled {
    pub(crate) terms: Terms,
    pub(crate) latched_pcr15: [u8; 32],
    pub(crate) boot_policy: Arc<BootPolicy>,
    pub(crate) runtime_policy: Arc<RuntimePolicy>,
    /// SHA-256 of the policies' documents, hex.
    pub(crate) boot_digest: String,
    pub(crate) runtime_digest: String,
}

/// The secrets of an enrolment. Nowhere in memory longer than needed.
pub(crate) struct Secrets {
    pub(crate) share: Share<V>,
    pub(crate) envelope: Vec<u8>,
}

/// An enrolment that was read and found good, with all that goes into the store.
pub(crate) struct NewEnrolment {
    pub(crate) enrolled: Enrolled,
    pub(crate) secrets: Secrets,
    pub(crate) boot_document: String,
    pub(crate) runtime_document: String,
}

impl Enrolled {
    /// Whether what was appraised under `other` still holds under this: same AK, same volume, same boot policy.
    pub(crate) fn continues(&self, other: &Self) -> bool {
        self.terms.generation == other.terms.generation
            && self.terms.ak_digest == other.terms.ak_digest
            && self.terms.latched_pcr15 == other.terms.latched_pcr15
            && self.boot_digest == other.boot_digest
    }
}

pub(crate) fn digest_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Malformed, "bad-enrolment", detail)
}

fn exactly<const N: usize>(bytes: &Bytes, name: &str) -> Result<[u8; N], Problem> {
    let array = bytes.as_slice().try_into();
    array.map_err(|_| malformed(format!("{name} must be {N} bytes")))
}

impl NewEnrolment {
    /// Checks every field.
    pub(crate) fn check(mut enrolment: Enrolment) -> Result<Self, Problem> {
        let digest = serde_json::to_vec(&enrolment)
            .map(|text| digest_hex(&Zeroizing::new(text)))
            .map_err(|_| malformed("it cannot be written as JSON"))?;
        let share = Zeroizing::new(exactly::<KEY_LEN>(&enrolment.share_v, "share_v")?);
        enrolment.share_v.0.zeroize();
        let latched_pcr15 = check_fields(&enrolment)?;
        let boot_document = text_of(&enrolment.boot_policy)?;
        let runtime_document = text_of(&enrolment.runtime_policy)?;
        let (boot_policy, runtime_policy) =
            policies(enrolment.boot_policy, enrolment.runtime_policy)?;
        Ok(Self {
            enrolled: Enrolled {
                terms: Terms {
                    label: clean_text(&enrolment.label),
                    generation: enrolment.generation,
                    ak_digest: enrolment.ak_digest,
                    latched_pcr15: enrolment.latched_pcr15,
                    interval_seconds: enrolment.interval_seconds,
                    digest,
                },
                latched_pcr15,
                boot_policy: Arc::new(boot_policy),
                runtime_policy: Arc::new(runtime_policy),
                boot_digest: digest_hex(boot_document.as_bytes()),
                runtime_digest: digest_hex(runtime_document.as_bytes()),
            },
            secrets: Secrets {
                share: Share::from_bytes(*share),
                envelope: enrolment.envelope.0,
            },
            boot_document,
            runtime_document,
        })
    }
}

/// The fields beside share and policies; gives the latched value.
fn check_fields(enrolment: &Enrolment) -> Result<[u8; 32], Problem> {
    exactly::<32>(&enrolment.ak_digest, "ak_digest")?;
    let latched_pcr15 = exactly::<32>(&enrolment.latched_pcr15, "latched_pcr15")?;
    if latched_pcr15 == [0; 32] {
        return Err(malformed(
            "latched_pcr15 is zero: that is the value before the latch",
        ));
    }
    if enrolment.envelope.0.is_empty() || enrolment.envelope.0.len() > MAX_ENVELOPE {
        return Err(malformed(format!(
            "envelope must have 1 to {MAX_ENVELOPE} bytes"
        )));
    }
    if !(1..=MAX_INTERVAL).contains(&enrolment.interval_seconds) {
        return Err(malformed(format!(
            "interval_seconds must be 1 to {MAX_INTERVAL}"
        )));
    }
    if enrolment.label.chars().count() > MAX_TEXT {
        return Err(malformed(format!(
            "label has more than {MAX_TEXT} characters"
        )));
    }
    Ok(latched_pcr15)
}

fn text_of(source: &PolicySource) -> Result<String, Problem> {
    serde_json::to_string(source).map_err(|error| malformed(error.to_string()))
}

/// Policies that accept nothing are refused here already: a typing error must not look like an attack.
fn policies(
    boot: PolicySource,
    runtime: PolicySource,
) -> Result<(BootPolicy, RuntimePolicy), Problem> {
    let bad = |which: &str, why: &dyn std::fmt::Display| {
        Problem::new(
            ProblemKind::Malformed,
            "bad-policy",
            format!("{which}: {why}"),
        )
    };
    let document = |which: &str, source| match source {
        PolicySource::Document(value) => Ok(value),
        PolicySource::Named(name) => {
            Err(bad(which, &format!("there is no policy called {name:?}")))
        }
    };
    let (boot, runtime) = (
        document("boot_policy", boot)?,
        document("runtime_policy", runtime)?,
    );
    let boot = BootPolicy::from_value(boot).map_err(|error| bad("boot_policy", &error))?;
    let runtime =
        RuntimePolicy::from_value(runtime).map_err(|error| bad("runtime_policy", &error))?;
    if boot.is_empty() {
        return Err(bad(
            "boot_policy",
            &"it names no PCR and so accepts nothing",
        ));
    }
    if runtime.is_empty() {
        return Err(bad(
            "runtime_policy",
            &"it lists no file and so accepts nothing",
        ));
    }
    Ok((boot, runtime))
}
