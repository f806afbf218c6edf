//! Secrets sealed to PCR values.

use tss_esapi::{
    constants::SessionType,
    handles::ObjectHandle,
    interface_types::session_handles::{AuthSession, PolicySession},
    structures::{Digest, Private, Public, SensitiveData},
    traits::{Marshall, UnMarshall},
    Context,
};
use zeroize::Zeroizing;

use crate::{pcr, scope, template, Tpm, TpmError};

/// A secret that only this TPM opens, and only while the PCRs have the values they had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Marshalled `TPMT_PUBLIC`.
    pub public: Vec<u8>,
    /// Contents of `TPM2B_PRIVATE`.
    pub private: Vec<u8>,
}

impl Tpm {
    /// Seals at most 128 bytes to the present values of these PCRs.
    ///
    /// # Errors
    /// [`TpmError::PcrSelection`], [`TpmError::Tss`].
    pub fn seal(&mut self, secret: &[u8], pcrs: &[u8]) -> Result<Sealed, TpmError> {
        let secret = SensitiveData::try_from(secret.to_vec())?;
        let template = template::sealed(self.policy_digest(pcrs)?)?;
        let srk = self.srk()?;
        let context = &mut self.context;
        // The salted session keeps the secret from whoever listens on the bus.
        let made =
            scope::with_session(context, SessionType::Hmac, Some(srk), |context, session| {
                let sessions = (Some(AuthSession::Password), Some(session), None);
                Ok(context.execute_with_sessions(sessions, |context| {
                    context.create(srk, template, None, Some(secret), None, None)
                })?)
            })?;
        Ok(Sealed {
            public: made.out_public.marshall()?,
            private: made.out_private.value().to_vec(),
        })
    }

    /// Opens a sealed secret.
    ///
    /// # Errors
    /// [`TpmError::Tss`] when a PCR has another value now, or the secret is of another TPM.
    pub fn unseal(&mut self, sealed: &Sealed, pcrs: &[u8]) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let public = Public::unmarshall(&sealed.public)?;
        let private = Private::try_from(sealed.private.clone())?;
        pcr::selection(pcrs)?;
        let srk = self.srk()?;
        let key = scope::with_empty_auth(&mut self.context, |context| {
            Ok(context.load(srk, private, public)?)
        })?;
        scope::with_object(&mut self.context, key, |context, key| {
            scope::with_session(
                context,
                SessionType::Policy,
                Some(srk),
                |context, session| {
                    apply_policy(context, session, pcrs)?;
                    let secret = context.execute_with_session(Some(session), |context| {
                        context.unseal(ObjectHandle::from(key))
                    })?;
                    Ok(Zeroizing::new(secret.value().to_vec()))
                },
            )
        })
    }

    fn policy_digest(&mut self, pcrs: &[u8]) -> Result<Digest, TpmError> {
        pcr::selection(pcrs)?;
        scope::with_session(
            &mut self.context,
            SessionType::Trial,
            None,
            |context, session| {
                apply_policy(context, session, pcrs)?;
                let session = PolicySession::try_from(session)?;
                Ok(
                    context
                        .execute_without_session(|context| context.policy_get_digest(session))?,
                )
            },
        )
    }
}

fn apply_policy(context: &mut Context, session: AuthSession, pcrs: &[u8]) -> Result<(), TpmError> {
    let session = PolicySession::try_from(session)?;
    let selection = pcr::selection(pcrs)?;
    // An empty digest stands for the present values (TPM 2.0 Part 3 §23.7).
    context.execute_without_session(|context| {
        context.policy_pcr(session, Digest::default(), selection)
    })?;
    Ok(())
}
