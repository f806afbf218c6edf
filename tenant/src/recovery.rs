//! Recovery keys: sealed to the owner's offline key, kept as `nodes/ID/recovery.json`, shown once.

use std::path::{Path, PathBuf};

use base64::{engine::general_purpose::STANDARD, Engine as _};
use bootkeep_protocol::{Bytes, NodeId};
use bootkeep_tpkd::{luks_key_id, BootstrapKey, RecoveryPublic, RecoverySecret, Wrapped};
use rustls::pki_types::{pem::PemObject, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    clock::{now_ms, written},
    files::{self, PRIVATE, PUBLIC},
    signing, Error, Home,
};

/// Where the recovery keys of a node are, in its folder.
pub const FILE: &str = "recovery.json";
/// Largest file that is read (bytes).
const MAX_FILE: u64 = 64 * 1024;
/// Recovery keys of one node: each K has one, and until a node has used a new K the one before may be needed.
const MAX_KEYS: usize = 32;

/// A recovery key that only the offline key reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The volume it opens.
    pub volume: String,
    /// Of the node's own key under the same K: `key_id` of the volume's LUKS2 token.
    pub key_id: String,
    /// When it was made, milliseconds since 1970 (UTC).
    pub made_at_ms: u64,
    /// When it was last shown, milliseconds since 1970 (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_at_ms: Option<u64>,
    /// Whether the node has shown that it knows the K this is derived from.
    #[serde(default)]
    pub in_use: bool,
    encapsulated: Bytes,
    ciphertext: Bytes,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Newest first.
    keys: Vec<Sealed>,
}

fn path(home: &Home, node: &NodeId) -> PathBuf {
    home.node_folder(node).join(FILE)
}

/// Whether this home keeps recovery keys of a node.
#[must_use]
pub fn is_kept(home: &Home, node: &NodeId) -> bool {
    path(home, node).exists()
}

fn load(home: &Home, node: &NodeId) -> Result<Kept, Error> {
    let path = path(home, node);
    let text = match files::read_private(&path, MAX_FILE) {
        Err(Error::NotFound(_)) => return Ok(Kept::default()),
        other => other?,
    };
    serde_json::from_slice(&text)
        .map_err(|error| Error::Failed(format!("{}: {error}", path.display())))
}

fn save(home: &Home, node: &NodeId, kept: &Kept) -> Result<(), Error> {
    files::private_folder(&home.node_folder(node))?;
    let text = serde_json::to_vec(kept).map_err(|error| Error::Failed(error.to_string()))?;
    files::replace(&path(home, node), &text, PRIVATE)
}

/// The public key that recovery keys are sealed to, when there is one.
///
/// # Errors
/// [`Error::Usage`] for a file that holds none.
pub fn public(home: &Home) -> Result<Option<RecoveryPublic>, Error> {
    let path = home.recovery_public_path();
    let text = match files::read_text(&path, MAX_FILE) {
        Err(Error::NotFound(_)) => return Ok(None),
        other => other?,
    };
    let bad = || {
        Error::Usage(format!(
            "{}: not an X25519 public key in PEM",
            path.display()
        ))
    };
    let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).map_err(|_| bad())?;
    RecoveryPublic::from_spki(der.as_ref())
        .map(Some)
        .map_err(|_| bad())
}

fn secret(path: &Path) -> Result<RecoverySecret, Error> {
    let text = signing::private_text(path)?;
    let bad = || {
        Error::Usage(format!(
            "{}: not an X25519 private key in PEM",
            path.display()
        ))
    };
    let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| bad())?;
    RecoverySecret::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| bad())
}

