//! The owner's key that signs PCR policies.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{EcdsaKeyPair, KeyPair, ECDSA_P256_SHA256_FIXED_SIGNING},
};
use bootkeep_protocol::kept::SignedPcrPolicy;
use bootkeep_tpkd::Authority;
use rustls_pki_types::{pem::PemObject, PrivatePkcs8KeyDer};

use crate::{
    authority::p256_authority,
    digest::{pcr_policy, PcrValues},
    tpm_format::ecdsa_signature,
    AuthorizeError,
};

/// A P-256 key that signs PCR policies under one policy reference.
pub struct AuthorityKey {
    pair: EcdsaKeyPair,
    authority: Authority,
}

impl std::fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("authority key (secret)")
    }
}

impl AuthorityKey {
    /// Reads a key: PKCS #8, PEM. The policy reference keeps signatures of one use from serving another: the name of the
    /// boot policy; at most 64 bytes.
    ///
    /// # Errors
    /// [`AuthorizeError::Key`].
    pub fn from_pem(pem: &str, policy_ref: &[u8]) -> Result<Self, AuthorizeError> {
        let bad = || AuthorizeError::Key("private P-256 key (PKCS #8)");
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| bad())?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
                .map_err(|_| bad())?;
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key());
        let der = public.map_err(|_| bad())?;
        let point: &[u8; 64] = der.as_ref().last_chunk().ok_or_else(bad)?;
        let (x, y) = point.split_at(32);
        let (Ok(x), Ok(y)) = (x.try_into(), y.try_into()) else {
            return Err(bad());
        };
        Ok(Self {
            authority: p256_authority(x, y, policy_ref),
            pair,
        })
    }

    /// What a node must know of it.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Signs the policy over these PCRs with these values.
    ///
    /// # Errors
    /// [`AuthorizeError::Pcrs`], [`AuthorizeError::NoValue`], [`AuthorizeError::Sign`].
    pub fn sign(&self, pcrs: &[u8], values: &PcrValues) -> Result<SignedPcrPolicy, AuthorizeError> {
        let policy = pcr_policy(pcrs, values)?;
        // TPM2_PolicyAuthorize wants a signature over H(policy || reference); the library hashes.
        let message = [&policy[..], &self.authority.policy_ref].concat();
        let signature = self
            .pair
            .sign(&SystemRandom::new(), &message)
            .map_err(|_| AuthorizeError::Sign)?;
        Ok(SignedPcrPolicy {
            pcrs: pcrs.to_vec(),
            policy: policy.as_slice().into(),
            signature: ecdsa_signature(signature.as_ref()).into(),
        })
    }
}
