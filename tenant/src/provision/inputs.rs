//! What a node is to be given, read once and checked before anything is sent.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use bootkeep_protocol::{limits::MAX_ADDRESSES, verifier::OnFailure, NodeId};
use bootkeep_tpkd::{
    document_key_id, seal_document, DocumentKey, Item, RecoveryPublic, SealedText, DOCUMENT_MIME,
    MAX_CONTAINER,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::unattended::Unattended;
use crate::{
    cli, document_key, files, local::LocalNode, policies::Policies, recovery, Error, Home,
};

/// Largest LUKS key file (bytes); cryptsetup takes more, nobody uses it.
const MAX_LUKS_KEY: u64 = 64 * 1024;
/// Largest file of the payload (bytes).
const MAX_FILE: u64 = 2 * 1024 * 1024;
/// Where a node has its IPsec group.
const IPSEC_PATH: &str = "/etc/bootkeep/ipsec.yaml";
/// Longest label (characters).
const MAX_LABEL: usize = 64;

/// `SRC:DEST:MODE:OWNER:GROUP` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Here.
    pub source: PathBuf,
    /// Absolute path on the node.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
}

impl FromStr for FileSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let [source, path, mode, owner, group] = parts.as_slice() else {
            return Err("five parts are needed: SRC:DEST:MODE:OWNER:GROUP".into());
        };
        let mode = u32::from_str_radix(mode, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)
            .ok_or_else(|| format!("{mode:?} is not an octal mode of at most 7777"))?;
        if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(format!("{path:?} is not an absolute path without '..'"));
        }
        if source.is_empty() || owner.is_empty() || group.is_empty() {
            return Err("SRC, OWNER and GROUP must not be empty".into());
        }
        Ok(Self {
            source: source.into(),
            path: (*path).to_owned(),
            mode,
            owner: (*owner).to_owned(),
            group: (*group).to_owned(),
        })
    }
}

/// Everything a provisioning is made of, except what is fresh each time.
#[derive(Debug)]
pub struct Inputs {
    /// A name for people.
    pub label: Option<String>,
    /// Seconds between two attestations.
    pub interval: u32,
    /// Whether the payload has a certificate of the node CA.
    pub certificate: bool,
    /// The policies.
    pub policies: Policies,
    /// Addresses the node has in the owner's network.
    pub addresses: Vec<IpAddr>,
    /// What is done when its evidence is refused.
    pub on_failure: OnFailure,
    /// Name of the LUKS volume.
    pub volume: String,
    /// How it boots with nobody here.
    pub unattended: Option<Unattended>,
    /// The image's key; absent when the volume has a key of the node's own by now.
    luks: Option<Item>,
    /// Whether the volume gets a key of the node's own.
    own_key: bool,
    /// Whom its recovery key is sealed to.
    recovery: Option<RecoveryPublic>,
    user_data: Option<UserData>,
    keys: Vec<DocumentKey>,
    files: Vec<Item>,
}

#[derive(Debug)]
enum UserData {
    Plain(Zeroizing<Vec<u8>>),
    Sealed(Vec<u8>),
}

impl Inputs {
    /// Reads all files.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what is not usable; errors of files.
    pub fn read(home: &Home, options: &cli::Provision, policies: Policies) -> Result<Self, Error> {
        let unattended = Unattended::read(&options.alone)?;
        // Without U in its TPM a node gets a new K in each boot, and nobody has the one before: its volume keeps the
        // image's key.
        let own_key = unattended.is_some() && !options.alone.keep_image_key;
        let payload = Payload::read(&options.payload)?;
        Ok(Self {
            label: options.label.as_deref().map(checked_label).transpose()?,
            interval: options.interval,
            certificate: !options.payload.no_certificate,
            policies,
            addresses: addresses(&options.address)?,
            on_failure: options.on_failure.into(),
            volume: options.volume.clone(),
            unattended,
            luks: Some(luks_item(&options.luks_key, &options.volume)?),
            own_key,
            recovery: recovery_public(home, own_key)?,
            user_data: payload.user_data,
            keys: payload.keys,
            files: payload.files,
        })
    }

    /// Reads all files for a new K of a node that was provisioned like `node`.
    ///
    /// # Errors
    /// As [`Inputs::read`].
    pub fn for_rotation(
        home: &Home,
        options: &cli::Rotate,
        node: &LocalNode,
        policies: Policies,
    ) -> Result<Self, Error> {
        let own_key = node.own_key;
        let luks = options.luks_key.as_deref();
        let payload = Payload::read(&options.payload)?;
        let given = addresses(&options.address)?;
        Ok(Self {
            label: match &options.label {
                Some(label) => Some(checked_label(label)?),
                None => Some(node.label.clone()),
            },
            interval: options.interval.unwrap_or(node.interval_seconds),
            certificate: !options.payload.no_certificate,
            policies,
            addresses: if given.is_empty() {
                node.addresses.clone()
            } else {
                given
            },
            on_failure: options.on_failure.map_or(node.on_failure, Into::into),
            volume: node.volume.clone(),
            unattended: None,
            luks: luks.map(|path| luks_item(path, &node.volume)).transpose()?,
            own_key,
            recovery: recovery_public(home, own_key)?,
            user_data: payload.user_data,
            keys: payload.keys,
            files: payload.files,
        })
    }

