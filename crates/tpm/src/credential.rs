//! TPM2_ActivateCredential: the proof that AK and EK live in one TPM.

use tss_esapi::{
    constants::SessionType,
    handles::AuthHandle,
    interface_types::session_handles::{AuthSession, PolicySession},
    structures::{Digest, DigestList, EncryptedSecret, IdObject, Nonce},
    Context,
};
use zeroize::Zeroizing;

use crate::{
    ek::EkKind,
    scope,
    template::{POLICY_A, POLICY_C},
    Tpm, TpmError,
};

impl Tpm {
    /// Opens a credential that was made for this TPM's EK and our AK.
    ///
    /// `blob` and `encrypted_secret` are the contents of `TPM2B_ID_OBJECT` and `TPM2B_ENCRYPTED_SECRET`. The secret
    /// crosses the bus encrypted, under a session that is salted with the EK.
    ///
    /// # Errors
    /// [`TpmError::Tss`] when it was made for another EK or AK, or was changed.
    pub fn activate_credential(
        &mut self,
        blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let blob = IdObject::try_from(blob.to_vec())?;
        let encrypted = EncryptedSecret::try_from(encrypted_secret.to_vec())?;
        let ak = self.ak()?;
        let chosen = self.ek_in_use()?;
        self.with_ek(chosen, |context, ek| {
            scope::with_session(
                context,
                SessionType::Policy,
                Some(ek),
                |context, session| {
                    satisfy_ek_policy(context, session, chosen.kind)?;
                    let sessions = (Some(AuthSession::Password), Some(session), None);
                    let secret = context.execute_with_sessions(sessions, |context| {
                        context.activate_credential(ak, ek, blob, encrypted)
                    })?;
                    Ok(Zeroizing::new(secret.value().to_vec()))
                },
            )
        })
    }
}

/// The policy of the default EK templates: PolicySecret(endorsement), in the high range as one branch of PolicyOR
/// (EK Credential Profile §B.6.2, §B.6.5).
fn satisfy_ek_policy(
    context: &mut Context,
    session: AuthSession,
    kind: EkKind,
) -> Result<(), TpmError> {
    let session = PolicySession::try_from(session)?;
    scope::with_empty_auth(context, |context| {
        let (nonce, digest) = (Nonce::default(), Digest::default());
        let endorsement = AuthHandle::Endorsement;
        context.policy_secret(session, endorsement, nonce.clone(), digest, nonce, None)?;
        Ok(())
    })?;
    if kind.is_high() {
        let mut branches = DigestList::new();
        branches.add(Digest::try_from(POLICY_A.as_slice())?)?;
        branches.add(Digest::try_from(POLICY_C.as_slice())?)?;
        context.execute_without_session(|context| context.policy_or(session, branches))?;
    }
    Ok(())
}
