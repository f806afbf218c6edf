//! Share V leaves here and nowhere else.

use bootkeep_policy::Booted;
use bootkeep_protocol::link::{Call, Reply, ShareCall, SharePart};
use bootkeep_tpkd::wrap_share;

use crate::{
    error::VerifierError,
    fleet::{Node, Secrets},
    link::{keep_confirmation, Link},
    service::Verifier,
};

/// Sends V with the envelope, wrapped to the NK of the quote that was just appraised.
///
/// It takes the appraisal itself: without a good one there is no value to call this with, and it serves once.
pub(super) async fn send(
    verifier: &Verifier,
    node: &Node,
    link: &Link,
    booted: Booted,
) -> Result<(), VerifierError> {
    let Some(secrets) = verifier.fleet.database.secrets(node.id()).await? else {
        node.step("refused", "there is no share V for this node any more");
        return Ok(());
    };
    let call = match share_call(&booted, secrets) {
        Ok(call) => call,
        Err(error) => {
            node.step("refused", &error);
            return Ok(());
        }
    };
    match link.calls.ask(Call::Share(call)).await {
        Ok(Reply::Share { confirmation }) => {
            if let Some(confirmation) = confirmation {
                keep_confirmation(verifier, node, link, confirmation).await;
            }
            verifier.counters.share_sent();
            node.step("share-v-sent", "wrapped to the key of the appraised quote");
        }
        Ok(_) => node.step("refused", "the node's answer to share V is of another kind"),
        Err(error) => node.step("refused", &format!("share V was not taken: {error}")),
    }
    Ok(())
}

fn share_call(booted: &Booted, secrets: Secrets) -> Result<ShareCall, String> {
    let wrapped = wrap_share(
        booted.nk_public(),
        booted.nonce().as_bytes(),
        booted.node().as_str(),
        &secrets.share,
    )
    .map_err(|error| error.to_string())?;
    Ok(ShareCall {
        part: SharePart::V,
        nonce: *booted.nonce(),
        encapsulated: wrapped.encapsulated.into(),
        ciphertext: wrapped.ciphertext.into(),
        envelope: Some(secrets.envelope.into()),
        kept: None,
    })
}