    /// Whether the envelope says how the volume is opened.
    pub(super) fn opens_the_volume(&self) -> bool {
        self.own_key || self.luks.is_some()
    }

    /// Whether the volume gets a key of the node's own.
    #[must_use]
    pub fn own_key(&self) -> bool {
        self.own_key
    }

    /// Whom the volume's recovery key is sealed to.
    pub(super) fn recovery(&self) -> Option<&RecoveryPublic> {
        self.recovery.as_ref()
    }

    /// The payload's items for one node. User-data in clear is sealed under a fresh key.
    ///
    /// # Errors
    /// [`Error::Usage`] when the user-data is too large.
    pub fn items(&self, node: &NodeId) -> Result<Vec<Item>, Error> {
        let mut items: Vec<Item> = self.luks.iter().cloned().collect();
        if self.own_key {
            items.push(Item::OwnKey {
                volume: self.volume.clone(),
                recovery: self.recovery.is_some(),
            });
        }
        match &self.user_data {
            Some(UserData::Plain(plain)) => {
                let key = document_key::generate()?;
                let document = seal_document(&key, node.as_str(), plain)
                    .map_err(|error| Error::Usage(error.to_string()))?;
                items.push(Item::UserData { document });
                items.push(key_item(&key));
            }
            Some(UserData::Sealed(document)) => items.push(Item::UserData {
                document: document.clone(),
            }),
            None => {}
        }
        items.extend(self.keys.iter().map(key_item));
        items.extend(self.files.iter().cloned());
        Ok(items)
    }

    /// Tells whether two runs mean the same provisioning. As secret as the inputs are.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn fingerprint(&self) -> Result<Zeroizing<[u8; 32]>, Error> {
        let user_data: (&str, &[u8]) = match &self.user_data {
            None => ("none", &[]),
            Some(UserData::Plain(plain)) => ("plain", plain),
            Some(UserData::Sealed(document)) => ("sealed", document),
        };
        let keys: Vec<_> = self.keys.iter().map(key_item).collect();
        let all = (
            &self.label,
            self.interval,
            self.certificate,
            &self.policies.boot.source,
            &self.policies.runtime.source,
            (&self.addresses, self.on_failure, &self.volume),
            (
                self.own_key,
                self.recovery.as_ref().map(RecoveryPublic::to_spki),
            ),
            self.unattended.as_ref().map(|it| (&it.pcrs, &it.vendors)),
            &self.luks,
            user_data,
            &keys,
            &self.files,
        );
        let text = serde_json::to_vec(&all)
            .map(Zeroizing::new)
            .map_err(|error| Error::Failed(error.to_string()))?;
        Ok(Zeroizing::new(Sha256::digest(&text).into()))
    }
}

fn luks_item(path: &Path, volume: &str) -> Result<Item, Error> {
    let key = files::read(path, MAX_LUKS_KEY)?;
    if key.is_empty() {
        return Err(Error::Usage(format!("{} is empty", path.display())));
    }
    Ok(Item::LuksKey {
        volume: volume.to_owned(),
        key: key.to_vec(),
    })
}

/// A volume with a key of the node's own needs another way in: boards die, and U with them.
fn recovery_public(home: &Home, own_key: bool) -> Result<Option<RecoveryPublic>, Error> {
    if !own_key {
        return Ok(None);
    }
    let missing = || {
        Error::Usage(format!(
            "{} does not exist: when the node's board dies nothing would open its disk. Run `bootkeep recovery keygen --out \
             FILE` first, or leave the image's key in its slot with --keep-image-key",
            home.recovery_public_path().display()
        ))
    };
    recovery::public(home)?.map(Some).ok_or_else(missing)
}

/// The files of the payload, read.
struct Payload {
    user_data: Option<UserData>,
    keys: Vec<DocumentKey>,
    files: Vec<Item>,
}

impl Payload {
    fn read(options: &cli::Payload) -> Result<Self, Error> {
        let keys = options.user_data_key.iter();
        let keys = keys
            .map(|path| document_key::load(path))
            .collect::<Result<Vec<_>, _>>()?;
        let user_data = options.user_data.as_deref();
        Ok(Self {
            user_data: user_data
                .map(|path| self::user_data(path, &keys))
                .transpose()?,
            files: payload_files(options)?,
            keys,
        })
    }
}

fn checked_label(label: &str) -> Result<String, Error> {
    let good = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if label.is_empty() || label.chars().count() > MAX_LABEL || !label.chars().all(good) {
        return Err(Error::Usage(format!(
            "{label:?} is not a label: 1 to {MAX_LABEL} letters, digits, '-', '_' or '.'"
        )));
    }
    Ok(label.to_owned())
}

fn key_item(key: &DocumentKey) -> Item {
    Item::UserDataKey {
        key_id: key.key_id.clone(),
        key: key.expose().to_vec(),
    }
}

