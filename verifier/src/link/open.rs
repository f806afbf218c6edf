//! The opening of a link: who is it, and may it speak now?

use std::sync::{atomic::AtomicU32, Mutex};

use bootkeep_evidence::AkPublic;
use bootkeep_link::channel::{Receiver, Sender};
use bootkeep_policy::{verify_link_quote, LinkQuestion, Refusal};
use bootkeep_protocol::{
    link::{NodeFrame, Open, ServerFrame, LINK_VERSION},
    registrar::NodeRecord,
    NodeId, Nonce, Phase, Problem, ProblemKind, EXPORTER_LEN,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::{Calls, Link};
use crate::{
    fleet::{latched, Node, Verdict},
    service::Verifier,
};

/// Greets the node and checks its answer. Nothing of it is believed before its quote is verified.
pub(super) async fn open(
    verifier: &Verifier,
    sender: &Sender<ServerFrame>,
    receiver: &mut Receiver<NodeFrame>,
    exporter: [u8; EXPORTER_LEN],
) -> Result<(NodeId, Link), Problem> {
    let nonce = verifier.nonce()?;
    let hello = ServerFrame::Hello {
        version: LINK_VERSION,
        nonce,
    };
    sender.send(&hello).await.map_err(|_| gone())?;
    let open = match receiver.next().await {
        Ok(Some(NodeFrame::Open(open))) => open,
        Ok(Some(_)) => return Err(malformed("a link starts with open")),
        Ok(None) | Err(_) => return Err(gone()),
    };
    let record = verifier.record(&open.node_id).await?;
    let link = check(&record, &nonce, exporter, &open, sender)?;
    Ok((open.node_id, link))
}

fn check(
    record: &NodeRecord,
    nonce: &Nonce,
    exporter: [u8; EXPORTER_LEN],
    open: &Open,
    sender: &Sender<ServerFrame>,
) -> Result<Link, Problem> {
    let derived = NodeId::of_ek_public(record.ek_public.as_slice());
    if record.node_id != open.node_id || derived != open.node_id {
        return Err(untrusted(
            "other-node",
            "the registrar's record is of another node",
        ));
    }
    let ak = AkPublic::parse(record.ak_public.as_slice())
        .map_err(|error| untrusted("ak", &format!("the registered AK cannot be used: {error}")))?;
    let question = LinkQuestion {
        ak: &ak,
        nonce,
        exporter: &exporter,
    };
    let opened = verify_link_quote(&question, open).map_err(|refusal| problem_of(&refusal))?;
    Ok(Link {
        phase: open.phase,
        boot_id: open.boot_id.clone(),
        exporter,
        generation: record.generation,
        ak_digest: Sha256::digest(record.ak_public.as_slice()).into(),
        clock: opened.clock(),
        unlatched: opened.is_unlatched(),
        calls: Calls::new(sender.clone()),
        ak,
        grew: watch::Sender::new(0),
        events: AtomicU32::new(0),
        offered: Mutex::default(),
        ending: watch::Sender::new(None),
    })
}

/// What the verdict so far says to a link that has just opened.
pub(super) fn admit(node: &Node, link: &Link) -> Result<(), Problem> {
    let Some(enrolled) = node.enrolment() else {
        return Ok(());
    };
    if !link.fits(&enrolled) {
        return Err(other_ak());
    }
    let trust = node.trust();
    let because = || trust.reasons.first().map_or("", |reason| &reason.detail);
    match (trust.verdict, link.phase) {
        (Verdict::Revoked, _) => Err(untrusted("revoked", because())),
        (Verdict::Untrusted, Phase::Initramfs) => Err(untrusted("untrusted", because())),
        (_, Phase::Initramfs) if !link.unlatched => Err(latched()),
        _ => Ok(()),
    }
}

pub(crate) fn other_ak() -> Problem {
    untrusted(
        "other-ak",
        "the registered AK is not the one this node was enrolled with; enrol it again",
    )
}

/// The first reason, as a problem for the node.
pub(crate) fn problem_of(refusal: &Refusal) -> Problem {
    let code = refusal
        .reasons()
        .first()
        .map_or_else(|| "refused".to_owned(), |reason| reason.code.clone());
    Problem::new(ProblemKind::Untrusted, &code, refusal.to_string())
}

pub(crate) fn untrusted(code: &str, detail: &str) -> Problem {
    Problem::new(ProblemKind::Untrusted, code, detail)
}

fn malformed(detail: &str) -> Problem {
    Problem::new(ProblemKind::Malformed, "bad-frame", detail)
}

fn gone() -> Problem {
    Problem::new(ProblemKind::Unavailable, "link-ended", "the node went away")
}
