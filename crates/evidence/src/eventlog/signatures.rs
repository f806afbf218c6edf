//! `EFI_SIGNATURE_LIST` (UEFI §32.4.1): the contents of `PK`, `KEK`, `db` and `dbx`.

use sha2::{Digest, Sha256};
use x509_cert::der::Decode;

use super::{guid::Guid, ClaimError};
use crate::reader::{CutShort, Reader};

/// Most entries of all lists of one variable; Microsoft's dbx has some 500.
const MAX_ENTRIES: usize = 16_384;
const HEADER: usize = 28;
const OWNER: usize = 16;

/// An X.509 certificate, as a key database names it. Nothing of it was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of its DER form.
    pub fingerprint: [u8; 32],
    /// Subject and issuer; `None` when it is no certificate of RFC 5280.
    pub names: Option<Names>,
}

/// The names of a certificate in the form of RFC 4514.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
}

impl Certificate {
    pub(super) fn read(der: &[u8]) -> Self {
        let names = x509_cert::Certificate::from_der(der)
            .ok()
            .map(|read| Names {
                subject: read.tbs_certificate.subject.to_string(),
                issuer: read.tbs_certificate.issuer.to_string(),
            });
        Self {
            fingerprint: Sha256::digest(der).into(),
            names,
        }
    }
}

/// What one entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureData {
    /// A certificate.
    X509(Certificate),
    /// The Authenticode SHA-256 digest of an image.
    Sha256([u8; 32]),
    /// The digest of a revoked certificate's to-be-signed part, with the time of its revocation.
    X509Sha256([u8; 32]),
    /// Of another type.
    Other(Guid),
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Who put it there, by their own word.
    pub owner: Guid,
    /// What it is.
    pub data: SignatureData,
    /// Names it in a policy: of a certificate the fingerprint, of a digest the digest itself, else the SHA-256 of
    /// its bytes.
    pub digest: [u8; 32],
}

/// All entries of a variable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignatureLists {
    entries: Vec<Signature>,
}

impl SignatureLists {
    /// Parses a variable's contents; an empty variable has no entries.
    ///
    /// # Errors
    /// [`ClaimError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ClaimError> {
        let mut reader = Reader::new(bytes);
        let mut entries = Vec::new();
        while !reader.is_empty() {
            list(&mut reader, &mut entries)?;
        }
        Ok(Self { entries })
    }

    /// The entries in their order.
    #[must_use]
    pub fn entries(&self) -> &[Signature] {
        &self.entries
    }
}

fn list(reader: &mut Reader<'_>, entries: &mut Vec<Signature>) -> Result<(), ClaimError> {
    let cut = |_: CutShort| ClaimError::Malformed("an EFI_SIGNATURE_LIST is cut short");
    let kind = Guid::read(reader).map_err(cut)?;
    let length = reader.u32_le().map_err(cut)? as usize;
    let header = reader.u32_le().map_err(cut)? as usize;
    let size = reader.u32_le().map_err(cut)? as usize;
    let body = length
        .checked_sub(HEADER)
        .ok_or(ClaimError::Malformed("an EFI_SIGNATURE_LIST is too short"))?;
    let mut body = Reader::new(reader.take(body).map_err(cut)?);
    body.take(header).map_err(cut)?;
    let all = body.rest();
    if size <= OWNER || all.len() % size != 0 {
        let problem = "an EFI_SIGNATURE_LIST does not hold whole signatures";
        return Err(ClaimError::Malformed(problem));
    }
    if entries.len() + all.len() / size > MAX_ENTRIES {
        return Err(ClaimError::Malformed("more signatures than the limit"));
    }
    for entry in all.chunks_exact(size) {
        entries.push(signature(kind, entry)?);
    }
    Ok(())
}

/// `EFI_SIGNATURE_DATA`: owner, data.
fn signature(kind: Guid, entry: &[u8]) -> Result<Signature, ClaimError> {
    let short = ClaimError::Malformed("a signature has another length than its type");
    let mut reader = Reader::new(entry);
    let owner = Guid::read(&mut reader).map_err(|_| short.clone())?;
    let bytes = reader.rest();
    let data = match kind {
        Guid::X509 => SignatureData::X509(Certificate::read(bytes)),
        Guid::SHA256 => SignatureData::Sha256(bytes.try_into().map_err(|_| short)?),
        Guid::X509_SHA256 => SignatureData::X509Sha256(*bytes.first_chunk().ok_or(short)?),
        other => SignatureData::Other(other),
    };
    let digest = match &data {
        SignatureData::X509(certificate) => certificate.fingerprint,
        SignatureData::Sha256(digest) | SignatureData::X509Sha256(digest) => *digest,
        SignatureData::Other(_) => Sha256::digest(bytes).into(),
    };
    Ok(Signature {
        owner,
        data,
        digest,
    })
}
