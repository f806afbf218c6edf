//! What this home keeps of each node: `nodes/ID/node.json`, private.

use std::{fs, net::IpAddr, path::PathBuf};

use bootkeep_protocol::{
    policy::PolicySource,
    verifier::{Enrolment, OnFailure, Unattended},
    Bytes, NodeId,
};
use serde::{Deserialize, Serialize};

use crate::{
    files::{self, PRIVATE},
    provision::Inputs,
    Error, Home,
};

/// Fewest digits of an id that name a node.
pub const MIN_PREFIX: usize = 6;
/// Largest file that is read: two policies (bytes).
const MAX_FILE: u64 = 48 * 1024 * 1024;

/// What the owner knows of a node that was provisioned: enough to look at it again with own eyes. No secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalNode {
    /// The node.
    pub node_id: NodeId,
    /// Its name for people.
    pub label: String,
    /// Generation of the AK that was checked.
    pub generation: u64,
    /// SHA-256 of the AK public area that was checked.
    pub ak_digest: Bytes,
    /// PCR 15 after the latch.
    pub latched_pcr15: Bytes,
    /// The boot policy it was provisioned with: a document, or the name that it follows.
    pub boot_policy: PolicySource,
    /// The runtime policy it was provisioned with: a document, or the name that it follows.
    pub runtime_policy: PolicySource,
    /// Its addresses in the owner's network.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Seconds between two attestations.
    #[serde(default = "default_interval")]
    pub interval_seconds: u32,
    /// What is done when its evidence is refused.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Name of its LUKS volume.
    #[serde(default = "default_volume")]
    pub volume: String,
    /// Whether the volume has a key of the node's own.
    #[serde(default)]
    pub own_key: bool,
    /// What it was told when it keeps its share and boots with nobody here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unattended: Option<Unattended>,
    /// A K that it was given while it ran, and has not used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<Staged>,
}

/// A K that counts from the node's next boot on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Staged {
    /// When the node had its share, milliseconds since 1970 (UTC).
    pub at_ms: u64,
    /// PCR 15 after the latch of this K.
    pub latched_pcr15: Bytes,
    /// Serial numbers of the certificates that come with it.
    pub serials: Vec<String>,
    /// What else changes with it.
    pub terms: Terms,
}

/// What the owner said of a node that is neither key nor policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Its name for people.
    pub label: String,
    /// Its addresses in the owner's network.
    pub addresses: Vec<IpAddr>,
    /// Seconds between two attestations.
    pub interval_seconds: u32,
    /// What is done when its evidence is refused.
    pub on_failure: OnFailure,
}

fn default_interval() -> u32 {
    10
}
fn default_volume() -> String {
    "cryptroot".into()
}

fn path(home: &Home, node: &NodeId) -> PathBuf {
    home.node_folder(node).join("node.json")
}

impl LocalNode {
    /// What is kept of an enrolment.
    #[must_use]
    pub fn of(node: &NodeId, enrolment: &Enrolment, inputs: &Inputs) -> Self {
        Self {
            node_id: node.clone(),
            label: enrolment.label.clone(),
            generation: enrolment.generation,
            ak_digest: enrolment.ak_digest.clone(),
            latched_pcr15: enrolment.latched_pcr15.clone(),
            boot_policy: enrolment.boot_policy.clone(),
            runtime_policy: enrolment.runtime_policy.clone(),
            addresses: enrolment.addresses.clone(),
            interval_seconds: enrolment.interval_seconds,
            on_failure: enrolment.on_failure,
            volume: inputs.volume.clone(),
            own_key: inputs.own_key(),
            unattended: enrolment.unattended.clone(),
            staged: None,
        }
    }

    /// The values that PCR 15 may have while the node runs: that of the K it has, and that of one it may have begun to use.
    #[must_use]
    pub fn latched_values(&self) -> Vec<[u8; 32]> {
        let staged = self.staged.iter().map(|staged| &staged.latched_pcr15);
        std::iter::once(&self.latched_pcr15)
            .chain(staged)
            .filter_map(|value| value.as_slice().try_into().ok())
            .collect()
    }

