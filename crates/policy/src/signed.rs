//! Signed policies: an envelope becomes a [`SignedPolicy`] only after every check.

use std::sync::Arc;

use bootkeep_protocol::{
    dsse::Envelope,
    kept::{SignedPcrPolicy, MAX_PCR_POLICIES},
    policy::{PolicyKind, PolicyObject, POLICY_TYPE},
};
use bootkeep_signed::{SignedError, SigningKey, VerifyingKeys};
use serde::Deserialize;
use serde_json::Value;

use crate::{boot::BootPolicy, error::PolicyError, runtime::RuntimePolicy, Generation};

const VERSION: u32 = 1;
/// Longest name of a policy.
const MAX_NAME: usize = 64;
/// Databases count in signed 64-bit integers.
const MAX_NUMBER: u64 = i64::MAX as u64;

/// Why a signed policy does not count.
#[derive(Debug, thiserror::Error)]
pub enum SignedPolicyError {
    /// No signature that counts, or no policy object.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// Another version.
    #[error("the policy object has version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// Not a name.
    #[error("{0:?} is not the name of a policy: 1 to {MAX_NAME} of a-z, 0-9, - and ., the first a letter or digit")]
    Name(String),
    /// Not a number of a generation.
    #[error("{0} is not a generation: they count from 1")]
    Generation(u64),
    /// It never counts.
    #[error(
        "the policy counts from {from_ms} to {until_ms} (ms since 1970): that is no time at all"
    )]
    Window {
        /// Its begin.
        from_ms: u64,
        /// Its end.
        until_ms: u64,
    },
    /// The document in it.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The document in it accepts nothing: a typing error must not look like an attack.
    #[error("the {} policy accepts nothing: it lists no file or names no PCR", .0.as_str())]
    AcceptsNothing(PolicyKind),
    /// The PCR policies in it.
    #[error("pcr_policies: {0}")]
    PcrPolicies(&'static str),
}

/// The document of a signed policy.
#[derive(Clone, Debug)]
pub enum PolicyDocument {
    /// For the boot.
    Boot(Arc<BootPolicy>),
    /// For the running system.
    Runtime(Arc<RuntimePolicy>),
}

/// A policy whose signature, form and document were checked. Only [`SignedPolicy::verify`] makes one.
#[derive(Clone, Debug)]
pub struct SignedPolicy {
    name: String,
    generation: u64,
    valid_from_ms: u64,
    valid_until_ms: u64,
    document: PolicyDocument,
    pcr_policies: Arc<[SignedPcrPolicy]>,
    digest: String,
    key_id: String,
}

/// A [`PolicyObject`] without the detour over [`Value`]: a policy may list a hundred thousand files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object<P> {
    version: u32,
    name: String,
    kind: PolicyKind,
    generation: u64,
    valid_from_ms: u64,
    valid_until_ms: u64,
    policy: P,
    #[serde(default)]
    pcr_policies: Vec<SignedPcrPolicy>,
}

/// What decides how the rest is read.
#[derive(Deserialize)]
struct Kind {
    kind: PolicyKind,
}

/// Whether this can be the name of a policy.
#[must_use]
pub fn is_policy_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(word)
        && name
            .bytes()
            .all(|byte| word(byte) || matches!(byte, b'-' | b'.'))
}

impl<P> Object<P> {
    /// Everything but the document.
    fn check(&self) -> Result<(), SignedPolicyError> {
        if self.version != VERSION {
            return Err(SignedPolicyError::Version(self.version));
        }
        if !is_policy_name(&self.name) {
            return Err(SignedPolicyError::Name(
                self.name.chars().take(80).collect(),
            ));
        }
        if !(1..=MAX_NUMBER).contains(&self.generation) {
            return Err(SignedPolicyError::Generation(self.generation));
        }
        if self.valid_from_ms >= self.valid_until_ms || self.valid_until_ms > MAX_NUMBER {
            return Err(SignedPolicyError::Window {
                from_ms: self.valid_from_ms,
                until_ms: self.valid_until_ms,
            });
        }
        self.check_pcr_policies()
    }

    fn check_pcr_policies(&self) -> Result<(), SignedPolicyError> {
        let bad = |why| Err(SignedPolicyError::PcrPolicies(why));
        if self.kind == PolicyKind::Runtime && !self.pcr_policies.is_empty() {
            return bad("they belong to a boot policy, not to a runtime policy");
        }
        if self.pcr_policies.len() > MAX_PCR_POLICIES {
            return bad("more than 64: retire generations of old boots");
        }
        if !self
            .pcr_policies
            .iter()
            .all(SignedPcrPolicy::is_well_formed)
        {
            return bad("each names ascending PCRs below 24, a digest of 32 bytes and a signature");
        }
        Ok(())
    }

