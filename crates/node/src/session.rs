//! One link from its opening to its end.
//!
//! [`Session::open`] dials, shows that the node holds its AK, and waits for the verifier's word;
//! [`Session::serve`] then answers calls and sends events until the link ends. Quotes and activations are answered here;
//! shares and revocations go to whoever holds the other end of a channel.
//!
//! ```no_run
//! # use bootkeep_link::{Backoff, ClientTls};
//! # use bootkeep_node::{session::{event_queue, share_channel, Ended, OpenError, Session}, Attester};
//! # use bootkeep_protocol::link::{Event, Step};
//! # async fn run(attester: &Attester, tls: &ClientTls, urls: &[String]) {
//! let (events, mut queue) = event_queue();          // events outlive a broken link
//! let (shares, mut taken) = share_channel();
//! tokio::spawn(async move {
//!     while let Some(request) = taken.recv().await {
//!         // unwrap request.call; once K is known: Ok(Some(confirmation))
//!         request.answer(Ok(None));
//!     }
//! });
//! let mut backoff = Backoff::default();
//! loop {
//!     match Session::open(attester, tls, urls).await {
//!         Ok(session) => {
//!             backoff.reset();
//!             let _ = events.send(Event::Progress { step: Step::Linked, at_ms: 0 }).await;
//!             match session.serve(Some(&shares), &mut queue).await {
//!                 Ended::Done => return,            // every sender of events is gone and all were sent
//!                 Ended::Refused(problem) => eprintln!("bootkeep: refused: {problem}"),
//!                 ended => eprintln!("bootkeep: {ended}"),
//!             }
//!         }
//!         Err(OpenError::Refused(problem)) => eprintln!("bootkeep: refused: {problem}"),
//!         Err(error) => eprintln!("bootkeep: {error}"),
//!     }
//!     backoff.pause().await;
//! }
//! # }
//! ```

mod answer;
mod channels;

use std::{fmt, time::Duration};

use bootkeep_link::{dial, ClientTls, LinkError, LinkReceiver, LinkSender};
use bootkeep_protocol::{
    limits::{CALL_SECONDS, HANDSHAKE_SECONDS, LINK_OPEN_SECONDS},
    link::{Event, NodeFrame, Outcome, ServerFrame, LINK_VERSION},
    Nonce, Problem, ProblemKind, EXPORTER_LEN,
};
use futures_util::{stream::FuturesUnordered, StreamExt};
use tokio::{sync::mpsc, time::timeout};

use crate::{attester::AttestError, Attester};
use answer::{answer, Given, Takers};

pub use channels::{
    event_queue, keep_channel, revocation_channel, share_channel, EventQueue, KeepRequest,
    RevocationsRequest, ShareRequest,
};

/// Calls answered at the same time; more are refused as busy.
const MAX_CALLS: usize = 16;

/// An accepted link.
#[derive(Debug)]
pub struct Session<'a> {
    attester: &'a Attester,
    exporter: [u8; EXPORTER_LEN],
    sender: LinkSender,
    receiver: LinkReceiver,
    revocations: Option<mpsc::Sender<RevocationsRequest>>,
    keeps: Option<mpsc::Sender<KeepRequest>>,
}

