//! The two shares on the node: unwrap, combine, open the envelope, or forget both.

use bootkeep_protocol::{
    link::{ShareCall, SharePart},
    NodeId, Problem, ProblemKind,
};
use bootkeep_tpkd::{open_envelope, BootstrapKey, Envelope, NodeKey, Share, Wrapped, U, V};

use crate::kept::KeySets;

/// Wrong combinations taken before shares are refused for the rest of the boot.
const MAX_TRIES: u8 = 16;

/// What one share led to.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The other one is missing.
    One,
    /// The envelope is open.
    Both(Opened),
}

/// K, the envelope it opens and the proof that it is known.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) key: BootstrapKey,
    pub(crate) envelope: Envelope,
    pub(crate) confirmation: [u8; 32],
}

/// Collects the shares of one boot.
#[derive(Debug)]
pub(crate) struct Shares {
    node_key: NodeKey,
    node: NodeId,
    u: Option<(Share<U>, [u8; 32])>,
    v: Option<(Share<V>, Vec<u8>)>,
    tries: u8,
}

fn refused(code: &str, detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Untrusted, code, detail)
}

impl Shares {
    pub(crate) fn new(node_key: NodeKey, node: NodeId) -> Self {
        Self {
            node_key,
            node,
            u: None,
            v: None,
            tries: 0,
        }
    }

    /// Takes one share; a newer one replaces an older one of the same part. With both, K is formed and the envelope
    /// opened. When it does not open, both are forgotten: which one was wrong cannot be told.
    pub(crate) fn take(&mut self, call: &ShareCall) -> Result<Taken, Problem> {
        if self.tries >= MAX_TRIES {
            return Err(refused(
                "too-many-tries",
                "too many wrong shares in this boot; reboot the node",
            ));
        }
        match call.part {
            SharePart::U => self.u = Some((self.unwrap(call)?, *call.nonce.as_bytes())),
            SharePart::V => {
                let envelope = call.envelope.clone().ok_or_else(|| {
                    Problem::new(
                        ProblemKind::Malformed,
                        "no-envelope",
                        "share V comes with the envelope",
                    )
                })?;
                self.v = Some((self.unwrap(call)?, envelope.0));
            }
        }
        match (self.u.take(), self.v.take()) {
            (Some(u), Some(v)) => self.combine(&u, &v).map(Taken::Both),
            (u, v) => {
                (self.u, self.v) = (u, v);
                Ok(Taken::One)
            }
        }
    }

    /// Unwraps what came with V for a node that keeps its U.
    pub(crate) fn key_sets(&mut self, call: &ShareCall) -> Result<Option<KeySets>, Problem> {
        let (SharePart::V, Some(kept)) = (call.part, &call.kept) else {
            return Ok(None);
        };
        if self.tries >= MAX_TRIES {
            return Ok(None);
        }
        let sets = KeySets::unwrap(kept, call.nonce.as_bytes(), &self.node_key, &self.node);
        sets.map(Some).inspect_err(|_| self.tries += 1)
    }

    fn unwrap<P: bootkeep_tpkd::SharePart>(
        &mut self,
        call: &ShareCall,
    ) -> Result<Share<P>, Problem> {
        let wrapped = Wrapped {
            encapsulated: call.encapsulated.0.clone(),
            ciphertext: call.ciphertext.0.clone(),
        };
        self.node_key
            .unwrap_share(call.nonce.as_bytes(), self.node.as_str(), &wrapped)
            .map_err(|error| {
                self.tries += 1;
                refused("share-refused", error.to_string())
            })
    }