    fn with(self, document: PolicyDocument) -> Result<SignedPolicy, SignedPolicyError> {
        self.check()?;
        let empty = match &document {
            PolicyDocument::Boot(policy) => policy.is_empty(),
            PolicyDocument::Runtime(policy) => policy.is_empty(),
        };
        if empty {
            return Err(SignedPolicyError::AcceptsNothing(self.kind));
        }
        Ok(SignedPolicy {
            name: self.name,
            generation: self.generation,
            valid_from_ms: self.valid_from_ms,
            valid_until_ms: self.valid_until_ms,
            document,
            pcr_policies: self.pcr_policies.into(),
            digest: String::new(),
            key_id: String::new(),
        })
    }
}

fn read(payload: &[u8]) -> Result<SignedPolicy, SignedPolicyError> {
    let json = |error| SignedPolicyError::Signed(SignedError::Document(error));
    let Kind { kind } = serde_json::from_slice(payload).map_err(json)?;
    match kind {
        PolicyKind::Boot => {
            let mut object: Object<Value> = serde_json::from_slice(payload).map_err(json)?;
            let policy = BootPolicy::from_value(object.policy.take())?;
            object.with(PolicyDocument::Boot(Arc::new(policy)))
        }
        PolicyKind::Runtime => {
            let mut object: Object<RuntimePolicy> =
                serde_json::from_slice(payload).map_err(json)?;
            let policy = std::mem::take(&mut object.policy);
            object.with(PolicyDocument::Runtime(Arc::new(policy)))
        }
    }
}

impl SignedPolicy {
    /// Checks signature, form and document.
    ///
    /// # Errors
    /// [`SignedPolicyError`].
    pub fn verify(envelope: &Envelope, keys: &VerifyingKeys) -> Result<Self, SignedPolicyError> {
        let verified = keys.verify(envelope, POLICY_TYPE)?;
        Ok(Self {
            digest: hex::encode(verified.digest()),
            key_id: verified.key_id().to_owned(),
            ..read(verified.payload())?
        })
    }

    /// Signs an object that passes every check.
    ///
    /// # Errors
    /// [`SignedPolicyError`].
    pub fn sign(object: &PolicyObject, key: &SigningKey) -> Result<Envelope, SignedPolicyError> {
        let payload = serde_json::to_vec(object).map_err(SignedError::Document)?;
        read(&payload)?;
        Ok(key.sign(POLICY_TYPE, &payload)?)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which evidence it is about.
    #[must_use]
    pub fn kind(&self) -> PolicyKind {
        match self.document {
            PolicyDocument::Boot(_) => PolicyKind::Boot,
            PolicyDocument::Runtime(_) => PolicyKind::Runtime,
        }
    }

    /// Number of the generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// From when until when it counts, milliseconds since 1970 (UTC).
    #[must_use]
    pub fn window_ms(&self) -> (u64, u64) {
        (self.valid_from_ms, self.valid_until_ms)
    }

    /// What it says.
    #[must_use]
    pub fn document(&self) -> &PolicyDocument {
        &self.document
    }

    /// SHA-256 of the signed payload, lower-case hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whose signature it was: SHA-256 of the public key, lower-case hex.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    fn generation_of<P>(&self, policy: &Arc<P>) -> Generation<P> {
        Generation {
            number: self.generation,
            valid_from_ms: self.valid_from_ms,
            valid_until_ms: self.valid_until_ms,
            policy: policy.clone(),
            pcr_policies: self.pcr_policies.clone(),
        }
    }

    /// As a generation of a boot policy; `None` when it is about the running system.
    #[must_use]
    pub fn boot(&self) -> Option<Generation<BootPolicy>> {
        match &self.document {
            PolicyDocument::Boot(policy) => Some(self.generation_of(policy)),
            PolicyDocument::Runtime(_) => None,
        }
    }

    /// As a generation of a runtime policy; `None` when it is about the boot.
    #[must_use]
    pub fn runtime(&self) -> Option<Generation<RuntimePolicy>> {
        match &self.document {
            PolicyDocument::Boot(_) => None,
            PolicyDocument::Runtime(policy) => Some(self.generation_of(policy)),
        }
    }
}
