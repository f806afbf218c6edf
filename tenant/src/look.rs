//! Own eyes on a node: own credential, own nonce, own check of the quote, over a link that the verifier relays.

use bootkeep_credential::make_credential;
use bootkeep_evidence::{Quote, UnverifiedQuote};
use bootkeep_policy::{boot_call, Question};
use bootkeep_protocol::{
    link::{ActivateCall, Call, Evidence, QuoteCall, Reply, LATCH_PCR},
    quote_qualifying_data,
    registrar::activation_message,
    verifier::LinkInfo,
    Nonce, Phase, Role, EXPORTER_LEN,
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    error::{Party, Refusal},
    record::CheckedRecord,
    services::Services,
    Error,
};

/// What a node showed when it was asked with a nonce of our own. The quote in it is checked by the appraisal.
#[derive(Clone, Debug)]
pub struct Look {
    /// What was asked.
    pub asked: QuoteCall,
    /// TLS exporter of the link the node answered over.
    pub exporter: [u8; EXPORTER_LEN],
    /// The answer.
    pub evidence: Evidence,
}

/// What is wanted of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All an appraisal needs, with the measurement list from this byte on.
    Everything {
        /// 0, or where an earlier answer ended.
        ima_offset: u64,
    },
    /// Only the latch.
    Latch,
}

impl Wanted {
    fn call(self, nonce: Nonce) -> QuoteCall {
        match self {
            Self::Everything { ima_offset } => boot_call(nonce, Role::Tenant, ima_offset),
            Self::Latch => QuoteCall {
                nonce,
                asker: Role::Tenant,
                pcrs: vec![LATCH_PCR],
                event_log: false,
                ima_offset: None,
            },
        }
    }
}

/// Has the node prove that its AK and its EK live in one TPM, with a credential of our own.
///
/// # Errors
/// [`Error::Untrusted`] when it cannot; errors of the relay.
pub async fn activate(
    services: &Services,
    record: &CheckedRecord,
    phase: Phase,
) -> Result<(), Error> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut_slice()).map_err(failed)?;
    let credential = make_credential(record.ek(), record.ak().name(), secret.as_slice())
        .map_err(|error| refusal("credential", error.to_string()))?;
    let challenge_id = String::from(Nonce::fresh().map_err(failed)?);
    let call = Call::Activate(ActivateCall {
        challenge_id: challenge_id.clone(),
        credential_blob: credential.blob.into(),
        encrypted_secret: credential.encrypted_secret.into(),
    });
    let Reply::Activate { proof } = services.relay(record.node_id(), phase, call).await? else {
        return Err(wrong_reply());
    };
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_slice()).map_err(failed)?;
    mac.chain_update(activation_message(&challenge_id, record.node_id()))
        .verify_slice(proof.as_slice())
        .map_err(|_| {
            refusal(
                "ak-not-proved",
                "the node has not shown that the registered AK lives in the TPM of its EK".into(),
            )
        })
}

/// Asks the node for evidence.
///
/// # Errors
/// Errors of the relay.
pub async fn look(
    services: &Services,
    record: &CheckedRecord,
    link: &LinkInfo,
    wanted: Wanted,
) -> Result<Look, Error> {
    let exporter = <[u8; EXPORTER_LEN]>::try_from(link.exporter.as_slice())
        .map_err(|_| Error::Failed("the verifier gave a link without a TLS exporter".into()))?;
    let asked = wanted.call(Nonce::fresh().map_err(failed)?);
    let call = Call::Quote(asked.clone());
    let Reply::Quote(evidence) = services.relay(record.node_id(), link.phase, call).await? else {
        return Err(wrong_reply());
    };
    Ok(Look {
        asked,
        exporter,
        evidence: *evidence,
    })
}

impl Look {
    /// What an appraisal must know of the question.
    #[must_use]
    pub fn question<'a>(&'a self, record: &'a CheckedRecord, phase: Phase) -> Question<'a> {
        Question {
            node: record.node_id(),
            ak: record.ak(),
            call: &self.asked,
            exporter: &self.exporter,
            phase,
        }
    }

    /// Checks the quote alone: by the AK, for our nonce, on this link, over the PCRs asked for.
    ///
    /// # Errors
    /// The check that failed.
    pub fn quote(&self, record: &CheckedRecord) -> Result<Quote, Refusal> {
        let refuse = |code: &str, detail: String| Refusal::new(Party::OwnAppraisal, code, detail);
        let nk = <[u8; 32]>::try_from(self.evidence.nk_public.as_slice())
            .map_err(|_| refuse("nk", "the node's transport key is not 32 bytes long".into()))?;
        let qualifying = quote_qualifying_data(
            &self.asked.nonce,
            self.asked.asker,
            &nk,
            record.node_id(),
            &self.exporter,
        );
        let quote = &self.evidence.quote;
        let mut pcrs = Vec::with_capacity(quote.pcrs.len());
        for pcr in &quote.pcrs {
            let digest = <[u8; 32]>::try_from(pcr.digest.as_slice()).map_err(|_| {
                refuse(
                    "quote-pcr-digest",
                    "a PCR value is not 32 bytes long".into(),
                )
            })?;
            pcrs.push((pcr.index, digest));
        }
        UnverifiedQuote {
            attest: quote.attest.as_slice(),
            signature: quote.signature.as_slice(),
        }
        .verify(record.ak(), &qualifying, &self.asked.pcrs, &pcrs)
        .map_err(|error| refuse(error.code(), error.to_string()))
    }
}

fn refusal(code: &str, detail: String) -> Error {
    Error::untrusted(Party::OwnAppraisal, code, detail)
}

fn wrong_reply() -> Error {
    refusal("wrong-reply", "the node answered another question".into())
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Failed(error.to_string())
}
