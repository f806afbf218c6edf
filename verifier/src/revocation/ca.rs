//! Telling the CA. The log itself is the outbox: an entry without the CA's answer is one that waits.

use std::{sync::Weak, time::Duration};

use bootkeep_link::{Backoff, HttpClient, HttpError};
use bootkeep_protocol::ca::{CurrentCrl, RevokeCertificates, RevokedCertificates};

use super::{table::ForCa, On};
use crate::{error::VerifierError, service::Verifier};

/// Entries told of in one round.
const ROUND: i64 = 64;
/// How long one notice may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Looks at the outbox when nobody woke us: another verifier may have died over its notice.
const LOOK: Duration = Duration::from_secs(5);

/// The way to the CA.
#[derive(Clone, Debug)]
pub struct CaNotices {
    client: HttpClient,
    base: String,
}

impl CaNotices {
    /// `client` asks services of the role `ca`; `base` is the CA's URL, without a path.
    #[must_use]
    pub fn new(client: HttpClient, base: &str) -> Self {
        Self {
            client: client.with_deadline(DEADLINE),
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    /// The list in force.
    pub(super) async fn current_crl(&self) -> Result<CurrentCrl, HttpError> {
        self.client.get(&format!("{}/v1/crl", self.base)).await
    }

    async fn revoke(
        &self,
        entry: &ForCa,
        keep: Vec<String>,
    ) -> Result<RevokedCertificates, HttpError> {
        let url = format!("{}/v1/nodes/{}/revoke", self.base, entry.node);
        let reason = format!("entry {} of the revocation log", entry.sequence);
        let request = RevokeCertificates { reason, keep };
        self.client.post(&url, &request).await
    }
}

/// Tells the CA of every entry until it has answered; ends with the verifier.
pub(super) async fn run(verifier: Weak<Verifier>, ca: CaNotices) {
    let mut backoff = Backoff::default();
    loop {
        let told = match verifier.upgrade() {
            None => return,
            Some(verifier) => match verifier.revocations.on() {
                None => return,
                Some(on) => round(&verifier, on, &ca).await,
            },
        };
        match told {
            Ok(()) => {
                backoff.reset();
                wait(&verifier).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the CA was not told of a revocation; trying again");
                backoff.pause().await;
            }
        }
    }
}

/// Until there is an entry, or it is time to look.
async fn wait(verifier: &Weak<Verifier>) {
    let Some(wake) = verifier
        .upgrade()
        .and_then(|verifier| Some(verifier.revocations.on()?.for_ca.clone()))
    else {
        return;
    };
    // Time over or woken: the loop looks.
    let _ = tokio::time::timeout(LOOK, wake.notified()).await;
}

#[derive(Debug, thiserror::Error)]
enum NoticeError {
    #[error(transparent)]
    Ours(#[from] VerifierError),
    #[error("entry {0}: {1}")]
    Ca(u64, HttpError),
}

/// Certificates of a node that was enrolled anew since: a notice that comes late must not hit them.
fn new_serials(verifier: &Verifier, entry: &ForCa) -> Vec<String> {
    let enrolment = verifier
        .fleet
        .get(&entry.node)
        .and_then(|node| node.enrolment());
    match enrolment {
        Some(enrolled) if enrolled.terms.digest != entry.enrolment => {
            enrolled.terms.serials.clone()
        }
        _ => Vec::new(),
    }
}

/// Tells of what waits. A refusal of one node's notice does not hold up the others'.
async fn round(verifier: &Verifier, on: &On, ca: &CaNotices) -> Result<(), NoticeError> {
    let mut first = Ok(());
    for entry in on.log.table.for_ca(ROUND).await? {
        let keep = new_serials(verifier, &entry);
        let ForCa { sequence, node, .. } = &entry;
        let sequence = *sequence;
        match ca.revoke(&entry, keep).await {
            Ok(answer) => {
                on.log.table.ca_answered(sequence).await?;
                tracing::info!(
                    node = node.short(),
                    sequence,
                    crl = answer.crl_number,
                    "the CA was told"
                );
                let list = on.lists.take(&on.log.table, answer.crl.as_slice(), None);
                if let Err(error) = list.await {
                    tracing::warn!(%error, "the list of the CA's answer is not taken; it is asked for");
                    on.lists.want();
                }
            }
            Err(error) if error.problem().is_some() => {
                first = first.and(Err(NoticeError::Ca(sequence, error)));
            }
            Err(error) => return Err(NoticeError::Ca(sequence, error)),
        }
    }
    first
}
