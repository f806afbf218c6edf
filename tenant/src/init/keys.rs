//! The keys that sign documents, and where their halves go.

use std::path::Path;

use bootkeep_signed::SigningKey;

use super::{failed, plan::Plan};
use crate::Error;

/// A signing key of the owner's, by its files.
pub(super) struct KeyFiles {
    /// The private half.
    private: &'static str,
    /// Copies of the public half.
    public: &'static [&'static str],
}

/// The verifier signs revocations, the owner signs policies and PCR policies.
pub(super) const KEYS: [KeyFiles; 3] = [
    KeyFiles {
        private: "verifier/revocation.key",
        public: &["revocation.pem", "node/revocation.pem"],
    },
    KeyFiles {
        private: "policy.key",
        public: &["policy.pem", "verifier/policy.pem"],
    },
    KeyFiles {
        private: "authorize.key",
        public: &[],
    },
];

impl KeyFiles {
    /// A fresh key in new files.
    pub(super) fn plan(&self, plan: &mut Plan) -> Result<(), Error> {
        let key = SigningKey::generate().map_err(failed)?;
        plan.private(self.private, key.to_pem().as_bytes());
        for path in self.public {
            plan.public(path, &key.public_pem());
        }
        Ok(())
    }

    /// What of it is missing in `home`. Where a copy of the public half is there, it is the one that counts.
    pub(super) fn plan_missing(&self, home: &Path, plan: &mut Plan) -> Result<(), Error> {
        let is_there = |path: &&&str| home.join(path).exists();
        if let Some(there) = self.public.iter().find(is_there) {
            let text = crate::files::read_text(&home.join(there), crate::signing::MAX_KEYS)?;
            for path in self.public.iter().filter(|path| !is_there(path)) {
                plan.public(path, &text);
            }
            return Ok(());
        }
        if !home.join(self.private).exists() {
            return self.plan(plan);
        }
        let key = crate::signing::load_private(&home.join(self.private))?;
        for path in self.public {
            plan.public(path, &key.public_pem());
        }
        Ok(())
    }
}
