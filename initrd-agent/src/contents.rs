//! What was in the envelope, sorted by who gets it.

use bootkeep_handover::{DocumentKey, ForAgent, ForCloudInit, HandedFile};
use bootkeep_protocol::NodeId;
use bootkeep_tpkd::{Authority, Envelope, Identity, Item};
use zeroize::Zeroizing;

/// Where the node's certificate, key and chain go.
const IDENTITY_FOLDER: &str = "/etc/bootkeep/identity";

/// The envelope, taken apart.
#[derive(Debug)]
pub(crate) struct Contents {
    /// The image's key of the volume.
    pub(crate) luks_key: Option<Zeroizing<Vec<u8>>>,
    /// The volume gets a key of the node's own, and with `Some(true)` a recovery key.
    pub(crate) own_key: Option<bool>,
    /// Who signs the PCR policies that open the U the node keeps; empty when it keeps none.
    pub(crate) authorities: Vec<Authority>,
    pub(crate) for_agent: ForAgent,
    pub(crate) for_cloud_init: ForCloudInit,
}

impl Contents {
    /// Sorts the items; `None` when nothing says how `volume` is opened.
    pub(crate) fn of(envelope: &Envelope, node: &NodeId, volume: &str) -> Option<Self> {
        let (mut luks_key, mut own_key) = (None, None);
        let mut authorities = Vec::new();
        let mut for_agent = ForAgent::default();
        let mut for_cloud_init = ForCloudInit {
            node_id: node.as_str().to_owned(),
            ..ForCloudInit::default()
        };
        for item in &envelope.items {
            match item {
                Item::LuksKey { volume: of, key } if of == volume => {
                    luks_key = Some(Zeroizing::new(key.clone()));
                }
                Item::LuksKey { .. } => {}
                Item::UserData { document } => {
                    for_cloud_init.documents.push(document.as_slice().into());
                }
                Item::UserDataKey { key_id, key } => for_cloud_init.keys.push(DocumentKey {
                    key_id: key_id.clone(),
                    key: key.as_slice().into(),
                }),
                Item::File {
                    path,
                    mode,
                    owner,
                    group,
                    contents,
                } => for_agent.files.push(HandedFile {
                    path: path.clone(),
                    mode: *mode,
                    owner: owner.clone(),
                    group: group.clone(),
                    contents: contents.as_slice().into(),
                }),
                Item::Identity(identity) => for_agent.files.extend(identity_files(identity)),
                Item::OwnKey {
                    volume: of,
                    recovery,
                } if of == volume => own_key = Some(*recovery),
                Item::OwnKey { .. } => {}
                Item::Unattended { authorities: all } => authorities.clone_from(all),
            }
        }
        (luks_key.is_some() || own_key.is_some()).then_some(Self {
            luks_key,
            own_key,
            authorities,
            for_agent,
            for_cloud_init,
        })
    }
}

fn identity_files(identity: &Identity) -> [HandedFile; 3] {
    [
        ("certificate.pem", 0o644, &identity.certificate_pem),
        ("key.pem", 0o600, &identity.key_pem),
        ("chain.pem", 0o644, &identity.chain_pem),
    ]
    .map(|(name, mode, text)| HandedFile {
        path: format!("{IDENTITY_FOLDER}/{name}"),
        mode,
        owner: "root".into(),
        group: "root".into(),
        contents: text.as_bytes().into(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn items_go_where_they_belong() {
        let envelope = Envelope {
            items: vec![
                Item::LuksKey {
                    volume: "other".into(),
                    key: b"x".to_vec(),
                },
                Item::LuksKey {
                    volume: "cryptroot".into(),
                    key: b"k".to_vec(),
                },
                Item::UserData {
                    document: b"d".to_vec(),
                },
                Item::Identity(Identity {
                    certificate_pem: "c".into(),
                    key_pem: "p".into(),
                    chain_pem: "i".into(),
                }),
            ],
        };
        let node = NodeId::of_ek_public(b"ek");
        let contents = Contents::of(&envelope, &node, "cryptroot").unwrap();
        assert_eq!(**contents.luks_key.as_ref().unwrap(), b"k");
        assert_eq!(contents.for_cloud_init.documents.len(), 1);
        let key = contents
            .for_agent
            .files
            .iter()
            .find(|file| file.path.ends_with("key.pem"));
        assert_eq!(key.unwrap().mode, 0o600);
        assert!(Contents::of(&envelope, &node, "missing").is_none());
    }
}
