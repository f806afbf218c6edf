//! Who the node is: its EK and AK, and how the registrar comes to know them.

use std::time::Duration;

use bootkeep_link::{HttpClient, HttpError};
use bootkeep_protocol::{
    link::ActivateCall,
    registrar::{activation_message, ActivateRequest, Activated, Challenge, RegisterRequest},
    Bytes, NodeId,
};
use bootkeep_tpm::{AkKind, TpmError};
use futures_util::{stream::FuturesUnordered, StreamExt};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::tpm::{TpmGone, TpmThread};

/// Between the starts of the requests to two registrars: the second is asked when the first is slow or away.
const STAGGER: Duration = Duration::from_millis(500);

/// The public halves of a node's keys.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Derived from the EK.
    pub node_id: NodeId,
    /// EK public area (`TPMT_PUBLIC`).
    pub ek_public: Vec<u8>,
    /// EK certificate (DER), when the TPM carries one.
    pub ek_certificate: Option<Vec<u8>>,
    /// AK public area (`TPMT_PUBLIC`).
    pub ak_public: Vec<u8>,
}

/// Why a node has no identity, or could not show it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The TPM refused.
    #[error("the TPM: {0}")]
    Tpm(#[from] TpmError),
    /// The TPM's thread ended.
    #[error(transparent)]
    Gone(#[from] TpmGone),
    /// The registrar refused or could not be reached.
    #[error("the registrar: {0}")]
    Registrar(#[from] HttpError),
    /// The registrar derived another id from our EK.
    #[error("the registrar calls this node {0}, its EK says otherwise; check that the registrar is the right one")]
    OtherNode(NodeId),
}

impl Identity {
    /// Brings EK, SRK and AK (of the default kind) up in the TPM, making what is missing.
    ///
    /// # Errors
    /// What the TPM refused.
    pub async fn load(tpm: &TpmThread) -> Result<Self, IdentityError> {
        Self::load_with(tpm, AkKind::default()).await
    }

    /// As [`load`](Self::load), with an AK of this kind; all quotes from now on are made with it.
    ///
    /// # Errors
    /// What the TPM refused.
    pub async fn load_with(tpm: &TpmThread, kind: AkKind) -> Result<Self, IdentityError> {
        let (ek, ak) = tpm
            .run(move |tpm| {
                tpm.use_ak(kind);
                let ek = tpm.ek_public()?;
                let ak = tpm.ensure_ak()?;
                Ok::<_, TpmError>((ek, ak))
            })
            .await??;
        Ok(Self {
            node_id: NodeId::of_ek_public(&ek.public),
            ek_public: ek.public,
            ek_certificate: ek.certificate,
            ak_public: ak.public,
        })
    }

    /// Registers with one of the registrars: all are asked, a little apart, the first that answers counts.
    ///
    /// # Errors
    /// The refusal of the registrar, or why none could be reached; all of [`IdentityError`].
    pub async fn register(
        &self,
        tpm: &TpmThread,
        client: &HttpClient,
        registrars: &[String],
    ) -> Result<Activated, IdentityError> {
        let (base, challenge) = self.first_challenge(client, registrars).await?;
        if challenge.node_id != self.node_id {
            return Err(IdentityError::OtherNode(challenge.node_id));
        }
        let call = ActivateCall {
            challenge_id: challenge.challenge_id.clone(),
            credential_blob: challenge.credential_blob,
            encrypted_secret: challenge.encrypted_secret,
        };
        let answer = ActivateRequest {
            proof: self.prove(tpm, &call).await?,
            challenge_id: challenge.challenge_id,
        };
        let url = format!("{base}/v1/nodes/{}/activate", self.node_id);
        Ok(client.post(&url, &answer).await?)
    }

    async fn first_challenge<'a>(
        &self,
        client: &HttpClient,
        registrars: &'a [String],
    ) -> Result<(&'a str, Challenge), HttpError> {
        let request = RegisterRequest {
            ek_public: self.ek_public.as_slice().into(),
            ek_certificate: self.ek_certificate.as_deref().map(Bytes::from),
            ak_public: self.ak_public.as_slice().into(),
        };
        let ask = |(base, place): (&'a String, u32)| {
            let (base, request) = (base.trim_end_matches('/'), &request);
            async move {
                sleep(STAGGER * place).await;
                let url = format!("{base}/v1/nodes");
                let challenge = client.post::<Challenge>(&url, request).await?;
                Ok::<_, HttpError>((base, challenge))
            }
        };
        let mut asked: FuturesUnordered<_> = registrars.iter().zip(0..).map(ask).collect();
        let mut last = HttpError::unreachable("no registrar is configured");
        while let Some(answer) = asked.next().await {
            match answer {
                Err(error) if !error.is_refusal() => last = error,
                word => return word,
            }
        }
        Err(last)
    }

    /// Opens a credential and signs the challenge's id with the secret in it.
    ///
    /// # Errors
    /// When the TPM refuses: the credential is not for this EK and AK.
    pub async fn prove(
        &self,
        tpm: &TpmThread,
        call: &ActivateCall,
    ) -> Result<Bytes, IdentityError> {
        let blob = call.credential_blob.0.clone();
        let encrypted = call.encrypted_secret.0.clone();
        let secret: Zeroizing<Vec<u8>> = tpm
            .run(move |tpm| tpm.activate_credential(&blob, &encrypted))
            .await??;
        // HMAC takes a key of any length, so this cannot fail; an empty proof would be refused in any case.
        let proof = Hmac::<Sha256>::new_from_slice(&secret).map_or_else(
            |_| Vec::new(),
            |mac| {
                mac.chain_update(activation_message(&call.challenge_id, &self.node_id))
                    .finalize()
                    .into_bytes()
                    .to_vec()
            },
        );
        Ok(Bytes(proof))
    }
}