/// Seals the recovery key of a volume under this K and keeps it beside those of earlier Ks.
pub(crate) fn keep(
    home: &Home,
    node: &NodeId,
    public: &RecoveryPublic,
    volume: &str,
    key: &BootstrapKey,
) -> Result<(), Error> {
    let sealed = public
        .seal(node.as_str(), volume, &key.recovery_key(volume))
        .map_err(|error| Error::Usage(error.to_string()))?;
    let mut kept = load(home, node)?;
    kept.keys.insert(
        0,
        Sealed {
            volume: volume.to_owned(),
            key_id: hex::encode(luks_key_id(&key.luks_key(volume))),
            made_at_ms: now_ms(),
            shown_at_ms: None,
            in_use: false,
            encapsulated: sealed.encapsulated.into(),
            ciphertext: sealed.ciphertext.into(),
        },
    );
    forget_tries(&mut kept.keys);
    save(home, node, &kept)
}

/// When there are too many: keys of tries that no node has used go, the oldest first, never one that was in use.
fn forget_tries(keys: &mut Vec<Sealed>) {
    while keys.len() > MAX_KEYS {
        let unused = keys.iter().rposition(|key| !key.in_use);
        keys.remove(unused.unwrap_or(keys.len() - 1));
    }
}

/// The node has used its newest K: the keys before it open nothing any more.
pub(crate) fn newest_in_use(home: &Home, node: &NodeId) -> Result<(), Error> {
    let mut kept = load(home, node)?;
    if kept.keys.is_empty() {
        return Ok(());
    }
    kept.keys.truncate(1);
    for key in &mut kept.keys {
        key.in_use = true;
    }
    save(home, node, &kept)
}

/// A recovery key in clear.
pub struct Shown {
    /// What is known of it.
    pub about: Sealed,
    /// What is typed at the console.
    pub key: Zeroizing<String>,
}

/// Opens the recovery keys of a node, newest first. That they were shown is on the disk before they are given.
///
/// # Errors
/// [`Error::NotFound`] when there are none; [`Error::Usage`] when they were shown before and not `again` is said, and for
/// an offline key that is not theirs.
pub fn show(home: &Home, node: &NodeId, key: &Path, again: bool) -> Result<Vec<Shown>, Error> {
    let mut kept = load(home, node)?;
    if kept.keys.is_empty() {
        return Err(Error::NotFound(format!(
            "this home keeps no recovery key of {node}: it is made by `provision --unattended` and `rotate` when \
             `bootkeep recovery keygen` was run before"
        )));
    }
    if let Some(at) = kept.keys.iter().filter_map(|key| key.shown_at_ms).max() {
        if !again {
            return Err(Error::Usage(format!(
                "it was shown on {} already: who saw it then can open the disk. `bootkeep rotate` makes a new one; --again \
                 shows this one once more",
                written(at)
            )));
        }
    }
    let secret = secret(key)?;
    let shown = kept
        .keys
        .iter()
        .map(|sealed| open(&secret, node, sealed))
        .collect::<Result<Vec<_>, _>>()?;
    for sealed in &mut kept.keys {
        sealed.shown_at_ms = Some(now_ms());
    }
    save(home, node, &kept)?;
    Ok(shown)
}

fn open(secret: &RecoverySecret, node: &NodeId, sealed: &Sealed) -> Result<Shown, Error> {
    let wrapped = Wrapped {
        encapsulated: sealed.encapsulated.0.clone(),
        ciphertext: sealed.ciphertext.0.clone(),
    };
    let key = secret
        .open(node.as_str(), &sealed.volume, &wrapped)
        .map_err(|error| Error::Usage(error.to_string()))?;
    Ok(Shown {
        about: sealed.clone(),
        key,
    })
}