    fn combine(
        &mut self,
        (u, nonce): &(Share<U>, [u8; 32]),
        (v, envelope): &(Share<V>, Vec<u8>),
    ) -> Result<Opened, Problem> {
        let key = BootstrapKey::combine(u, v);
        let envelope = open_envelope(&key, self.node.as_str(), envelope).map_err(|error| {
            self.tries += 1;
            refused("envelope-refused", error.to_string())
        })?;
        Ok(Opened {
            envelope,
            confirmation: key.confirmation(nonce, self.node.as_str()),
            key,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bootkeep_protocol::{Bytes, Nonce};
    use bootkeep_tpkd::{seal_envelope, wrap_share, Item};

    use super::*;

    struct Owner {
        key: BootstrapKey,
        nk: [u8; 32],
        node: NodeId,
    }

    fn set_up() -> (Owner, Shares) {
        let node_key = NodeKey::generate().unwrap();
        let node = NodeId::of_ek_public(b"ek");
        let owner = Owner {
            key: BootstrapKey::generate().unwrap(),
            nk: node_key.public(),
            node: node.clone(),
        };
        (owner, Shares::new(node_key, node))
    }

    impl Owner {
        fn envelope(&self, node: &str) -> Bytes {
            let envelope = Envelope {
                items: vec![Item::LuksKey {
                    volume: "cryptroot".into(),
                    key: b"k".to_vec(),
                }],
            };
            seal_envelope(&self.key, node, &envelope).unwrap().into()
        }

        fn call(&self, part: SharePart, wrapped: Wrapped, envelope: Option<Bytes>) -> ShareCall {
            ShareCall {
                part,
                nonce: Nonce::from([9; 32]),
                encapsulated: wrapped.encapsulated.into(),
                ciphertext: wrapped.ciphertext.into(),
                envelope,
                kept: None,
            }
        }

        fn u(&self, share: &Share<U>) -> ShareCall {
            let wrapped = wrap_share(&self.nk, &[9; 32], self.node.as_str(), share).unwrap();
            self.call(SharePart::U, wrapped, None)
        }

        fn v(&self, share: &Share<V>) -> ShareCall {
            let wrapped = wrap_share(&self.nk, &[9; 32], self.node.as_str(), share).unwrap();
            self.call(
                SharePart::V,
                wrapped,
                Some(self.envelope(self.node.as_str())),
            )
        }
    }

    fn opens(taken: Result<Taken, Problem>, owner: &Owner) -> bool {
        match taken {
            Ok(Taken::Both(opened)) => {
                owner
                    .key
                    .confirms(&[9; 32], owner.node.as_str(), &opened.confirmation)
            }
            _ => false,
        }
    }

    #[test]
    fn both_orders_open_the_envelope() {
        for u_first in [true, false] {
            let (owner, mut shares) = set_up();
            let (u, v) = owner.key.split().unwrap();
            let (first, second) = if u_first {
                (owner.u(&u), owner.v(&v))
            } else {
                (owner.v(&v), owner.u(&u))
            };
            assert!(matches!(shares.take(&first), Ok(Taken::One)));
            assert!(opens(shares.take(&second), &owner));
        }
    }

    #[test]
    fn a_wrong_share_forgets_both_and_right_ones_still_work() {
        let (owner, mut shares) = set_up();
        let (u, v) = owner.key.split().unwrap();
        let (other_u, _) = owner.key.split().unwrap();
        shares.take(&owner.v(&v)).unwrap();
        assert_eq!(
            shares.take(&owner.u(&other_u)).unwrap_err().code,
            "envelope-refused"
        );
        assert!(matches!(shares.take(&owner.u(&u)), Ok(Taken::One)));
        assert!(opens(shares.take(&owner.v(&v)), &owner));
    }

    #[test]
    fn an_envelope_of_another_node_is_refused() {
        let (owner, mut shares) = set_up();
        let (u, v) = owner.key.split().unwrap();
        shares.take(&owner.u(&u)).unwrap();
        let mut call = owner.v(&v);
        call.envelope = Some(owner.envelope("another"));
        assert_eq!(shares.take(&call).unwrap_err().code, "envelope-refused");
    }

    #[test]
    fn tries_are_bounded() {
        let (owner, mut shares) = set_up();
        let (u, v) = owner.key.split().unwrap();
        let mut changed = owner.u(&u);
        changed.nonce = Nonce::from([8; 32]);
        for _ in 0..MAX_TRIES {
            assert_eq!(shares.take(&changed).unwrap_err().code, "share-refused");
        }
        assert_eq!(
            shares.take(&owner.u(&u)).unwrap_err().code,
            "too-many-tries"
        );
        assert_eq!(
            shares.take(&owner.v(&v)).unwrap_err().code,
            "too-many-tries"
        );
    }

    #[test]
    fn v_without_its_envelope_is_refused() {
        let (owner, mut shares) = set_up();
        let (_, v) = owner.key.split().unwrap();
        let mut call = owner.v(&v);
        call.envelope = None;
        assert_eq!(shares.take(&call).unwrap_err().code, "no-envelope");
    }
}
