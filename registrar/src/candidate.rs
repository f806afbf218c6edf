//! A node that asks to be registered: its keys and certificate checked, its word not yet proved.

use std::time::SystemTime;

use bootkeep_evidence::{key::KeyMaterial, AkPublic, EkPublic};
use bootkeep_pki::ek::EkRoots;
use bootkeep_protocol::{
    limits::{MAX_CERTIFICATE, MAX_PUBLIC},
    registrar::{EkAssurance, RegisterRequest},
    Bytes, NodeId,
};
use sha2::{Digest, Sha256};

use crate::Refusal;

/// Public halves of keys that are an EK and an AK by their attributes. Only [`Keys::check`] makes one.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) node_id: NodeId,
    pub(crate) ek: EkPublic,
    pub(crate) ak: AkPublic,
    ek_public: Vec<u8>,
    ak_public: Vec<u8>,
    certificate: Option<Vec<u8>>,
}

impl Keys {
    /// Takes the keys of a request. The node's id is derived from the EK here, whatever anybody says.
    pub(crate) fn check(request: RegisterRequest) -> Result<Self, Refusal> {
        bounded(&request.ek_public, MAX_PUBLIC, "ek_public")?;
        bounded(&request.ak_public, MAX_PUBLIC, "ak_public")?;
        if let Some(certificate) = &request.ek_certificate {
            bounded(certificate, MAX_CERTIFICATE, "ek_certificate")?;
        }
        let ek_public = request.ek_public.0;
        let ak_public = request.ak_public.0;
        Ok(Self {
            node_id: NodeId::of_ek_public(&ek_public),
            ek: EkPublic::parse(&ek_public).map_err(Refusal::Ek)?,
            ak: AkPublic::parse(&ak_public).map_err(Refusal::Ak)?,
            ek_public,
            ak_public,
            certificate: request.ek_certificate.map(|bytes| bytes.0),
        })
    }

    /// Finds out why the EK should be believed: the owner's approval, else its certificate.
    pub(crate) fn believe(
        self,
        roots: &EkRoots,
        approval: Option<String>,
    ) -> Result<Candidate, Refusal> {
        let (assurance, ek_certificate) = match (approval, &self.certificate) {
            (Some(note), _) => (EkAssurance::Approval { note }, None),
            (None, None) => return Err(Refusal::NoCertificate(self.node_id)),
            (None, Some(certificate)) => {
                let chain = roots
                    .verify(certificate, &self.ek, SystemTime::now())
                    .map_err(Refusal::Certificate)?;
                (
                    EkAssurance::Certificate { root: chain.root },
                    Some(chain.certificate),
                )
            }
        };
        Ok(Candidate {
            node_id: self.node_id,
            ek_key: digest_of(self.ek.material()),
            ek_public: self.ek_public,
            ek_certificate,
            ak_public: self.ak_public,
            assurance,
        })
    }
}

fn digest_of(key: &KeyMaterial) -> String {
    let digest = Sha256::new();
    let digest = match key {
        KeyMaterial::P256 { x, y } => digest.chain_update(b"p256").chain_update(x).chain_update(y),
        KeyMaterial::Rsa { modulus, exponent } => digest
            .chain_update(b"rsa")
            .chain_update(exponent.to_be_bytes())
            .chain_update(modulus),
    };
    hex::encode(digest.finalize())
}

fn bounded(bytes: &Bytes, limit: usize, name: &'static str) -> Result<(), Refusal> {
    (bytes.as_slice().len() <= limit)
        .then_some(())
        .ok_or(Refusal::TooLong(name))
}

/// A node whose EK is believed. That it holds the AK is not proved. Only [`Keys::believe`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) node_id: NodeId,
    /// SHA-256 of the bare key, hex: the same for every public area that holds it.
    pub(crate) ek_key: String,
    pub(crate) ek_public: Vec<u8>,
    pub(crate) ek_certificate: Option<Vec<u8>>,
    pub(crate) ak_public: Vec<u8>,
    pub(crate) assurance: EkAssurance,
}