/// Why a link was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The verifier does not take this node, or not now.
    #[error("refused by the verifier: {0}")]
    Refused(Problem),
    /// No verifier could be reached, or the link broke.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The TPM gave no quote.
    #[error("no quote for the link: {0}")]
    Attest(#[from] AttestError),
    /// The verifier did not speak in time.
    #[error("the verifier said nothing for {0} s")]
    Slow(u64),
    /// The verifier closed the link without a word.
    #[error("the verifier closed the link without a word")]
    Closed,
    /// The verifier speaks another version of the link.
    #[error("the verifier speaks version {0} of the link, this node {LINK_VERSION}; bring both to one release")]
    Version(u32),
    /// A frame out of turn.
    #[error("the verifier sent a frame out of turn")]
    OutOfTurn,
}

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// Every sender of events is gone, all events were sent, the link was closed by us.
    Done,
    /// The verifier closed the link, without a reason: it restarts, or the link moved.
    Closed,
    /// The verifier refused the node, with its reason.
    Refused(Problem),
    /// The link broke, or the verifier did not keep to the protocol.
    Broken(LinkError),
    /// The verifier sent a frame out of turn.
    OutOfTurn,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("the link is closed: everything was sent"),
            Self::Closed => f.write_str("the verifier closed the link"),
            Self::Refused(problem) => write!(f, "refused by the verifier: {problem}"),
            Self::Broken(error) => write!(f, "{error}"),
            Self::OutOfTurn => f.write_str("the verifier sent a frame out of turn"),
        }
    }
}

