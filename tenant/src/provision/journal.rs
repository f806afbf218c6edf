//! What a provisioning or a rotation must remember to be gone on with: `nodes/ID/provisioning.json`, `rotation.json`, mode
//! 0600.
//!
//! Written before anything that depends on it leaves this program, and removed at the end. It holds U, so that U for
//! one K is given again after a crash and never mixed with another K.

use std::{fs, io, path::PathBuf};

use bootkeep_protocol::{kept::SignedPcrPolicy, verifier::Enrolment, Bytes, NodeId, Nonce};
use bootkeep_tpkd::{BootstrapKey, Share, U, V};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    files::{self, PRIVATE},
    Error, Home,
};

/// Largest journal that is read: an enrolment in base64 (bytes).
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// Quotes after which U may have been sent; older ones are dropped.
const MAX_NONCES: usize = 32;

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `bootkeep provision`, `bootkeep reinstate`.
    Provisioning,
    /// `bootkeep rotate`.
    Rotation,
}

impl Kind {
    fn file(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning.json",
            Self::Rotation => "rotation.json",
        }
    }
}

fn provisioning() -> Kind {
    Kind::Provisioning
}

/// One provisioning or rotation under way.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    node_id: NodeId,
    #[serde(default = "provisioning")]
    kind: Kind,
    /// Of the inputs.
    fingerprint: Bytes,
    share_u: Bytes,
    /// With V.
    enrolment: Enrolment,
    /// Nonces of the quotes after which U was sent.
    nonces: Vec<Nonce>,
    /// Whether the node has shown that it knows K.
    confirmed: bool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "journal of {} (secret)", self.node_id)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.share_u.0.zeroize();
        self.enrolment.share_v.0.zeroize();
        self.fingerprint.0.zeroize();
    }
}

fn path(home: &Home, node: &NodeId, kind: Kind) -> PathBuf {
    home.node_folder(node).join(kind.file())
}

fn share(bytes: &Bytes) -> Result<Zeroizing<[u8; 32]>, Error> {
    <[u8; 32]>::try_from(bytes.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| Error::Failed("a share in the journal is not 32 bytes long".into()))
}

impl Journal {
    /// A new one, kept before it is given.
    ///
    /// # Errors
    /// Errors of files.
    pub fn begin(
        home: &Home,
        node: &NodeId,
        kind: Kind,
        fingerprint: &[u8; 32],
        share_u: &Share<U>,
        enrolment: Enrolment,
    ) -> Result<Self, Error> {
        let journal = Self {
            node_id: node.clone(),
            kind,
            fingerprint: fingerprint.as_slice().into(),
            share_u: share_u.expose().as_slice().into(),
            enrolment,
            nonces: Vec::new(),
            confirmed: false,
        };
        files::private_folder(&home.node_folder(node))?;
        journal.save(home)?;
        Ok(journal)
    }

    /// The one under way, if any.
    ///
    /// # Errors
    /// [`Error::Failed`] when it is damaged; errors of files.
    pub fn load(home: &Home, node: &NodeId, kind: Kind) -> Result<Option<Self>, Error> {
        let path = path(home, node, kind);
        let text = match files::read_private(&path, MAX_FILE) {
            Err(Error::NotFound(_)) => return Ok(None),
            other => other?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|_| {
            Error::Failed(format!(
                "{} is damaged; remove it to begin again",
                path.display()
            ))
        })
    }

