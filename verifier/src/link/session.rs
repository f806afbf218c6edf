//! The life of a link.

use std::{sync::Arc, time::Duration};

use bootkeep_link::channel::{Receiver, Sender};
use bootkeep_protocol::{
    limits::LINK_OPEN_SECONDS,
    link::{NodeFrame, ServerFrame},
    Problem, ProblemKind,
};
use bootkeep_service::{Peer, ServerEnd};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{
    events,
    open::{admit, open},
    Link,
};
use crate::{attest, fleet::Node, revocation, service::Verifier};

/// Serves one link from its upgrade to its end.
pub(crate) async fn serve(verifier: Arc<Verifier>, peer: Peer, end: ServerEnd) {
    let (sender, mut receiver) = end.split();
    let Ok(place) = verifier.openings.try_acquire() else {
        return refuse(&verifier, &sender, full(), &peer).await;
    };
    let opening = open(&verifier, &sender, &mut receiver, peer.exporter);
    let opened = timeout(Duration::from_secs(LINK_OPEN_SECONDS), opening).await;
    drop(place);
    let (id, link) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(problem)) => return refuse(&verifier, &sender, problem, &peer).await,
        Err(_) => return refuse(&verifier, &sender, late(), &peer).await,
    };
    let node = verifier.fleet.node(&id);
    let link = Arc::new(link);
    if let Err(problem) = take_in(&verifier, &node, &link).await {
        node.step("refused", &format!("{} link: {problem}", link.phase));
        return refuse(&verifier, &sender, problem, &peer).await;
    }
    let detail = format!("{} agent, from {}", link.phase, peer.address.ip());
    node.step("link-open", &detail);
    let problem = run(&verifier, &node, &link, &sender, &mut receiver).await;
    link.calls.abandon();
    node.remove_link(&link);
    node.step("link-closed", link.phase.as_str());
    if let Some(problem) = problem {
        refuse(&verifier, &sender, problem, &peer).await;
    }
    drop(node);
    verifier.fleet.tidy(&id);
}

/// Gives the link its place. A newer link of the same agent takes over from the older one.
async fn take_in(verifier: &Verifier, node: &Node, link: &Arc<Link>) -> Result<(), Problem> {
    if let Err(error) = verifier.fleet.refresh(node, &verifier.policies).await {
        // What is known here holds; V leaves only when the database answers.
        tracing::warn!(node = node.id().short(), %error, "a node could not be read anew");
    }
    admit(node, link)?;
    if let Some(enrolled) = node.enrolment() {
        attest::note_boot(verifier, node, &enrolled, link).await?;
    }
    if let Some(old) = node.add_link(link.clone()) {
        old.end(replaced());
    }
    // Whoever revoked or enrolled since the first look did not see this link: look again.
    admit(node, link).inspect_err(|_| node.remove_link(link))
}

fn replaced() -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "replaced",
        "a newer link of this agent took over",
    )
}

/// Serves frames until the link ends; the problem, if any, is told to the node.
async fn run(
    verifier: &Arc<Verifier>,
    node: &Arc<Node>,
    link: &Arc<Link>,
    sender: &Sender<ServerFrame>,
    receiver: &mut Receiver<NodeFrame>,
) -> Option<Problem> {
    let mut ending = link.ending.subscribe();
    let accepted = async {
        sender.accept().await?;
        sender.send(&ServerFrame::Accepted {}).await
    };
    if accepted.await.is_err() {
        return None;
    }
    // Tasks of their own: when one dies, the link ends with it, and trust with its time.
    let mut driver = JoinSet::new();
    driver.spawn(attest::drive(verifier.clone(), node.clone(), link.clone()));
    driver.spawn(revocation::deliver(
        verifier.clone(),
        node.clone(),
        link.clone(),
    ));
    loop {
        tokio::select! {
            frame = receiver.next() => match frame {
                Ok(Some(NodeFrame::Reply { id, outcome })) => {
                    if !link.calls.answer(id, outcome) {
                        tracing::debug!(node = node.id().short(), id, "an answer nobody waits for");
                    }
                }
                Ok(Some(NodeFrame::Event { event })) => events::take(verifier, node, link, event).await,
                Ok(Some(NodeFrame::Open(_))) => return Some(again()),
                Ok(None) => return None,
                Err(error) => {
                    tracing::info!(node = node.id().short(), %error, "link broke");
                    return None;
                }
            },
            problem = told_to_end(&mut ending) => return problem,
            ended = driver.join_next() => {
                if let Some(Err(error)) = ended {
                    tracing::error!(node = node.id().short(), %error, "the task of a link died");
                }
                return Some(fault());
            }
        }
    }
}

/// Waits until somebody wants the link to end.
async fn told_to_end(ending: &mut watch::Receiver<Option<Problem>>) -> Option<Problem> {
    let problem = ending.wait_for(Option::is_some).await;
    problem.ok().and_then(|problem| problem.clone())
}

async fn refuse(verifier: &Verifier, sender: &Sender<ServerFrame>, problem: Problem, peer: &Peer) {
    tracing::info!(address = %peer.address, code = problem.code, detail = problem.detail, "link refused");
    verifier.counters.refused(&problem.code);
    // The node may be gone already.
    let _ = sender.send(&ServerFrame::Refused { problem }).await;
    sender.close().await;
}

fn full() -> Problem {
    Problem::new(
        ProblemKind::Busy,
        "too-many-openings",
        "too many links are being opened; try again",
    )
}

fn late() -> Problem {
    Problem::new(
        ProblemKind::Unavailable,
        "open-late",
        format!("the link was not opened in {LINK_OPEN_SECONDS} s"),
    )
}

fn again() -> Problem {
    Problem::new(ProblemKind::Malformed, "bad-frame", "open comes once")
}

fn fault() -> Problem {
    Problem::new(
        ProblemKind::Internal,
        "internal",
        "the verifier has a fault; its log has the cause",
    )
}