fn addresses(given: &[IpAddr]) -> Result<Vec<IpAddr>, Error> {
    let mut addresses = given.to_vec();
    addresses.sort();
    addresses.dedup();
    if addresses.len() > MAX_ADDRESSES {
        return Err(Error::Usage(format!(
            "a node has at most {MAX_ADDRESSES} addresses"
        )));
    }
    let nobody = |address: &&IpAddr| {
        address.is_unspecified() || address.is_loopback() || address.is_multicast()
    };
    match addresses.iter().find(nobody) {
        Some(address) => Err(Error::Usage(format!(
            "{address} is no address of a node: its peers could not block it"
        ))),
        None => Ok(addresses),
    }
}

fn payload_files(options: &cli::Payload) -> Result<Vec<Item>, Error> {
    let mut items = options
        .file
        .iter()
        .map(file)
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &options.ipsec {
        items.push(ipsec(path)?);
    }
    Ok(items)
}

/// The group's configuration, checked here: a node that cannot read it would block its network.
fn ipsec(path: &Path) -> Result<Item, Error> {
    let contents = files::read(path, bootkeep_ipsec::config::MAX_BYTES as u64)?;
    bootkeep_ipsec::config::Config::parse(&contents)
        .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    Ok(Item::File {
        path: IPSEC_PATH.to_owned(),
        mode: 0o600,
        owner: "root".to_owned(),
        group: "root".to_owned(),
        contents: contents.to_vec(),
    })
}

fn file(spec: &FileSpec) -> Result<Item, Error> {
    Ok(Item::File {
        path: spec.path.clone(),
        mode: spec.mode,
        owner: spec.owner.clone(),
        group: spec.group.clone(),
        contents: files::read(&spec.source, MAX_FILE)?.to_vec(),
    })
}

/// A sealed message needs its key among those that are given; everything else is user-data in clear.
fn user_data(path: &Path, keys: &[DocumentKey]) -> Result<UserData, Error> {
    let contents = files::read(path, MAX_CONTAINER as u64 * 2)?;
    let Some(body) = sealed_body(&contents) else {
        return Ok(UserData::Plain(contents));
    };
    let bad = |error: String| Error::Usage(format!("{}: {error}", path.display()));
    let document = SealedText::decode(body).map_err(|error| bad(error.to_string()))?;
    let key_id = document_key_id(&document).map_err(|error| bad(error.to_string()))?;
    if !keys.iter().any(|key| key.key_id == key_id) {
        return Err(bad(format!(
            "sealed with key {key_id}, which the node would not have; add --user-data-key"
        )));
    }
    Ok(UserData::Sealed(document))
}

/// The body of a message whose only part is sealed.
fn sealed_body(contents: &[u8]) -> Option<&[u8]> {
    let end = contents.windows(2).position(|pair| pair == b"\n\n")?;
    let (headers, body) = contents.split_at(end);
    let headers = std::str::from_utf8(headers).ok()?.to_ascii_lowercase();
    let sealed = headers
        .lines()
        .filter_map(|line| line.strip_prefix("content-type:"))
        .any(|kind| kind.trim_start().starts_with(DOCUMENT_MIME));
    sealed.then_some(body)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn file_specifications_are_checked() {
        let spec: FileSpec = "a/b:/etc/x:0640:root:adm".parse().unwrap();
        assert_eq!(spec.mode, 0o640);
        assert_eq!(spec.path, "/etc/x");
        for bad in [
            "",
            "a:/b:0600:root",
            "a:b:0600:r:r",
            "a:/../b:0600:r:r",
            "a:/b:9:r:r",
            "a:/b:17777:r:r",
            ":/b:0600:r:r",
            "a:/b:0600::r",
            "a:/b:0600:r:r:x",
        ] {
            assert!(bad.parse::<FileSpec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_those_of_hosts() {
        let read = |texts: &[&str]| {
            let given: Vec<IpAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
            addresses(&given)
        };
        assert_eq!(read(&["10.0.0.2", "fd00::1", "10.0.0.2"]).unwrap().len(), 2);
        for bad in ["0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.1"] {
            assert_eq!(
                read(&["10.0.0.1", bad]).unwrap_err().exit_code(),
                2,
                "{bad}"
            );
        }
        let many: Vec<IpAddr> = (1..=17).map(|last| [10, 0, 0, last].into()).collect();
        assert!(addresses(&many).is_err());
    }

    #[test]
    fn labels_are_plain() {
        assert!(checked_label("web-1.example").is_ok());
        for bad in ["", "a b", "a\n", "\u{1b}[31m", &"x".repeat(65)] {
            assert!(checked_label(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_sealed_message_is_known_by_its_type() {
        let text = SealedText::encode(b"sealed").message();
        assert!(sealed_body(text.as_bytes()).is_some());
        assert!(sealed_body(b"#cloud-config\n\nx: text/x-bootkeep-sealed\n").is_none());
        assert!(sealed_body(b"#cloud-config\n").is_none());
    }
}
