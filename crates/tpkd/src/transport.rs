//! Shares on their way: HPKE (RFC 9180) base mode to the node's transport key NK.
//!
//! Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
//! info = `bootkeep share v1 ` + `u` or `v`; aad = the appraised quote's nonce (32 bytes) + the node id (64 hex digits).

use std::fmt;

use hpke::{
    aead::AesGcm256, kdf::HkdfSha256, kem::X25519HkdfSha256, single_shot_open, single_shot_seal,
    Deserializable, Kem, OpModeR, OpModeS, Serializable,
};
use zeroize::Zeroizing;

use crate::{
    random::{random, SystemRandom},
    share::{Share, SharePart},
    RandomError, KEY_LEN,
};

type KemX = X25519HkdfSha256;

/// Why a share could not be wrapped or unwrapped.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WrapError {
    /// NK is not an X25519 public key of 32 bytes, or one that gives no shared secret.
    #[error("the node's transport key is not a usable X25519 key")]
    NodeKey,
    /// Not made for this key, part, quote and node, or changed on the way.
    #[error("the share was not wrapped for this node and quote, or was changed on the way")]
    NotForUs,
}

/// A share wrapped to one NK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// HPKE's encapsulated key, 32 bytes.
    pub encapsulated: Vec<u8>,
    /// 48 bytes.
    pub ciphertext: Vec<u8>,
}

/// NK: the node's key pair, new for each start of an agent.
pub struct NodeKey {
    private: <KemX as Kem>::PrivateKey,
    public: [u8; 32],
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NK (secret)")
    }
}

fn info<P: SharePart>() -> Vec<u8> {
    [b"bootkeep share v1 ", P::LETTER.as_bytes()].concat()
}

fn aad(nonce: &[u8; 32], node_id: &str) -> Vec<u8> {
    [nonce.as_slice(), node_id.as_bytes()].concat()
}

impl NodeKey {
    /// A fresh key pair.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn generate() -> Result<Self, RandomError> {
        let seed = random()?;
        Ok(Self::from_seed(&seed))
    }

    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        let (private, public) = KemX::derive_keypair(seed);
        let mut bytes = [0; 32];
        public.write_exact(&mut bytes);
        Self {
            private,
            public: bytes,
        }
    }

    /// The public key, as it goes into qualifying data.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Unwraps a share that was sent after the quote with this nonce.
    ///
    /// # Errors
    /// [`WrapError::NotForUs`].
    pub fn unwrap_share<P: SharePart>(
        &self,
        nonce: &[u8; 32],
        node_id: &str,
        wrapped: &Wrapped,
    ) -> Result<Share<P>, WrapError> {
        let encapsulated = <KemX as Kem>::EncappedKey::from_bytes(&wrapped.encapsulated)
            .map_err(|_| WrapError::NotForUs)?;
        let plain = single_shot_open::<AesGcm256, HkdfSha256, KemX>(
            &OpModeR::Base,
            &self.private,
            &encapsulated,
            &info::<P>(),
            &wrapped.ciphertext,
            &aad(nonce, node_id),
        )
        .map(Zeroizing::new)
        .map_err(|_| WrapError::NotForUs)?;
        let mut share = Zeroizing::new([0; KEY_LEN]);
        if plain.len() != KEY_LEN {
            return Err(WrapError::NotForUs);
        }
        share.copy_from_slice(&plain);
        Ok(Share::new(share))
    }
}

/// Wraps a share to the NK of the quote with this nonce.
///
/// # Errors
/// [`WrapError::NodeKey`].
pub fn wrap_share<P: SharePart>(
    nk_public: &[u8],
    nonce: &[u8; 32],
    node_id: &str,
    share: &Share<P>,
) -> Result<Wrapped, WrapError> {
    let public = <KemX as Kem>::PublicKey::from_bytes(nk_public).map_err(|_| WrapError::NodeKey)?;
    let (encapsulated, ciphertext) = single_shot_seal::<AesGcm256, HkdfSha256, KemX, _>(
        &OpModeS::Base,
        &public,
        &info::<P>(),
        share.expose(),
        &aad(nonce, node_id),
        &mut SystemRandom,
    )
    .map_err(|_| WrapError::NodeKey)?;
    Ok(Wrapped {
        encapsulated: encapsulated.to_bytes().to_vec(),
        ciphertext,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::share::{U, V};

    #[test]
    fn a_share_opens_only_in_its_context() {
        let node = NodeKey::generate().unwrap();
        let share = Share::<U>::from_bytes([5; 32]);
        let wrapped = wrap_share(&node.public(), &[1; 32], "node", &share).unwrap();
        let opened = node.unwrap_share::<U>(&[1; 32], "node", &wrapped).unwrap();
        assert_eq!(opened.expose(), share.expose());

        let refused = Err(WrapError::NotForUs);
        let open_u = |node: &NodeKey, nonce, id, wrapped: &Wrapped| {
            node.unwrap_share::<U>(nonce, id, wrapped).map(|_| ())
        };
        assert_eq!(open_u(&node, &[2; 32], "node", &wrapped), refused);
        assert_eq!(open_u(&node, &[1; 32], "other", &wrapped), refused);
        let other = NodeKey::generate().unwrap();
        assert_eq!(open_u(&other, &[1; 32], "node", &wrapped), refused);
        let as_v = node.unwrap_share::<V>(&[1; 32], "node", &wrapped);
        assert_eq!(as_v.map(|_| ()), refused);
        for index in 0..wrapped.ciphertext.len() {
            let mut bad = wrapped.clone();
            bad.ciphertext[index] ^= 1;
            assert_eq!(open_u(&node, &[1; 32], "node", &bad), refused);
        }
        let mut short = wrapped.clone();
        short.encapsulated.pop();
        assert_eq!(open_u(&node, &[1; 32], "node", &short), refused);
    }

    #[test]
    fn bad_node_keys_are_refused() {
        let share = Share::<V>::from_bytes([5; 32]);
        for key in [&[][..], &[1; 31], &[0; 32]] {
            let result = wrap_share(key, &[1; 32], "node", &share);
            assert_eq!(result, Err(WrapError::NodeKey), "{key:?}");
        }
    }
}
