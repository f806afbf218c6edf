//! Objects and sessions for the length of one closure: flushed after it, whatever it returned.

use tss_esapi::{
    attributes::SessionAttributesBuilder,
    constants::SessionType,
    handles::{KeyHandle, ObjectHandle, SessionHandle},
    interface_types::{algorithm::HashingAlgorithm, session_handles::AuthSession},
    structures::SymmetricDefinition,
    Context,
};

use crate::TpmError;

/// Runs `work` with a transient object and flushes the object.
pub(crate) fn with_object<T>(
    context: &mut Context,
    key: KeyHandle,
    work: impl FnOnce(&mut Context, KeyHandle) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    let result = work(context, key);
    let flushed = context.flush_context(ObjectHandle::from(key));
    let value = result?;
    flushed?;
    Ok(value)
}

/// Runs `work` with a session of this type and flushes the session. It encrypts parameters; with `salt`, a key only the
/// TPM can use, so that nobody on the bus can read them.
pub(crate) fn with_session<T>(
    context: &mut Context,
    kind: SessionType,
    salt: Option<KeyHandle>,
    work: impl FnOnce(&mut Context, AuthSession) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    let session = context
        .execute_without_session(|context| {
            context.start_auth_session(
                salt,
                None,
                None,
                kind,
                SymmetricDefinition::AES_128_CFB,
                HashingAlgorithm::Sha256,
            )
        })?
        .ok_or(TpmError::Unexpected("no session"))?;
    let result = configure(context, session).and_then(|()| work(context, session));
    let flushed = context.flush_context(SessionHandle::from(session).into());
    let value = result?;
    flushed?;
    Ok(value)
}

fn configure(context: &mut Context, session: AuthSession) -> Result<(), TpmError> {
    let (attributes, mask) = SessionAttributesBuilder::new()
        .with_continue_session(true)
        .with_decrypt(true)
        .with_encrypt(true)
        .build();
    Ok(context.tr_sess_set_attributes(session, attributes, mask)?)
}

/// Runs `work` with the empty password as authorization.
pub(crate) fn with_empty_auth<T>(
    context: &mut Context,
    work: impl FnOnce(&mut Context) -> Result<T, TpmError>,
) -> Result<T, TpmError> {
    // A password session costs the TPM nothing and needs no flushing; all our keys and the owner's hierarchy have the
    // empty password, so it gives nothing away.
    context.execute_with_session(Some(AuthSession::Password), work)
}
