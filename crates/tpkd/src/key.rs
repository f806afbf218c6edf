//! The bootstrap key K and what is derived from it.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    random::random,
    share::{Share, U, V},
    RandomError,
};

/// Length of K and of each share (bytes).
pub const KEY_LEN: usize = 32;

/// K: made by the tenant, known again only to the attested node.
#[derive(Clone)]
pub struct BootstrapKey(Zeroizing<[u8; KEY_LEN]>);

impl fmt::Debug for BootstrapKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("K (secret)")
    }
}

impl BootstrapKey {
    /// A fresh K.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn generate() -> Result<Self, RandomError> {
        random().map(Self)
    }

    /// A K that was kept by the tenant for an unfinished provisioning.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Splits K: U is random, V = K xor U. Each alone is a uniformly random string.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn split(&self) -> Result<(Share<U>, Share<V>), RandomError> {
        let u = random::<KEY_LEN>()?;
        let v = xor(&self.0, &u);
        Ok((Share::new(u), Share::new(v)))
    }

    /// Joins the shares. Any two shares give *a* key; only its use (the envelope opens) shows that it is the one.
    #[must_use]
    pub fn combine(u: &Share<U>, v: &Share<V>) -> Self {
        Self(xor(u.expose(), v.expose()))
    }

    /// The U that gives this K together with `v`.
    #[must_use]
    pub fn u_for(&self, v: &Share<V>) -> Share<U> {
        Share::new(xor(&self.0, v.expose()))
    }

    /// What the latch is made with ([`crate::latch_digest`]).
    #[must_use]
    pub fn latch_secret(&self) -> Zeroizing<[u8; KEY_LEN]> {
        self.derive("latch")
    }

    /// The node's own key of a LUKS volume, 32 bytes.
    #[must_use]
    pub fn luks_key(&self, volume: &str) -> Zeroizing<[u8; KEY_LEN]> {
        self.derive(&format!("luks {volume}"))
    }

    /// The recovery key of a LUKS volume as a person types it: 64 letters in 8 groups, in the alphabet of
    /// systemd-cryptenroll, which is the same on all keyboard layouts.
    #[must_use]
    pub fn recovery_key(&self, volume: &str) -> Zeroizing<String> {
        const MODHEX: &[u8; 16] = b"cbdefghijklnrtuv";
        let bytes = self.derive(&format!("recovery {volume}"));
        let mut text = Zeroizing::new(String::with_capacity(71));
        for (index, byte) in bytes.iter().enumerate() {
            if index > 0 && index % 4 == 0 {
                text.push('-');
            }
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(MODHEX[usize::from(nibble)]));
            }
        }
        text
    }

    /// HKDF-SHA256 without salt, info `bootkeep ` + `purpose` + ` v1`.
    pub(crate) fn derive(&self, purpose: &str) -> Zeroizing<[u8; KEY_LEN]> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let info = [b"bootkeep ", purpose.as_bytes(), b" v1"];
        // Fails only for outputs over 255 hashes long; this is one hash.
        if Hkdf::<Sha256>::new(None, self.0.as_slice())
            .expand_multi_info(&info, key.as_mut_slice())
            .is_err()
        {
            unreachable!("HKDF-SHA256 gives 32 bytes");
        }
        key
    }

    /// The proof that its maker knows K: HMAC-SHA256 under the key for `confirm` over nonce and node id.
    #[must_use]
    pub fn confirmation(&self, nonce: &[u8; 32], node_id: &str) -> [u8; 32] {
        self.confirmation_mac(nonce, node_id)
            .finalize()
            .into_bytes()
            .into()
    }

    /// Checks a [`Self::confirmation`] in constant time.
    #[must_use]
    pub fn confirms(&self, nonce: &[u8; 32], node_id: &str, confirmation: &[u8]) -> bool {
        let expected = self.confirmation(nonce, node_id);
        expected.as_slice().ct_eq(confirmation).into()
    }

    fn confirmation_mac(&self, nonce: &[u8; 32], node_id: &str) -> Hmac<Sha256> {
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(self.derive("confirm").as_slice()) else {
            unreachable!("HMAC takes keys of any length");
        };
        mac.chain_update(nonce).chain_update(node_id)
    }
}

/// Tells keys of a LUKS volume apart without giving them away: the first 16 bytes of SHA-256 over
/// `bootkeep luks key id v1` and the key. Only for keys of full entropy.
#[must_use]
pub fn luks_key_id(key: &[u8; KEY_LEN]) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(b"bootkeep luks key id v1")
        .chain_update(key)
        .finalize()
        .into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id
}

fn xor(a: &[u8; KEY_LEN], b: &[u8; KEY_LEN]) -> Zeroizing<[u8; KEY_LEN]> {
    let mut out = Zeroizing::new([0; KEY_LEN]);
    for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
        *out = a ^ b;
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shares_join_to_k_and_differ_each_time() {
        let k = BootstrapKey::generate().unwrap();
        let (u1, v1) = k.split().unwrap();
        let (u2, v2) = k.split().unwrap();
        assert_eq!(BootstrapKey::combine(&u1, &v1).expose(), k.expose());
        assert_ne!(u1.expose(), u2.expose());
        assert_ne!(BootstrapKey::combine(&u1, &v2).expose(), k.expose());
        assert_ne!(v1.expose(), k.expose());
    }

    #[test]
    fn every_v_has_its_u_and_uses_have_their_own_keys() {
        let k = BootstrapKey::generate().unwrap();
        let v = Share::<V>::generate().unwrap();
        assert_eq!(BootstrapKey::combine(&k.u_for(&v), &v).expose(), k.expose());
        let own = k.luks_key("cryptroot");
        assert_ne!(own, k.luks_key("data"));
        assert_ne!(own, k.latch_secret());
        assert_ne!(luks_key_id(&own), luks_key_id(&k.luks_key("data")));
        assert_ne!(luks_key_id(&own), own[..16]);
    }

    #[test]
    fn a_recovery_key_can_be_typed() {
        let text = BootstrapKey::from_bytes([0x4b; 32]).recovery_key("cryptroot");
        let groups: Vec<&str> = text.split('-').collect();
        assert_eq!(groups.len(), 8);
        let letters = |group: &&str| {
            group.len() == 8 && group.chars().all(|c| "cbdefghijklnrtuv".contains(c))
        };
        assert!(groups.iter().all(letters), "{}", *text);
    }

    #[test]
    fn confirmation_needs_k_nonce_and_node() {
        let k = BootstrapKey::from_bytes([7; 32]);
        let tag = k.confirmation(&[1; 32], "node");
        assert!(k.confirms(&[1; 32], "node", &tag));
        assert!(!k.confirms(&[2; 32], "node", &tag));
        assert!(!k.confirms(&[1; 32], "other", &tag));
        assert!(!k.confirms(&[1; 32], "node", &tag[..31]));
        assert!(!k.confirms(&[1; 32], "node", &[]));
        assert!(!BootstrapKey::from_bytes([8; 32]).confirms(&[1; 32], "node", &tag));
    }

    #[test]
    fn secrets_do_not_print() {
        let k = BootstrapKey::from_bytes([0x41; 32]);
        let (u, v) = k.split().unwrap();
        let text = format!("{k:?} {u:?} {v:?}");
        assert_eq!(text, "K (secret) share u (secret) share v (secret)");
    }
}
