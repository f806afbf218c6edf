//! Bringing the log to one node, for as long as its link lives.

use std::{sync::Arc, time::Duration};

use bootkeep_link::Backoff;
use bootkeep_pki::list::RevocationList;
use bootkeep_protocol::{
    limits::REVOCATION_HEARTBEAT_SECONDS,
    link::{Call, Reply},
    revocation::{RevocationsCall, RevocationsReply},
    Phase,
};
use bootkeep_revocation::Position;
use tokio::time::{sleep_until, Instant};

use super::On;
use crate::{
    error::VerifierError,
    fleet::Node,
    link::{CallError, Link},
    service::Verifier,
};

/// Shortest and longest pause after something went wrong.
const PAUSES: (Duration, Duration) = (
    Duration::from_millis(200),
    Duration::from_secs(REVOCATION_HEARTBEAT_SECONDS),
);

/// Why a node did not follow.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Ours(#[from] VerifierError),
    #[error("its acknowledgement has no digest of 32 bytes")]
    Reply,
    #[error("it holds entry {0}, which this verifier does not know: was its database set back? See \"restore\" in docs/revocation.md")]
    Ahead(u64),
    #[error("it holds another entry {0} than this verifier: it follows another log")]
    OtherHistory(u64),
    #[error("it held entry {before} and now says {now}")]
    Backwards { before: u64, now: u64 },
    #[error("it took none of the entries after {0}")]
    Stuck(u64),
}

impl Trouble {
    /// Stable, for counters.
    fn code(&self) -> &str {
        match self {
            Self::Call(CallError::Refused(problem)) => &problem.code,
            Self::Call(_) => "revocation-not-answered",
            Self::Ours(_) => "revocation-internal",
            Self::Reply => "revocation-reply",
            Self::Ahead(_) => "revocation-ahead",
            Self::OtherHistory(_) => "revocation-other-history",
            Self::Backwards { .. } => "revocation-backwards",
            Self::Stuck(_) => "revocation-stuck",
        }
    }
}

/// Tells the node at once of every entry, and of the log's end as a heartbeat. Ends only with the link.
pub(crate) async fn deliver(verifier: Arc<Verifier>, node: Arc<Node>, link: Arc<Link>) {
    if let (Phase::Runtime, Some(on)) = (link.phase, verifier.revocations.on()) {
        let mut delivery = Delivery {
            verifier: &verifier,
            on,
            node: &node,
            link: &link,
            held: None,
            crl: 0,
            said: String::new(),
        };
        delivery.go_on().await;
    }
    std::future::pending::<()>().await;
}

struct Delivery<'a> {
    verifier: &'a Verifier,
    on: &'a On,
    node: &'a Node,
    link: &'a Link,
    /// What the node holds; `None` while it has not said.
    held: Option<Position>,
    /// Number of the CA's list that the node was given.
    crl: u64,
    /// The trouble that was told last.
    said: String,
}

impl Delivery<'_> {
    async fn go_on(&mut self) {
        let mut backoff = Backoff::between(PAUSES.0, PAUSES.1);
        loop {
            self.until_enrolled().await;
            match self.round().await {
                Ok(()) => {
                    backoff.reset();
                    self.said.clear();
                    self.wait().await;
                }
                Err(Trouble::Call(CallError::Ended)) => return,
                Err(trouble) => {
                    self.tell(&trouble);
                    // What the node holds is asked anew.
                    self.held = None;
                    backoff.pause().await;
                }
            }
        }
    }

    async fn until_enrolled(&self) {
        let mut enrolments = self.node.watch_enrolment();
        let fits = |enrolled: &Option<Arc<crate::fleet::Enrolled>>| {
            enrolled
                .as_ref()
                .is_some_and(|enrolled| self.link.fits(enrolled))
        };
        if enrolments.wait_for(fits).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// One call and its acknowledgement.
    async fn round(&mut self) -> Result<(), Trouble> {
        if self.held.is_none() {
            // The node may come from another verifier: what that one told it is to be known here.
            self.on.log.refresh().await?;
        }
        let seen = self.on.log.seen();
        let entries = match self.held {
            Some(held) => self.on.log.after(held.sequence, &seen.end).await?,
            // First only the head: the node says what it holds.
            None => Vec::new(),
        };
        let sent = entries.len();
        let list = self.held.and_then(|_| self.on.lists.after(self.crl));
        let number = list.as_ref().map_or(self.crl, |list| list.number);
        let call = RevocationsCall {
            head: self.on.log.head(&seen)?,
            entries,
            crl: list.map(|list| list.der.as_slice().into()),
        };
        let reply = match self.link.calls.ask(Call::Revocations(call)).await? {
            Reply::Revocations(reply) => reply,
            _ => return Err(CallError::OtherReply.into()),
        };
        let now = self.check(&reply).await?;
        self.on.acks.take(self.node.id(), reply).await;
        self.crl = number;
        match self.held.replace(now) {
            Some(before) if now.sequence < before.sequence => Err(Trouble::Backwards {
                before: before.sequence,
                now: now.sequence,
            }),
            Some(before) if sent > 0 && now == before => Err(Trouble::Stuck(before.sequence)),
            _ => Ok(()),
        }
    }

    /// A node that says it holds an entry must hold ours.
    async fn check(&self, reply: &RevocationsReply) -> Result<Position, Trouble> {
        let position = Position::of_parts(reply.sequence, &reply.digest).ok_or(Trouble::Reply)?;
        if position.sequence > self.on.log.end().sequence {
            // Another verifier may have told it of entries that we have not read yet.
            self.on.log.refresh().await?;
        }
        match self.on.log.digest(position.sequence).await? {
            None => Err(Trouble::Ahead(position.sequence)),
            Some(digest) if digest != position.digest => {
                Err(Trouble::OtherHistory(position.sequence))
            }
            Some(_) => Ok(position),
        }
    }

    /// Until there is something to tell, or the heartbeat is due.
    async fn wait(&self) {
        let held = self.held.map_or(0, |held| held.sequence);
        let mut end = self.on.log.watch();
        let mut lists = self.on.lists.watch();
        let newer = |list: &Option<Arc<RevocationList>>| {
            list.as_ref().is_some_and(|list| list.number > self.crl)
        };
        tokio::select! {
            // The senders live as long as the verifier, which we hold.
            _ = end.wait_for(|end| end.sequence != held) => {}
            _ = lists.wait_for(newer) => {}
            () = sleep_until(Instant::now() + heartbeat()) => {}
        }
    }

    /// One line for each kind of trouble, not for each try.
    fn tell(&mut self, trouble: &Trouble) {
        self.verifier.counters.refused(trouble.code());
        if self.said == trouble.code() {
            return;
        }
        self.said = trouble.code().to_owned();
        tracing::warn!(node = self.node.id().short(), %trouble, "a node does not follow the revocation log");
        self.node.step("revocations-refused", &trouble.to_string());
    }
}

/// Up to a third sooner than the longest pause, so that a fleet does not beat as one.
fn heartbeat() -> Duration {
    let longest = Duration::from_secs(REVOCATION_HEARTBEAT_SECONDS);
    Backoff::between(longest, longest)
        .next_pause()
        .max(longest * 2 / 3)
}