/// Makes the offline key: the private half into a new file, the public half into the home.
///
/// # Errors
/// [`Error::Failed`] when one of the files exists; errors of files.
pub fn keygen(home: &Home, out: &Path) -> Result<PathBuf, Error> {
    // A home that is none is named before a key lies about.
    home.config()?;
    let public_path = home.recovery_public_path();
    if public_path.exists() {
        return Err(Error::Failed(format!(
            "{} exists: this home has an offline key. To change it, move that file away first; recovery keys of before \
             stay sealed to the old one until `bootkeep rotate`",
            public_path.display()
        )));
    }
    let secret = RecoverySecret::generate().map_err(|error| Error::Failed(error.to_string()))?;
    files::write_new(
        out,
        pem("PRIVATE KEY", &secret.to_pkcs8()).as_bytes(),
        PRIVATE,
    )?;
    let public = pem("PUBLIC KEY", &secret.public().to_spki());
    files::write_new(&public_path, public.as_bytes(), PUBLIC)?;
    Ok(public_path)
}

/// Keys of this kind fit into one line of base64.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    Zeroizing::new(format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        *body
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sealed(in_use: bool, made_at_ms: u64) -> Sealed {
        Sealed {
            volume: "v".into(),
            key_id: String::new(),
            made_at_ms,
            shown_at_ms: None,
            in_use,
            encapsulated: Vec::new().into(),
            ciphertext: Vec::new().into(),
        }
    }

    #[test]
    fn the_key_in_use_outlives_any_number_of_tries() {
        let mut keys = vec![sealed(true, 0)];
        for at in 1..100 {
            keys.insert(0, sealed(false, at));
            forget_tries(&mut keys);
        }
        assert_eq!(keys.len(), MAX_KEYS);
        assert!(keys.last().unwrap().in_use);
        assert_eq!(keys[0].made_at_ms, 99);
    }

    #[test]
    fn keys_are_kept_per_k_shown_once_and_dropped_when_a_newer_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let node = NodeId::of_ek_public(b"ek");
        let secret = RecoverySecret::generate().unwrap();
        let key_file = folder.path().join("offline.key");
        let text = pem("PRIVATE KEY", &secret.to_pkcs8());
        files::write_new(&key_file, text.as_bytes(), PRIVATE).unwrap();
        assert_eq!(
            show(&home, &node, &key_file, false)
                .err()
                .unwrap()
                .exit_code(),
            3
        );

        let (old, new) = (
            BootstrapKey::generate().unwrap(),
            BootstrapKey::generate().unwrap(),
        );
        keep(&home, &node, &secret.public(), "root", &old).unwrap();
        newest_in_use(&home, &node).unwrap();
        keep(&home, &node, &secret.public(), "root", &new).unwrap();
        let shown = show(&home, &node, &key_file, false).unwrap();
        let texts: Vec<&str> = shown.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(
            texts,
            [&*new.recovery_key("root"), &*old.recovery_key("root")]
        );
        assert!(shown[1].about.in_use && !shown[0].about.in_use);

        assert_eq!(
            show(&home, &node, &key_file, false)
                .err()
                .unwrap()
                .exit_code(),
            2
        );
        assert_eq!(show(&home, &node, &key_file, true).unwrap().len(), 2);
        newest_in_use(&home, &node).unwrap();
        let left = show(&home, &node, &key_file, true).unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(*left[0].key, *new.recovery_key("root"));
    }

    #[test]
    fn another_offline_key_opens_nothing_and_marks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let node = NodeId::of_ek_public(b"ek");
        let (right, wrong) = (
            RecoverySecret::generate().unwrap(),
            RecoverySecret::generate().unwrap(),
        );
        let write = |name: &str, secret: &RecoverySecret| {
            let path = folder.path().join(name);
            files::write_new(
                &path,
                pem("PRIVATE KEY", &secret.to_pkcs8()).as_bytes(),
                PRIVATE,
            )
            .unwrap();
            path
        };
        let key = BootstrapKey::generate().unwrap();
        keep(&home, &node, &right.public(), "root", &key).unwrap();
        assert!(show(&home, &node, &write("wrong", &wrong), false).is_err());
        assert_eq!(
            show(&home, &node, &write("right", &right), false)
                .unwrap()
                .len(),
            1
        );
    }
}
