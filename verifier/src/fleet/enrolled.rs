//! An enrolment, checked.

use std::{net::IpAddr, sync::Arc};

use bootkeep_policy::{BootPolicy, Refusal, RuntimePolicy};
use bootkeep_protocol::{
    kept::{Authority, SignedPcrPolicy, MAX_PCR_POLICIES},
    limits::{clean_text, MAX_ADDRESSES, MAX_ENVELOPE, MAX_PUBLIC, MAX_SERIALS, MAX_TEXT},
    policy::PolicySource,
    verifier::{Enrolment, OnFailure, Unattended},
    Bytes, Phase, Problem, ProblemKind,
};
use bootkeep_tpkd::{Share, KEY_LEN, MAX_AUTHORITIES, V};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    clock::now_ms,
    keys::{Change, KeyTerms},
    policies::{Kind, Line, Policies, Shelf},
};

/// Longest interval (seconds).
const MAX_INTERVAL: u32 = 86_400;
/// Longest serial number of a certificate (hexadecimal digits; RFC 5280 §4.1.2.2 has 20 bytes).
const MAX_SERIAL: usize = 40;
/// Largest envelope of a node that keeps its U (bytes): one frame carries three of them.
const MAX_KEPT_ENVELOPE: usize = 1024 * 1024;
/// Longest policy reference (bytes; TPM 2.0 Part 2 §10.4.4: a nonce is as long as the largest digest).
const MAX_POLICY_REF: usize = 64;

/// The parts of an enrolment that are not secret and not policy. Stored as one document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Terms {
    pub(crate) label: String,
    pub(crate) generation: u64,
    pub(crate) ak_digest: Bytes,
    pub(crate) latched_pcr15: Bytes,
    pub(crate) interval_seconds: u32,
    #[serde(default)]
    pub(crate) addresses: Vec<IpAddr>,
    /// Certificates the node may hold: those of this enrolment, then those of the K sets before it that were not revoked.
    #[serde(default)]
    pub(crate) serials: Vec<String>,
    #[serde(default)]
    pub(crate) on_failure: OnFailure,
    /// SHA-256 of the whole enrolment, hex: the same enrolment again changes nothing.
    pub(crate) digest: String,
}

/// An enrolment in use.
#[derive(Debug)]
pub(crate) struct Enrolled {
    pub(crate) terms: Terms,
    pub(crate) latched_pcr15: [u8; 32],
    pub(crate) boot: Arc<Line<BootPolicy>>,
    pub(crate) runtime: Arc<Line<RuntimePolicy>>,
    /// SHA-256 of what the enrolment says about each policy, hex.
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
    pub(crate) change: Change,
    /// For a node that keeps its U.
    pub(crate) keys: Option<KeyTerms>,
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

    /// Whether nothing but K, label, addresses and times differ: what the running system is held against stays the same.
    pub(crate) fn same_rules(&self, other: &Self) -> bool {
        self.terms.generation == other.terms.generation
            && self.terms.ak_digest == other.terms.ak_digest
            && self.boot_digest == other.boot_digest
            && self.runtime_digest == other.runtime_digest
    }

    /// How long, in milliseconds, until a generation of its policies begins or ends to count.
    pub(crate) fn next_change(&self, now_ms: u64) -> Option<u64> {
        let boot = self.boot.content().generations.next_change(now_ms);
        let runtime = self.runtime.content().generations.next_change(now_ms);
        let next = boot.into_iter().chain(runtime).min()?;
        Some(next - now_ms)
    }

    /// Why a node of this phase cannot be appraised at this moment: no policy counts. Nothing the node can help.
    pub(crate) fn gap(&self, phase: Phase, now_ms: u64) -> Option<Refusal> {
        let boot = || self.boot.content().generations.at(now_ms).require().err();
        let runtime = self.runtime.content().generations.at(now_ms).require();
        match phase {
            Phase::Initramfs => boot().or(runtime.err()),
            Phase::Runtime => runtime.err(),
        }
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
    pub(crate) fn check(mut enrolment: Enrolment, policies: &Policies) -> Result<Self, Problem> {
        let digest = serde_json::to_vec(&enrolment)
            .map(|text| digest_hex(&Zeroizing::new(text)))
            .map_err(|_| malformed("it cannot be written as JSON"))?;
        let share = Zeroizing::new(exactly::<KEY_LEN>(&enrolment.share_v, "share_v")?);
        enrolment.share_v.0.zeroize();
        let latched_pcr15 = check_fields(&enrolment)?;
        check_peers(&enrolment)?;
        let (change, keys) = check_unattended(&mut enrolment)?;
        let boot = source(enrolment.boot_policy, &policies.boot)?;
        let runtime = source(enrolment.runtime_policy, &policies.runtime)?;
        Ok(Self {
            change,
            keys,
            enrolled: Enrolled {
                terms: Terms {
                    label: clean_text(&enrolment.label),
                    generation: enrolment.generation,
                    ak_digest: enrolment.ak_digest,
                    latched_pcr15: enrolment.latched_pcr15,
                    interval_seconds: enrolment.interval_seconds,
                    addresses: enrolment.addresses,
                    serials: enrolment.serials,
                    on_failure: enrolment.on_failure,
                    digest,
                },
                latched_pcr15,
                boot: boot.line,
                runtime: runtime.line,
                boot_digest: boot.digest,
                runtime_digest: runtime.digest,
            },
            secrets: Secrets {
                share: Share::from_bytes(*share),
                envelope: enrolment.envelope.0,
            },
            boot_document: boot.text,
            runtime_document: runtime.text,
        })
    }
}

impl NewEnrolment {
    pub(crate) fn is_staged(&self) -> bool {
        matches!(self.change, Change::Staged(_))
    }

