//! What was in the envelope, sorted by who gets it.

use bootkeep_handover::{DocumentKey, ForAgent, ForCloudInit, HandedFile};
use bootkeep_protocol::NodeId;
use bootkeep_tpkd::{Envelope, Identity, Item};
use zeroize::Zeroizing;

/// Where the node's certificate, key and chain go.
const IDENTITY_FOLDER: &str = "/etc/bootkeep/identity";

/// The envelope, taken apart.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) luks_key: Zeroizing<Vec<u8>>,
    pub(crate) for_agent: ForAgent,
    pub(crate) for_cloud_init: ForCloudInit,
}

impl Contents {
    /// Sorts the items; `None` when there is no key for `volume`.
    pub(crate) fn of(envelope: &Envelope, node: &NodeId, volume: &str) -> Option<Self> {
        let mut luks_key = None;
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
                Item::OwnKey { .. } | Item::Unattended { .. } => {}
            }
        }
        luks_key.map(|luks_key| Self {
            luks_key,
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
        assert_eq!(*contents.luks_key, b"k");
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
