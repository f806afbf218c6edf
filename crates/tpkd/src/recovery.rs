//! Recovery keys on their way to the owner's offline key: HPKE (RFC 9180) base mode.
//!
//! Suite as in the wrapping of shares. info = `bootkeep recovery v1`; aad = node id (64 hex digits) + the volume's name.
//! Keys are X25519 in the forms of RFC 8410, so that other tools can make and keep them.

use std::fmt;

use hpke::{
    aead::AesGcm256, kdf::HkdfSha256, kem::X25519HkdfSha256, single_shot_open, single_shot_seal,
    Deserializable, Kem, OpModeR, OpModeS, Serializable,
};
use zeroize::Zeroizing;

use crate::{
    random::{random, SystemRandom},
    transport::Wrapped,
    RandomError, KEY_LEN,
};

type KemX = X25519HkdfSha256;

/// Info of the sealing.
const INFO: &[u8] = b"bootkeep recovery v1";
/// DER of an X25519 `OneAsymmetricKey` before its 32 bytes (RFC 8410 §7).
const PRIVATE_DER: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20,
];
/// DER of an X25519 `SubjectPublicKeyInfo` before its 32 bytes (RFC 8410 §4).
const PUBLIC_DER: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00,
];

/// Why a recovery key cannot be sealed or opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecoveryError {
    /// Not an X25519 key in DER.
    #[error("not an X25519 {0} key")]
    Key(&'static str),
    /// Sealed to another key, for another node or volume, or changed.
    #[error("the recovery key was not sealed to this key, or was changed")]
    NotForUs,
}

/// The owner's offline key.
pub struct RecoverySecret(<KemX as Kem>::PrivateKey);

/// Its public half.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryPublic(<KemX as Kem>::PublicKey);

impl fmt::Debug for RecoverySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("offline key (secret)")
    }
}

impl fmt::Debug for RecoveryPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "recovery key {}", hex::encode(self.0.to_bytes()))
    }
}

impl RecoverySecret {
    /// A fresh one.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn generate() -> Result<Self, RandomError> {
        let seed = random::<KEY_LEN>()?;
        Ok(Self(KemX::derive_keypair(seed.as_slice()).0))
    }

    /// Out of PKCS #8.
    ///
    /// # Errors
    /// [`RecoveryError::Key`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, RecoveryError> {
        der.strip_prefix(&PRIVATE_DER)
            .and_then(|key| <KemX as Kem>::PrivateKey::from_bytes(key).ok())
            .map(Self)
            .ok_or(RecoveryError::Key("private"))
    }

    /// As PKCS #8.
    #[must_use]
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let key = Zeroizing::new(<[u8; KEY_LEN]>::from(self.0.to_bytes()));
        Zeroizing::new([PRIVATE_DER.as_slice(), key.as_slice()].concat())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> RecoveryPublic {
        RecoveryPublic(KemX::sk_to_pk(&self.0))
    }

    /// Opens a recovery key of this node's volume.
    ///
    /// # Errors
    /// [`RecoveryError::NotForUs`].
    pub fn open(
        &self,
        node_id: &str,
        volume: &str,
        sealed: &Wrapped,
    ) -> Result<Zeroizing<String>, RecoveryError> {
        let encapsulated = <KemX as Kem>::EncappedKey::from_bytes(&sealed.encapsulated)
            .map_err(|_| RecoveryError::NotForUs)?;
        let plain = single_shot_open::<AesGcm256, HkdfSha256, KemX>(
            &OpModeR::Base,
            &self.0,
            &encapsulated,
            INFO,
            &sealed.ciphertext,
            &aad(node_id, volume),
        )
        .map(Zeroizing::new)
        .map_err(|_| RecoveryError::NotForUs)?;
        let text = std::str::from_utf8(&plain).map_err(|_| RecoveryError::NotForUs)?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

impl RecoveryPublic {
    /// Out of a `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`RecoveryError::Key`].
    pub fn from_spki(der: &[u8]) -> Result<Self, RecoveryError> {
        der.strip_prefix(&PUBLIC_DER)
            .and_then(|key| <KemX as Kem>::PublicKey::from_bytes(key).ok())
            .map(Self)
            .ok_or(RecoveryError::Key("public"))
    }

    /// As a `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn to_spki(&self) -> Vec<u8> {
        [PUBLIC_DER.as_slice(), &self.0.to_bytes()].concat()
    }

    /// Seals the recovery key of a node's volume.
    ///
    /// # Errors
    /// [`RecoveryError::Key`] for a public key that gives no shared secret.
    pub fn seal(
        &self,
        node_id: &str,
        volume: &str,
        recovery_key: &str,
    ) -> Result<Wrapped, RecoveryError> {
        let (encapsulated, ciphertext) = single_shot_seal::<AesGcm256, HkdfSha256, KemX, _>(
            &OpModeS::Base,
            &self.0,
            INFO,
            recovery_key.as_bytes(),
            &aad(node_id, volume),
            &mut SystemRandom,
        )
        .map_err(|_| RecoveryError::Key("public"))?;
        Ok(Wrapped {
            encapsulated: encapsulated.to_bytes().to_vec(),
            ciphertext,
        })
    }
}