    /// The node has used the staged K: what was said with it counts now.
    pub fn promote(&mut self) {
        if let Some(staged) = self.staged.take() {
            self.latched_pcr15 = staged.latched_pcr15;
            self.label = staged.terms.label;
            self.addresses = staged.terms.addresses;
            self.interval_seconds = staged.terms.interval_seconds;
            self.on_failure = staged.terms.on_failure;
        }
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Errors of files.
    pub fn save(&self, home: &Home) -> Result<(), Error> {
        files::private_folder(&home.node_folder(&self.node_id))?;
        let text = serde_json::to_vec(self).map_err(|error| Error::Failed(error.to_string()))?;
        files::replace(&path(home, &self.node_id), &text, PRIVATE)
    }

    /// What is kept of `node`, if anything.
    ///
    /// # Errors
    /// [`Error::Failed`] when the file is damaged.
    pub fn load(home: &Home, node: &NodeId) -> Result<Option<Self>, Error> {
        let path = path(home, node);
        let text = match files::read_private(&path, MAX_FILE) {
            Err(Error::NotFound(_)) => return Ok(None),
            other => other?,
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| Error::Failed(format!("{}: {error}", path.display())))
    }
}

/// The nodes this home knows.
///
/// # Errors
/// Errors of files.
pub fn nodes(home: &Home) -> Result<Vec<NodeId>, Error> {
    let folder = home.nodes_folder();
    let Ok(entries) = fs::read_dir(&folder) else {
        return Ok(Vec::new());
    };
    let mut nodes: Vec<NodeId> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    nodes.sort();
    Ok(nodes)
}

/// The node this home knows by a label or the first digits of an id.
///
/// # Errors
/// [`Error::Usage`] when more than one fits.
pub fn find(home: &Home, text: &str) -> Result<Option<NodeId>, Error> {
    let mut candidates = Vec::new();
    for node_id in nodes(home)? {
        let label = LocalNode::load(home, &node_id)?.map_or_else(String::new, |node| node.label);
        candidates.push(Candidate { node_id, label });
    }
    choose(text, &candidates)
}

/// A node and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node_id: NodeId,
    /// Its name, or empty.
    pub label: String,
}

/// The one candidate with this id, label or beginning of an id.
///
/// # Errors
/// [`Error::Usage`] when more than one fits.
pub fn choose(text: &str, candidates: &[Candidate]) -> Result<Option<NodeId>, Error> {
    let fits = |candidate: &&Candidate| {
        let id = candidate.node_id.as_str();
        candidate.label == text || id == text || (text.len() >= MIN_PREFIX && id.starts_with(text))
    };
    let mut found: Vec<&NodeId> = candidates
        .iter()
        .filter(fits)
        .map(|candidate| &candidate.node_id)
        .collect();
    found.sort();
    found.dedup();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((*one).clone())),
        more => {
            let ids: String = more.iter().map(|id| format!("\n  {id}")).collect();
            Err(Error::Usage(format!(
                "{text:?} fits more than one node:{ids}"
            )))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn candidate(id: &str, label: &str) -> Candidate {
        Candidate {
            node_id: format!("{id:0<64}").parse().unwrap(),
            label: label.into(),
        }
    }

    #[test]
    fn a_node_has_three_names() {
        let all = [candidate("abcdef1", "web"), candidate("abcdef2", "db")];
        for text in [all[0].node_id.as_str(), "abcdef1", "web"] {
            assert_eq!(
                choose(text, &all).unwrap(),
                Some(all[0].node_id.clone()),
                "{text}"
            );
        }
        for text in ["abc", "", "other", "ABCDEF1"] {
            assert_eq!(choose(text, &all).unwrap(), None, "{text}");
        }
        assert_eq!(choose("abcdef", &all).unwrap_err().exit_code(), 2);
        let twins = [candidate("1", "web"), candidate("2", "web")];
        assert_eq!(choose("web", &twins).unwrap_err().exit_code(), 2);
    }
}
