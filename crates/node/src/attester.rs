//! The attester (RFC 9334): evidence and proofs, each bound to one link and one asker.

use std::{io, sync::Arc};

use bootkeep_protocol::{
    limits::MAX_TEXT,
    link::{ActivateCall, Evidence, ImaSlice, Open, PcrValue, Quote, QuoteCall, Reply, LATCH_PCR},
    link_qualifying_data, quote_qualifying_data, BootId, Bytes, Nonce, Phase, Problem, ProblemKind,
    Role, EXPORTER_LEN,
};
use bootkeep_tpm::TpmError;

use crate::{
    host::KernelFiles,
    identity::{Identity, IdentityError},
    tpm::{TpmGone, TpmThread},
};

/// Answers for the node: holds no secret but the TPM's use.
#[derive(Clone, Debug)]
pub struct Attester {
    /// The TPM.
    pub tpm: TpmThread,
    /// Who.
    pub identity: Arc<Identity>,
    /// Which agent.
    pub phase: Phase,
    /// Label of this boot.
    pub boot_id: BootId,
    /// The transport key of this agent.
    pub nk_public: [u8; 32],
    /// Where the kernel's logs are.
    pub files: KernelFiles,
}

/// Why there is no quote.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// The TPM refused.
    #[error("the TPM: {0}")]
    Tpm(#[from] TpmError),
    /// The TPM's thread ended.
    #[error(transparent)]
    Gone(#[from] TpmGone),
    /// A log of the kernel cannot be read.
    #[error("a measurement log cannot be read: {0}")]
    Log(#[from] io::Error),
}

impl From<AttestError> for Problem {
    fn from(error: AttestError) -> Self {
        Self::new(ProblemKind::Unavailable, "no-evidence", error.to_string())
    }
}

impl Attester {
    /// The frame that opens a link.
    ///
    /// # Errors
    /// When the TPM gives no quote.
    pub async fn open(
        &self,
        nonce: &Nonce,
        exporter: &[u8; EXPORTER_LEN],
    ) -> Result<Open, AttestError> {
        let qualifying = link_qualifying_data(
            nonce,
            self.phase,
            &self.nk_public,
            &self.identity.node_id,
            exporter,
        );
        Ok(Open {
            node_id: self.identity.node_id.clone(),
            phase: self.phase,
            boot_id: self.boot_id.clone(),
            nk_public: self.nk_public.as_slice().into(),
            quote: self.quote(qualifying, vec![LATCH_PCR]).await?,
        })
    }

    /// Evidence for one asker.
    ///
    /// # Errors
    /// A refusal of a bad question, or why there is no evidence now.
    pub async fn evidence(
        &self,
        call: &QuoteCall,
        exporter: &[u8; EXPORTER_LEN],
    ) -> Result<Evidence, Problem> {
        check_question(call)?;
        let qualifying = quote_qualifying_data(
            &call.nonce,
            call.asker,
            &self.nk_public,
            &self.identity.node_id,
            exporter,
        );
        let quote = self.quote(qualifying, call.pcrs.clone()).await?;
        // Logs are read after the quote: they may hold more than it covers, never less.
        Ok(Evidence {
            quote,
            nk_public: self.nk_public.as_slice().into(),
            boot_id: self.boot_id.clone(),
            phase: self.phase,
            event_log: self.event_log(call.event_log)?,
            ima: self.ima(call.ima_offset)?,
            pcr_signatures: self.pcr_signatures(call.event_log),
        })
    }

    /// The proof that AK and EK live in this TPM.
    ///
    /// # Errors
    /// A refusal when the credential is not for this node.
    pub async fn activate(&self, call: &ActivateCall) -> Result<Reply, Problem> {
        if call.challenge_id.len() > MAX_TEXT {
            return Err(malformed("challenge_id is too long"));
        }
        match self.identity.prove(&self.tpm, call).await {
            Ok(proof) => Ok(Reply::Activate { proof }),
            Err(IdentityError::Gone(error)) => Err(AttestError::Gone(error).into()),
            Err(error) => Err(Problem::new(
                ProblemKind::Untrusted,
                "credential-refused",
                error.to_string(),
            )),
        }
    }

    async fn quote(&self, qualifying: [u8; 32], pcrs: Vec<u8>) -> Result<Quote, AttestError> {
        let quote = self
            .tpm
            .run(move |tpm| tpm.quote(&qualifying, &pcrs))
            .await??;
        Ok(Quote {
            attest: quote.attest.into(),
            signature: quote.signature.into(),
            pcrs: quote
                .pcrs
                .into_iter()
                .map(|(index, digest)| PcrValue {
                    index,
                    digest: digest.as_slice().into(),
                })
                .collect(),
        })
    }

    fn event_log(&self, wanted: bool) -> Result<Option<Bytes>, AttestError> {
        if !wanted {
            return Ok(None);
        }
        Ok(self.files.event_log()?.map(Bytes))
    }

    /// They stand beside the event log and prove themselves. Without them the evidence is still evidence, and it is the
    /// policy that says whether they are needed: so a file that cannot be read is said and left out.
    fn pcr_signatures(&self, wanted: bool) -> Option<Bytes> {
        if !wanted {
            return None;
        }
        self.files.pcr_signatures().map_or_else(
            |error| {
                tracing::warn!(%error, "the signatures of PCR 11 cannot be read");
                None
            },
            |text| text.map(Bytes),
        )
    }

    fn ima(&self, offset: Option<u64>) -> Result<Option<ImaSlice>, AttestError> {
        offset
            .map(|offset| {
                Ok(ImaSlice {
                    offset,
                    data: self.files.ima_from(offset)?.into(),
                })
            })
            .transpose()
    }
}

fn malformed(detail: &str) -> Problem {
    Problem::new(ProblemKind::Malformed, "bad-call", detail)
}

fn check_question(call: &QuoteCall) -> Result<(), Problem> {
    if !matches!(call.asker, Role::Verifier | Role::Tenant) {
        return Err(malformed("only the verifier and the tenant ask for quotes"));
    }
    let ascending = call.pcrs.windows(2).all(|pair| pair[0] < pair[1]);
    if call.pcrs.is_empty() || !ascending || call.pcrs.iter().any(|&pcr| pcr > 23) {
        return Err(malformed("pcrs must be 0 to 23, ascending, not empty"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(asker: Role, pcrs: &[u8]) -> QuoteCall {
        QuoteCall {
            nonce: Nonce::from([0; 32]),
            asker,
            pcrs: pcrs.to_vec(),
            event_log: false,
            ima_offset: None,
        }
    }

    #[test]
    fn bad_questions_are_refused() {
        assert!(check_question(&question(Role::Verifier, &[0, 15])).is_ok());
        assert!(check_question(&question(Role::Tenant, &[0])).is_ok());
        for (asker, pcrs) in [
            (Role::Verifier, &[][..]),
            (Role::Verifier, &[1, 1]),
            (Role::Verifier, &[2, 1]),
            (Role::Verifier, &[24]),
            (Role::Registrar, &[0]),
        ] {
            assert!(check_question(&question(asker, pcrs)).is_err(), "{pcrs:?}");
        }
    }
}