    /// The certificates of the K before stay the node's until they are revoked or too many.
    pub(crate) fn add_serials(&mut self, before: &Terms) {
        let serials = &mut self.enrolled.terms.serials;
        for serial in &before.serials {
            if serials.len() < MAX_SERIALS && !serials.contains(serial) {
                serials.push(serial.clone());
            }
        }
    }
}

/// What the enrolment says about a node that keeps its U, checked.
fn check_unattended(enrolment: &mut Enrolment) -> Result<(Change, Option<KeyTerms>), Problem> {
    let Some(unattended) = enrolment.unattended.take() else {
        return Ok((Change::Attended, None));
    };
    let Unattended {
        share_id,
        authorities,
        pcr_policies,
        staged,
    } = unattended;
    if enrolment.envelope.0.len() > MAX_KEPT_ENVELOPE {
        let detail = format!(
            "the envelope of a node that keeps its U has at most {MAX_KEPT_ENVELOPE} bytes"
        );
        return Err(malformed(detail));
    }
    let formed = pcr_policies.iter().all(SignedPcrPolicy::is_well_formed);
    if !formed || pcr_policies.len() > MAX_PCR_POLICIES {
        let detail = format!("pcr_policies must be at most {MAX_PCR_POLICIES}, each with ascending PCRs below 24, a digest of 32 bytes and a signature");
        return Err(malformed(detail));
    }
    if !(1..=MAX_AUTHORITIES).contains(&authorities.len()) || !authorities.iter().all(is_authority)
    {
        let detail = format!("authorities must be 1 to {MAX_AUTHORITIES}, each with a public area of at most {MAX_PUBLIC} bytes and a policy reference of at most {MAX_POLICY_REF}");
        return Err(malformed(detail));
    }
    let change = if staged {
        Change::Staged(share_id)
    } else {
        Change::Unattended(share_id)
    };
    let keys = KeyTerms {
        share_id,
        latched_pcr15: enrolment.latched_pcr15.clone(),
        pcr_policies,
        authorities,
    };
    Ok((change, Some(keys)))
}

fn is_authority(authority: &Authority) -> bool {
    (1..=MAX_PUBLIC).contains(&authority.public.as_slice().len())
        && authority.policy_ref.as_slice().len() <= MAX_POLICY_REF
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

fn check_peers(enrolment: &Enrolment) -> Result<(), Problem> {
    if enrolment.addresses.len() > MAX_ADDRESSES {
        return Err(malformed(format!("more than {MAX_ADDRESSES} addresses")));
    }
    let serial = |serial: &String| {
        let hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        (1..=MAX_SERIAL).contains(&serial.len()) && serial.bytes().all(hex)
    };
    if enrolment.serials.len() > MAX_SERIALS || !enrolment.serials.iter().all(serial) {
        let detail = format!("serials must be at most {MAX_SERIALS}, each 1 to {MAX_SERIAL} lower-case hexadecimal digits");
        return Err(malformed(detail));
    }
    Ok(())
}

/// A policy of an enrolment: what nodes follow, and the text that is stored.
struct Source<P> {
    line: Arc<Line<P>>,
    text: String,
    digest: String,
}

/// Policies that accept nothing are refused here already: a typing error must not look like an attack.
fn source<P: Kind>(source: PolicySource, shelf: &Shelf<P>) -> Result<Source<P>, Problem> {
    let bad = |why: String| {
        let detail = format!("{}_policy: {why}", P::KIND.as_str());
        Problem::new(ProblemKind::Malformed, "bad-policy", detail)
    };
    let text = serde_json::to_string(&source).map_err(|error| malformed(error.to_string()))?;
    let digest = digest_hex(text.as_bytes());
    let line = match source {
        PolicySource::Named(name) => {
            let line = shelf.find(&name);
            line.ok_or_else(|| bad(format!("there is no policy called {name:?}")))?
        }
        PolicySource::Document(value) => {
            let line = shelf.document(&digest, value);
            line.map_err(|error| bad(error.to_string()))?
        }
    };
    let content = line.content();
    let live = content.generations.at(now_ms()).require();
    live.map_err(|refusal| bad(refusal.to_string()))?;
    let mut all = content.generations.all().iter();
    if all.all(|generation| generation.policy.accepts_nothing()) {
        return Err(bad(
            "it lists no file or names no PCR and so accepts nothing".to_owned(),
        ));
    }
    Ok(Source { line, text, digest })
}
