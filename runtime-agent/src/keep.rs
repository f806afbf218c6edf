//! Shares for the next boot: unwrapped here, kept in the TPM's NV, never on a disk.

use bootkeep_node::{session::KeepRequest, tpm::TpmThread};
use bootkeep_protocol::{kept::KeepCall, NodeId, Problem, ProblemKind};
use bootkeep_tpkd::{NodeKey, Share, Wrapped, U};
use bootkeep_tpm::KeptError;
use tokio::sync::mpsc;

/// Takes shares for the next boot.
pub(crate) struct Keeper {
    /// The transport key of this daemon: its public half is bound inside every quote.
    pub(crate) node_key: NodeKey,
    pub(crate) node_id: NodeId,
    pub(crate) tpm: TpmThread,
}

impl Keeper {
    /// Takes them until nobody sends any more.
    pub(crate) async fn run(self, mut requests: mpsc::Receiver<KeepRequest>) {
        while let Some(request) = requests.recv().await {
            let outcome = self.keep(&request.call).await;
            match &outcome {
                Ok(()) => {
                    tracing::info!(share = %request.call.id, "kept a share for the next boot")
                }
                Err(problem) => tracing::warn!(%problem, "a share for the next boot is not kept"),
            }
            request.answer(outcome);
        }
    }

    async fn keep(&self, call: &KeepCall) -> Result<(), Problem> {
        let wrapped = Wrapped {
            encapsulated: call.encapsulated.0.clone(),
            ciphertext: call.ciphertext.0.clone(),
        };
        let (nonce, node) = (call.nonce.as_bytes(), self.node_id.as_str());
        let share: Share<U> =
            self.node_key
                .unwrap_share(nonce, node, &wrapped)
                .map_err(|error| {
                    Problem::new(ProblemKind::Untrusted, "share-refused", error.to_string())
                })?;
        let id = *call.id.as_bytes();
        let kept = self.tpm.run(move |tpm| tpm.stage_kept(&id, share.expose()));
        match kept.await {
            Ok(kept) => kept.map_err(|error| not_kept(&error)),
            Err(gone) => Err(Problem::new(
                ProblemKind::Unavailable,
                "no-tpm",
                gone.to_string(),
            )),
        }
    }
}

fn not_kept(error: &KeptError) -> Problem {
    let kind = match error {
        KeptError::NoSlot => ProblemKind::Conflict,
        _ => ProblemKind::Unavailable,
    };
    Problem::new(kind, "share-not-kept", error.to_string())
}