fn aad(node_id: &str, volume: &str) -> Vec<u8> {
    [node_id.as_bytes(), volume.as_bytes()].concat()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_offline_key_opens_and_only_for_its_node_and_volume() {
        let secret = RecoverySecret::generate().unwrap();
        let sealed = secret.public().seal("node", "root", "cbde-fghi").unwrap();
        let opened = secret.open("node", "root", &sealed).unwrap();
        assert_eq!(*opened, "cbde-fghi");
        let refused = Err(RecoveryError::NotForUs);
        let other = RecoverySecret::generate().unwrap();
        assert_eq!(other.open("node", "root", &sealed), refused);
        assert_eq!(secret.open("other", "root", &sealed), refused);
        assert_eq!(secret.open("node", "data", &sealed), refused);
        let mut changed = sealed.clone();
        changed.ciphertext[0] ^= 1;
        assert_eq!(secret.open("node", "root", &changed), refused);
        let mut short = sealed;
        short.encapsulated.pop();
        assert_eq!(secret.open("node", "root", &short), refused);
    }

    #[test]
    fn keys_survive_their_files() {
        let secret = RecoverySecret::generate().unwrap();
        let again = RecoverySecret::from_pkcs8(&secret.to_pkcs8()).unwrap();
        assert_eq!(again.public(), secret.public());
        let public = RecoveryPublic::from_spki(&secret.public().to_spki()).unwrap();
        let sealed = public.seal("n", "v", "key").unwrap();
        assert_eq!(*again.open("n", "v", &sealed).unwrap(), "key");
        for bad in [&[][..], &[0; 48], &secret.to_pkcs8()[..47]] {
            assert!(RecoverySecret::from_pkcs8(bad).is_err());
            assert!(RecoveryPublic::from_spki(bad).is_err());
        }
        assert_eq!(format!("{secret:?}"), "offline key (secret)");
    }

    /// Made by `openssl genpkey -algorithm X25519`.
    #[test]
    fn keys_of_openssl_are_read() {
        let private = hex::decode(concat!(
            "302e020100300506032b656e04220420",
            "488b9b6f3d54ce5c561c62035021a5707e6bbd73cd190a880aa4d0c29487564a"
        ));
        let public = hex::decode(concat!(
            "302a300506032b656e032100",
            "c1f068efd36b6f3ed87a4f6ebf7e2267e524dec2e865d4051bb93035ed6c6227"
        ));
        let secret = RecoverySecret::from_pkcs8(&private.unwrap()).unwrap();
        assert_eq!(secret.public().to_spki(), public.unwrap());
    }
}
