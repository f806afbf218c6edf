//! The part of a node that follows the revocation log, without a kernel to enforce it.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use bootkeep_protocol::{
    link::{Outcome, Reply},
    revocation::{Done, Enforcement, Entry, RevocationsCall, RevocationsReply},
    Problem,
};
use bootkeep_revocation::{Follower, Position};
use bootkeep_signed::VerifyingKeys;

/// Survives its node's links.
#[derive(Clone)]
pub struct Peer(Manner);

#[derive(Clone)]
enum Manner {
    Follows(Arc<Mutex<State>>),
    /// Always says this, or nothing.
    Says(Option<RevocationsReply>),
    /// Asks somebody else.
    Asks(Arc<Ask>),
}

type Ask = dyn Fn(&RevocationsCall) -> Outcome + Send + Sync;

struct State {
    follower: Follower,
    taken: Vec<(Entry, Instant)>,
    calls: Vec<usize>,
    crl: Option<Vec<u8>>,
    refused: Vec<Problem>,
}

impl Peer {
    pub fn new(keys: VerifyingKeys) -> Self {
        Self(Manner::Follows(Arc::new(Mutex::new(State {
            follower: Follower::new(keys),
            taken: Vec::new(),
            calls: Vec::new(),
            crl: None,
            refused: Vec::new(),
        }))))
    }

    /// Never answers.
    pub fn mute() -> Self {
        Self(Manner::Says(None))
    }

    /// Acknowledges what it was never given.
    pub fn liar(reply: RevocationsReply) -> Self {
        Self(Manner::Says(Some(reply)))
    }

    /// Hands every call on; may block.
    pub fn asking(ask: impl Fn(&RevocationsCall) -> Outcome + Send + Sync + 'static) -> Self {
        Self(Manner::Asks(Arc::new(ask)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        match &self.0 {
            Manner::Follows(state) => state.lock().unwrap(),
            Manner::Says(_) | Manner::Asks(_) => panic!("this one follows nothing"),
        }
    }

    pub fn answer(&self, call: &RevocationsCall) -> Option<Outcome> {
        let started = Instant::now();
        let mut state = match &self.0 {
            Manner::Follows(state) => state.lock().unwrap(),
            Manner::Says(reply) => return reply.clone().map(Reply::Revocations).map(Outcome::Ok),
            Manner::Asks(ask) => return Some(ask(call)),
        };
        state.calls.push(call.entries.len());
        let accepted = match state.follower.check(call) {
            Ok(accepted) => accepted,
            Err(error) => {
                let problem = Problem::from(&error);
                state.refused.push(problem.clone());
                return Some(Outcome::Refused(problem));
            }
        };
        if let Some(crl) = &call.crl {
            state.crl = Some(crl.0.clone());
        }
        state.follower = accepted.next;
        let mut reply = state.follower.position().reply();
        for entry in accepted.entries {
            reply.done.push(Done {
                sequence: entry.sequence,
                outcome: Enforcement::NothingToDo,
                took_us: u64::try_from(started.elapsed().as_micros()).unwrap(),
                detail: "no kernel here".into(),
            });
            state.taken.push((entry, Instant::now()));
        }
        Some(Outcome::Ok(Reply::Revocations(reply)))
    }

    pub fn position(&self) -> Position {
        *self.state().follower.position()
    }

    /// Entries in the order in which they were taken, and when.
    pub fn taken(&self) -> Vec<(Entry, Instant)> {
        self.state().taken.clone()
    }

    /// How many entries each call carried.
    pub fn calls(&self) -> Vec<usize> {
        self.state().calls.clone()
    }

    pub fn crl(&self) -> Option<Vec<u8>> {
        self.state().crl.clone()
    }

    pub fn refused(&self) -> Vec<Problem> {
        self.state().refused.clone()
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        for _ in 0..6000 {
            if so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!(
            "not {what}: {:?}, refused {:?}",
            self.position(),
            self.refused()
        );
    }

    /// Waits until so many entries are held.
    pub async fn holds(&self, sequence: u64) {
        let so = |peer: &Self| peer.position().sequence >= sequence;
        self.until(&format!("at entry {sequence}"), so).await;
    }
}