    /// Ends it: U is gone.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remove(home: &Home, node: &NodeId, kind: Kind) -> Result<(), Error> {
        let path = path(home, node, kind);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::File { path, source })
            }
            _ => Ok(()),
        }
    }

    /// Whether it is of these inputs and this AK.
    #[must_use]
    pub fn fits(&self, fingerprint: &[u8; 32], generation: u64, ak_digest: &[u8; 32]) -> bool {
        let same_inputs: bool = self
            .fingerprint
            .as_slice()
            .ct_eq(fingerprint.as_slice())
            .into();
        same_inputs
            && self.enrolment.generation == generation
            && self.enrolment.ak_digest.as_slice() == ak_digest.as_slice()
    }

    /// What the verifier is given.
    #[must_use]
    pub fn enrolment(&self) -> &Enrolment {
        &self.enrolment
    }

    /// Remembers the PCR policy of the boot that was appraised last, in place of those before.
    ///
    /// # Errors
    /// Errors of files.
    pub fn authorize(&mut self, home: &Home, policy: SignedPcrPolicy) -> Result<(), Error> {
        if let Some(unattended) = &mut self.enrolment.unattended {
            unattended.pcr_policies = vec![policy];
        }
        self.save(home)
    }

    /// U.
    ///
    /// # Errors
    /// [`Error::Failed`] when the journal is damaged.
    pub fn share_u(&self) -> Result<Share<U>, Error> {
        Ok(Share::from_bytes(*share(&self.share_u)?))
    }

    /// Remembers that U goes out after the quote with this nonce. To be called before it does.
    ///
    /// # Errors
    /// Errors of files; U must not be sent then.
    pub fn sending(&mut self, home: &Home, nonce: Nonce) -> Result<(), Error> {
        if self.nonces.len() >= MAX_NONCES {
            self.nonces.remove(0);
        }
        self.nonces.push(nonce);
        self.save(home)
    }

    /// Whether U may have reached the node.
    #[must_use]
    pub fn sent(&self) -> bool {
        !self.nonces.is_empty()
    }

    /// Whether this confirmation was made by somebody who knows K, after one of our quotes.
    ///
    /// # Errors
    /// [`Error::Failed`] when the journal is damaged.
    pub fn confirms(&self, confirmation: &[u8]) -> Result<bool, Error> {
        let v = Share::<V>::from_bytes(*share(&self.enrolment.share_v)?);
        let key = BootstrapKey::combine(&self.share_u()?, &v);
        let node = self.node_id.as_str();
        Ok(self
            .nonces
            .iter()
            .any(|nonce| key.confirms(nonce.as_bytes(), node, confirmation)))
    }

    /// Remembers that the node knows K.
    ///
    /// # Errors
    /// Errors of files.
    pub fn confirm(&mut self, home: &Home) -> Result<(), Error> {
        self.confirmed = true;
        self.save(home)
    }

    /// Whether the node has shown that it knows K.
    #[must_use]
    pub fn confirmed(&self) -> bool {
        self.confirmed
    }

    fn save(&self, home: &Home) -> Result<(), Error> {
        let text = serde_json::to_vec(self)
            .map(Zeroizing::new)
            .map_err(|error| Error::Failed(error.to_string()))?;
        files::replace(&path(home, &self.node_id, self.kind), &text, PRIVATE)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use bootkeep_protocol::policy::PolicySource;

    use super::*;

    fn enrolment(v: &Share<V>) -> Enrolment {
        Enrolment {
            label: "web".into(),
            generation: 2,
            ak_digest: vec![7; 32].into(),
            share_v: v.expose().as_slice().into(),
            envelope: vec![1].into(),
            latched_pcr15: vec![0; 32].into(),
            boot_policy: PolicySource::Document(serde_json::json!({})),
            runtime_policy: PolicySource::Document(serde_json::json!({})),
            addresses: Vec::new(),
            serials: Vec::new(),
            on_failure: bootkeep_protocol::verifier::OnFailure::default(),
            interval_seconds: 10,
            unattended: None,
        }
    }

    #[test]
    fn it_survives_and_confirms_only_k_after_a_sent_share() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let node = NodeId::of_ek_public(b"ek");
        let key = BootstrapKey::generate().unwrap();
        let (u, v) = key.split().unwrap();
        Journal::begin(
            &home,
            &node,
            Kind::Provisioning,
            &[1; 32],
            &u,
            enrolment(&v),
        )
        .unwrap();
        let mode = fs::metadata(path(&home, &node, Kind::Provisioning))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);

        let mut journal = Journal::load(&home, &node, Kind::Provisioning)
            .unwrap()
            .unwrap();
        let nonce = Nonce::from([5; 32]);
        let good = key.confirmation(nonce.as_bytes(), node.as_str());
        assert!(!journal.sent() && !journal.confirms(&good).unwrap());
        journal.sending(&home, nonce).unwrap();

        let journal = Journal::load(&home, &node, Kind::Provisioning)
            .unwrap()
            .unwrap();
        assert!(journal.sent() && journal.confirms(&good).unwrap());
        assert!(!journal.confirms(&good[..31]).unwrap());
        let other = BootstrapKey::generate().unwrap();
        let bad = other.confirmation(nonce.as_bytes(), node.as_str());
        assert!(!journal.confirms(&bad).unwrap());
        assert_eq!(journal.share_u().unwrap().expose(), u.expose());

        Journal::remove(&home, &node, Kind::Provisioning).unwrap();
        assert!(Journal::load(&home, &node, Kind::Provisioning)
            .unwrap()
            .is_none());
    }

    #[test]
    fn it_fits_only_the_same_inputs_and_ak() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let (u, v) = BootstrapKey::generate().unwrap().split().unwrap();
        let node = NodeId::of_ek_public(b"ek");
        let journal = Journal::begin(
            &home,
            &node,
            Kind::Provisioning,
            &[1; 32],
            &u,
            enrolment(&v),
        )
        .unwrap();
        assert!(journal.fits(&[1; 32], 2, &[7; 32]));
        assert!(!journal.fits(&[2; 32], 2, &[7; 32]));
        assert!(!journal.fits(&[1; 32], 3, &[7; 32]));
        assert!(!journal.fits(&[1; 32], 2, &[8; 32]));
        assert_eq!(
            format!("{journal:?}"),
            format!("journal of {node} (secret)")
        );
    }
}
