//! The registrar's record, checked with the owner's own roots: nothing of it is taken on the registrar's word.

use std::time::SystemTime;

use bootkeep_evidence::key::{AkPublic, EkPublic};
use bootkeep_pki::ek::EkRoots;
use bootkeep_protocol::{limits::clean_text, registrar::NodeRecord, NodeId};
use sha2::{Digest, Sha256};

use crate::{
    approvals::Approvals,
    error::{Party, Refusal},
    Error, Home,
};

/// Why the owner believes in an EK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belief {
    /// Its certificate chains to this one of the owner's roots.
    Certificate(String),
    /// The owner approved it, with this note.
    Approval(String),
}

/// A record whose EK the owner believes in. Only [`check`] makes one.
///
/// It is read once and carried through a whole provisioning: EK, AK and generation always belong together.
#[derive(Clone, Debug)]
pub struct CheckedRecord {
    node_id: NodeId,
    ek: EkPublic,
    ak: AkPublic,
    ak_digest: [u8; 32],
    generation: u64,
    belief: Belief,
}

impl CheckedRecord {
    /// The node.
    #[must_use]
    pub fn node_id(&self) -> &NodeId {
        &self.node_id
    }
    /// Its EK.
    #[must_use]
    pub fn ek(&self) -> &EkPublic {
        &self.ek
    }
    /// Its AK, as the registrar says: [`crate::appraisal`] has the node prove it.
    #[must_use]
    pub fn ak(&self) -> &AkPublic {
        &self.ak
    }
    /// SHA-256 of the AK public area.
    #[must_use]
    pub fn ak_digest(&self) -> &[u8; 32] {
        &self.ak_digest
    }
    /// Counts the AKs of this EK.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
    /// Why the EK is believed.
    #[must_use]
    pub fn belief(&self) -> &Belief {
        &self.belief
    }
}

/// Checks a record: it is about `node`, its keys are an EK and an AK, and the EK is believed by certificate or by an
/// approval of this home.
///
/// # Errors
/// [`Error::Untrusted`] naming the check; errors of files.
pub fn check(home: &Home, node: &NodeId, record: &NodeRecord) -> Result<CheckedRecord, Error> {
    let refuse = |code: &str, detail: String| Error::untrusted(Party::OwnAppraisal, code, detail);
    let derived = NodeId::of_ek_public(record.ek_public.as_slice());
    if &derived != node || &record.node_id != node {
        return Err(refuse(
            "ek-other-node",
            format!("the registrar's record of {node} carries the EK of {derived}"),
        ));
    }
    let ek = EkPublic::parse(record.ek_public.as_slice())
        .map_err(|error| refuse("ek-public", error.to_string()))?;
    let ak = AkPublic::parse(record.ak_public.as_slice())
        .map_err(|error| refuse("ak-public", error.to_string()))?;
    let belief = believe(home, node, record, &ek)?;
    Ok(CheckedRecord {
        node_id: node.clone(),
        ek,
        ak,
        ak_digest: Sha256::digest(record.ak_public.as_slice()).into(),
        generation: record.generation,
        belief,
    })
}

fn believe(
    home: &Home,
    node: &NodeId,
    record: &NodeRecord,
    ek: &EkPublic,
) -> Result<Belief, Error> {
    if let Some(note) = Approvals::load(home)?.note(node) {
        return Ok(Belief::Approval(note.to_owned()));
    }
    let Some(certificate) = &record.ek_certificate else {
        return Err(Error::Untrusted(Refusal::new(
            Party::OwnAppraisal,
            "ek-no-certificate",
            format!("the TPM has no EK certificate; if you know this EK: bootkeep approve {node} --note WHY"),
        )));
    };
    let folder = home.resolve(&home.config()?.ek_roots);
    let untrusted = |error: String| {
        let detail = format!("{}: {}", folder.display(), clean_text(&error));
        Error::untrusted(Party::OwnAppraisal, "ek-untrusted", detail)
    };
    let roots = EkRoots::load(&folder).map_err(|error| untrusted(error.to_string()))?;
    roots
        .verify(certificate.as_slice(), ek, SystemTime::now())
        .map(|chain| Belief::Certificate(clean_text(&chain.root)))
        .map_err(|error| untrusted(error.to_string()))
}
