//! What goes between a session and the agent round it.

use bootkeep_protocol::{
    kept::KeepCall,
    link::{Event, ShareCall},
    revocation::{RevocationsCall, RevocationsReply},
    Bytes, Problem, EXPORTER_LEN,
};
use tokio::sync::{mpsc, oneshot};

/// Events that wait for a link; a sender waits when there are more.
const EVENTS: usize = 256;
/// Shares that wait to be taken; more are refused as busy.
const SHARES: usize = 4;
/// Messages about revocations that wait to be taken; more are refused as busy.
const REVOCATIONS: usize = 4;
/// Shares for the next boot that wait to be taken; more are refused as busy.
const KEEPS: usize = 2;

/// A share that came over the link.
#[derive(Debug)]
pub struct ShareRequest {
    /// The share, wrapped to this node's transport key.
    pub call: ShareCall,
    /// TLS exporter of the link it came over: part of the wrapping's context.
    pub exporter: [u8; EXPORTER_LEN],
    /// Whether this link has given the share's holder a quote with the nonce the share names.
    pub quoted: bool,
    pub(super) done: oneshot::Sender<Result<Option<Bytes>, Problem>>,
}

impl ShareRequest {
    /// Answers: taken, with the confirmation of K once both shares are there; or refused.
    pub fn answer(self, outcome: Result<Option<Bytes>, Problem>) {
        // Nobody waits when the link has ended.
        let _ = self.done.send(outcome);
    }
}

/// A channel for shares.
#[must_use]
pub fn share_channel() -> (mpsc::Sender<ShareRequest>, mpsc::Receiver<ShareRequest>) {
    mpsc::channel(SHARES)
}

/// What the verifier says of revocations. Nothing of it was checked.
#[derive(Debug)]
pub struct RevocationsRequest {
    /// As it came.
    pub call: RevocationsCall,
    pub(super) done: oneshot::Sender<Result<RevocationsReply, Problem>>,
}

impl RevocationsRequest {
    /// Answers: held and acted on; or refused.
    pub fn answer(self, outcome: Result<RevocationsReply, Problem>) {
        // Nobody waits when the link has ended.
        let _ = self.done.send(outcome);
    }
}

/// A channel for revocations.
#[must_use]
pub fn revocation_channel() -> (
    mpsc::Sender<RevocationsRequest>,
    mpsc::Receiver<RevocationsRequest>,
) {
    mpsc::channel(REVOCATIONS)
}

/// A share U for the next boot. The session has seen to it that it follows a quote the tenant was given over this link.
#[derive(Debug)]
pub struct KeepRequest {
    /// The share, wrapped to this node's transport key.
    pub call: KeepCall,
    pub(super) done: oneshot::Sender<Result<(), Problem>>,
}

impl KeepRequest {
    /// Answers: it is in the TPM; or refused.
    pub fn answer(self, outcome: Result<(), Problem>) {
        // Nobody waits when the link has ended.
        let _ = self.done.send(outcome);
    }
}

/// A channel for shares of the next boot.
#[must_use]
pub fn keep_channel() -> (mpsc::Sender<KeepRequest>, mpsc::Receiver<KeepRequest>) {
    mpsc::channel(KEEPS)
}

/// Events on their way to the verifier, across sessions: one that was not sent is sent over the next link.
#[derive(Debug)]
pub struct EventQueue {
    receiver: mpsc::Receiver<Event>,
    first: Option<Event>,
}

/// A queue of events. Once every sender is gone and the queue is empty, the session ends.
#[must_use]
pub fn event_queue() -> (mpsc::Sender<Event>, EventQueue) {
    let (sender, receiver) = mpsc::channel(EVENTS);
    let queue = EventQueue {
        receiver,
        first: None,
    };
    (sender, queue)
}

impl EventQueue {
    /// The first event, which stays in the queue. Cancel safe.
    pub(super) async fn peek(&mut self) -> Option<Event> {
        if self.first.is_none() {
            self.first = self.receiver.recv().await;
        }
        self.first.clone()
    }

    /// The first event was sent.
    pub(super) fn sent(&mut self) {
        self.first = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_event_stays_until_it_was_sent() {
        let (events, mut queue) = event_queue();
        for count in [1, 2] {
            assert!(events.send(Event::ImaGrew { count }).await.is_ok());
        }
        drop(events);
        assert_eq!(queue.peek().await, Some(Event::ImaGrew { count: 1 }));
        assert_eq!(queue.peek().await, Some(Event::ImaGrew { count: 1 }));
        queue.sent();
        assert_eq!(queue.peek().await, Some(Event::ImaGrew { count: 2 }));
        queue.sent();
        assert_eq!(queue.peek().await, None);
    }
}
