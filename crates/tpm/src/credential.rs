//! TPM2_ActivateCredential: the proof that AK and EK live in one TPM.

use tss_esapi::{
    constants::SessionType,
    handles::AuthHandle,
    interface_types::session_handles::{AuthSession, PolicySession},
    structures::{Digest, EncryptedSecret, IdObject, Nonce},
    Context,
};
use zeroize::Zeroizing;

use crate::{scope, Tpm, TpmError};

impl Tpm {
    /// Opens a credential that was made for this TPM's EK and our AK.
    ///
    /// `blob` and `encrypted_secret` are the contents of `TPM2B_ID_OBJECT` and `TPM2B_ENCRYPTED_SECRET`.
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
        let kind = self.ek_in_use()?;
        self.with_ek(kind, |context, ek| {
            scope::with_session(context, SessionType::Policy, |context, session| {
                satisfy_ek_policy(context, session)?;
                let sessions = (Some(AuthSession::Password), Some(session), None);
                let secret = context.execute_with_sessions(sessions, |context| {
                    context.activate_credential(ak, ek, blob, encrypted)
                })?;
                Ok(Zeroizing::new(secret.value().to_vec()))
            })
        })
    }
}

/// PolicySecret(endorsement): the policy of the default EK templates (EK Credential Profile §B.6.2).
fn satisfy_ek_policy(context: &mut Context, session: AuthSession) -> Result<(), TpmError> {
    let session = PolicySession::try_from(session)?;
    scope::with_empty_auth(context, |context| {
        context.policy_secret(
            session,
            AuthHandle::Endorsement,
            Nonce::default(),
            Digest::default(),
            Nonce::default(),
            None,
        )?;
        Ok(())
    })
}