impl<'a> Session<'a> {
    /// Dials the verifiers and opens a link with the first that answers.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        attester: &'a Attester,
        tls: &ClientTls,
        urls: &[String],
    ) -> Result<Self, OpenError> {
        let end = dial(tls, urls).await?;
        let exporter = *end.exporter();
        let (sender, receiver) = end.split();
        let mut session = Self {
            attester,
            exporter,
            sender,
            receiver,
            revocations: None,
            keeps: None,
        };
        let nonce = session.hello().await?;
        let open = attester.open(&nonce, &exporter).await?;
        // A verifier that refuses may have closed before it read this: its reason is what counts.
        let sent = session.sender.send(&NodeFrame::Open(open)).await;
        match session.verdict().await {
            Err(OpenError::Closed) if sent.is_err() => Err(LinkError::Ended.into()),
            verdict => verdict.map(|()| session),
        }
    }

    async fn hello(&mut self) -> Result<Nonce, OpenError> {
        match self.opening_frame(HANDSHAKE_SECONDS).await? {
            ServerFrame::Hello { version, nonce } if version == LINK_VERSION => Ok(nonce),
            ServerFrame::Hello { version, .. } => Err(OpenError::Version(version)),
            ServerFrame::Refused { problem } => Err(OpenError::Refused(problem)),
            _ => Err(OpenError::OutOfTurn),
        }
    }

    async fn verdict(&mut self) -> Result<(), OpenError> {
        match self.opening_frame(LINK_OPEN_SECONDS).await? {
            ServerFrame::Accepted {} => Ok(()),
            ServerFrame::Refused { problem } => Err(OpenError::Refused(problem)),
            _ => Err(OpenError::OutOfTurn),
        }
    }

    async fn opening_frame(&mut self, seconds: u64) -> Result<ServerFrame, OpenError> {
        timeout(Duration::from_secs(seconds), self.receiver.next())
            .await
            .map_err(|_| OpenError::Slow(seconds))??
            .ok_or(OpenError::Closed)
    }

    /// The TLS exporter every quote over this link is bound to.
    #[must_use]
    pub fn exporter(&self) -> &[u8; EXPORTER_LEN] {
        &self.exporter
    }

    /// Lets what the verifier says of revocations go to this channel. Without one it is refused: the initramfs takes none.
    #[must_use]
    pub fn taking_revocations(mut self, revocations: &mpsc::Sender<RevocationsRequest>) -> Self {
        self.revocations = Some(revocations.clone());
        self
    }

    /// Lets shares for the next boot go to this channel. Without one they are refused: the initramfs takes none.
    #[must_use]
    pub fn taking_keeps(mut self, keeps: &mpsc::Sender<KeepRequest>) -> Self {
        self.keeps = Some(keeps.clone());
        self
    }

    /// Serves the link until it ends. Without a channel for shares they are refused: the running system takes none.
    ///
    /// An event whose sending failed stays in the queue for the next session.
    pub async fn serve(
        mut self,
        shares: Option<&mpsc::Sender<ShareRequest>>,
        events: &mut EventQueue,
    ) -> Ended {
        let ended = self.work(shares, events).await;
        if matches!(ended, Ended::Done | Ended::OutOfTurn) {
            self.sender.close().await;
        }
        ended
    }

    async fn work(
        &mut self,
        shares: Option<&mpsc::Sender<ShareRequest>>,
        events: &mut EventQueue,
    ) -> Ended {
        let (attester, exporter) = (self.attester, self.exporter);
        let given = Given::default();
        let given = &given;
        let (revocations, keeps) = (self.revocations.clone(), self.keeps.clone());
        let takers = Takers {
            shares,
            revocations: revocations.as_ref(),
            keeps: keeps.as_ref(),
        };
        let mut calls = FuturesUnordered::new();
        let mut all_told = false;
        loop {
            // Whoever was promised an answer gets it: the tenant waits for what became of its share.
            if all_told && calls.is_empty() {
                return Ended::Done;
            }
            tokio::select! {
                frame = self.receiver.next(), if !all_told => match frame {
                    Ok(Some(ServerFrame::Request { id, .. })) if calls.len() >= MAX_CALLS => {
                        if let Err(error) = self.reply(id, Outcome::Refused(busy())).await {
                            return self.why(error).await;
                        }
                    }
                    Ok(Some(ServerFrame::Request { id, call })) => calls.push(async move {
                        let answered = answer(attester, &exporter, given, takers, call);
                        let outcome = timeout(Duration::from_secs(CALL_SECONDS), answered).await;
                        (id, outcome.unwrap_or_else(|_| Outcome::Refused(too_slow())))
                    }),
                    Ok(Some(ServerFrame::Refused { problem })) => return Ended::Refused(problem),
                    Ok(Some(_)) => return Ended::OutOfTurn,
                    Ok(None) => return Ended::Closed,
                    Err(error) => return Ended::Broken(error),
                },
                Some((id, outcome)) = calls.next() => {
                    if let Err(error) = self.reply(id, outcome).await {
                        return self.why(error).await;
                    }
                }
                event = events.peek(), if !all_told => {
                    let Some(event) = event else {
                        all_told = true;
                        continue;
                    };
                    if let Err(error) = self.tell(event).await {
                        return self.why(error).await;
                    }
                    events.sent();
                }
            }
        }
    }

    async fn reply(&self, id: u64, outcome: Outcome) -> Result<(), LinkError> {
        if let Outcome::Refused(problem) = &outcome {
            tracing::warn!(code = %problem.code, detail = %problem.detail, "call refused");
        }
        match self.sender.send(&NodeFrame::Reply { id, outcome }).await {
            Err(LinkError::TooLarge(limit)) => {
                let detail = format!("the answer is over the {limit} bytes of a frame");
                let problem = Problem::new(ProblemKind::TooLarge, "answer-too-large", detail);
                let outcome = Outcome::Refused(problem);
                self.sender.send(&NodeFrame::Reply { id, outcome }).await
            }
            other => other,
        }
    }

    async fn tell(&self, event: Event) -> Result<(), LinkError> {
        self.sender.send(&NodeFrame::Event { event }).await
    }

    /// A frame could not be sent: what has come in says why.
    async fn why(&mut self, error: LinkError) -> Ended {
        loop {
            match self.receiver.next().await {
                Ok(Some(ServerFrame::Refused { problem })) => return Ended::Refused(problem),
                Ok(Some(_)) => {}
                Ok(None) if matches!(error, LinkError::Ended) => return Ended::Closed,
                Ok(None) => return Ended::Broken(error),
                Err(reason) => return Ended::Broken(reason),
            }
        }
    }
}

fn busy() -> Problem {
    let detail = format!("{MAX_CALLS} calls are being answered already");
    Problem::new(ProblemKind::Busy, "busy", detail)
}

fn too_slow() -> Problem {
    let detail = format!("the node found no answer in {CALL_SECONDS} s");
    Problem::new(ProblemKind::Unavailable, "too-slow", detail)
}
