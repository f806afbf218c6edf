//! Keys that sign.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{EcdsaKeyPair, KeyPair, ECDSA_P256_SHA256_ASN1_SIGNING},
};
use base64::{engine::general_purpose::STANDARD, Engine as _};
use bootkeep_protocol::dsse::{Envelope, Signature};
use rustls_pki_types::{pem::PemObject, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{encode, SignedError};

/// A P-256 key that signs documents.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    public_der: Vec<u8>,
    key_id: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "signing key {}", self.key_id)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

impl SigningKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`SignedError::Sign`] when there is no randomness.
    pub fn generate() -> Result<Self, SignedError> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .map_err(|_| SignedError::Sign)?;
        Self::from_pkcs8(Zeroizing::new(pkcs8.as_ref().to_vec()))
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, SignedError> {
        let bad = SignedError::Key("private");
        let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8) else {
            return Err(bad);
        };
        let Ok(public) = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()) else {
            return Err(bad);
        };
        let public_der = public.as_ref().to_vec();
        Ok(Self {
            key_id: hex::encode(Sha256::digest(&public_der)),
            public_der,
            pair,
            pkcs8,
        })
    }

    /// A key that was kept: PKCS #8, PEM.
    ///
    /// # Errors
    /// [`SignedError::Key`].
    pub fn from_pem(pem: &str) -> Result<Self, SignedError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| SignedError::Key("private"))?;
        Self::from_pkcs8(Zeroizing::new(der.secret_pkcs8_der().to_vec()))
    }

    /// The key, PKCS #8, PEM.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem("PRIVATE KEY", &self.pkcs8))
    }

    /// Its public key, PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.public_der)
    }

    /// SHA-256 of the public key (DER `SubjectPublicKeyInfo`), lower-case hex.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Signs a payload of this type.
    ///
    /// # Errors
    /// [`SignedError::Sign`].
    pub fn sign(&self, payload_type: &str, payload: &[u8]) -> Result<Envelope, SignedError> {
        let signature = self
            .pair
            .sign(&SystemRandom::new(), &encode(payload_type, payload))
            .map_err(|_| SignedError::Sign)?;
        Ok(Envelope {
            payload: payload.into(),
            payload_type: payload_type.to_owned(),
            signatures: vec![Signature {
                keyid: self.key_id.clone(),
                sig: signature.as_ref().into(),
            }],
        })
    }
}
