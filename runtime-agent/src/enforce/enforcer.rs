//! Check, hold, act, acknowledge.

use std::{path::PathBuf, time::Instant};

use bootkeep_node::host::boot_ms;
use bootkeep_protocol::{
    limits::clean_text,
    revocation::{Action, Done, Entry, RevocationsCall, RevocationsReply},
    Problem, ProblemKind,
};
use bootkeep_revocation::Accepted;
use bootkeep_signed::VerifyingKeys;
use tokio::sync::{mpsc, oneshot, Mutex, MutexGuard};

use super::{
    actions::{Actions, Occasion},
    clock::Freshness,
    held::Held,
    notices::{self, Notices},
    peers::{Enforced, Peers},
    queue::{self, Job},
    state::State,
    wire::Told,
    EnforceError, EnforceSettings,
};

/// The enforcer of this node.
#[derive(Debug)]
pub(super) struct Enforcer {
    /// Fair: messages are taken in the order they came.
    state: Mutex<State>,
    pub(super) peers: Peers,
    pub(super) actions: Actions,
    pub(super) notices: Notices,
    jobs: mpsc::UnboundedSender<Job>,
    /// Where the revocation list is kept.
    crl: PathBuf,
}

impl Enforcer {
    /// Goes on where the one before ended.
    pub(super) fn load(
        settings: &EnforceSettings,
        keys: VerifyingKeys,
        peers: Peers,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Job>), EnforceError> {
        let boot = settings.files.boot_id().map_err(EnforceError::BootId)?;
        let fresh = Freshness::new(settings.fail_closed_after, &settings.fresh, boot, boot_ms());
        let notices = Notices::new(settings.handover.clone());
        let held = Held::load(&settings.state, keys);
        if held.is_lost() {
            let detail = "the node could not read what it held of the revocation log; it is closed until it holds it again";
            tracing::error!(detail);
            notices.claim(notices::STATE_LOST, "", detail);
        }
        let (jobs, queue) = queue::queue();
        let enforcer = Self {
            state: Mutex::new(State::new(held, fresh, peers.host_name())),
            peers,
            actions: Actions::at(&settings.actions),
            notices,
            jobs,
            crl: settings.crl.clone(),
        };
        Ok((enforcer, queue))
    }

    /// Blocks again what is blocked, and has those actions run again that may not have been run to their end.
    pub(super) async fn begin(&self) {
        let mut state = self.state().await;
        let log = state.held.log();
        if let Err(error) = self.peers.cut_off_again(log.revoked()) {
            tracing::error!(%error, "who is revoked is not blocked yet");
        }
        let occasions: Vec<_> = state
            .held
            .pending()
            .map(|entry| state.occasion(entry))
            .collect();
        tracing::info!(
            sequence = log.position().sequence,
            revoked = log.revoked().count(),
            actions_again = occasions.len(),
            "the revocation log as it was left"
        );
        self.settle(&mut state).await;
        self.peers.set_kept_crl(&self.crl).await;
        self.queue(occasions, None);
    }

    pub(super) async fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().await
    }

    /// Takes one message of the verifier.
    pub(super) async fn take(&self, told: Told) -> Result<RevocationsReply, Problem> {
        let arrived = Instant::now();
        let mut state = self.state().await;
        let accepted = self.check(&state, &told.call)?;
        state.held.learn_node(&told.node_id);
        let acting = !accepted.entries.is_empty() && self.actions.exist();
        let done = self.act(&mut state, &accepted, acting, arrived).await?;
        state.heard(&accepted, boot_ms());
        self.settle(&mut state).await;
        if let Some(crl) = &told.call.crl {
            self.peers.set_crl(crl.as_slice(), &self.crl).await;
        }
        let details = acting.then(|| self.run_actions(&state, &accepted));
        drop(state);
        let details = match details {
            Some(waiting) => waiting.await.map_err(|_| stopping())?,
            None => Vec::new(),
        };
        let mut reply = self.state().await.held.position().reply();
        reply.done = with_details(done, details);
        Ok(reply)
    }

    /// Has the owner's actions run; the receiver hears how they ended.
    fn run_actions(&self, state: &State, accepted: &Accepted) -> oneshot::Receiver<Vec<String>> {
        let occasions = accepted
            .entries
            .iter()
            .map(|entry| state.occasion(entry))
            .collect();
        let (tell, told) = oneshot::channel();
        self.queue(occasions, Some(tell));
        told
    }

    fn check(&self, state: &State, call: &RevocationsCall) -> Result<Accepted, Problem> {
        state.held.check(call).inspect_err(|problem| {
            let refused = self.notices.claim(
                notices::REFUSED,
                &problem.code,
                &format!("{}: {}", problem.code, problem.detail),
            );
            tracing::warn!(
                code = problem.code,
                detail = problem.detail,
                refused,
                "a message about revocations is refused"
            );
        })
    }

    /// Enforces each entry, and meanwhile brings them to disk. What is enforced stays so when the disk refuses: it is not
    /// acknowledged, and comes again.
    async fn act(
        &self,
        state: &mut State,
        accepted: &Accepted,
        acting: bool,
        arrived: Instant,
    ) -> Result<Vec<Done>, Problem> {
        let enforcing = async {
            self.block_first(accepted);
            let mut done = Vec::new();
            for entry in &accepted.entries {
                let how = self.enforce(entry).await;
                done.push(how.done(entry.sequence, arrived));
            }
            done
        };
        let (done, kept) = tokio::join!(enforcing, state.held.write(accepted, acting));
        kept.map_err(|error| {
            tracing::error!(%error, "the revocation log cannot be written");
            not_durable(&error)
        })?;
        state.held.commit(accepted, acting);
        Ok(done)
    }

    /// The last of many must not wait for the IKE daemon to be through with the first.
    fn block_first(&self, accepted: &Accepted) {
        let revoked = accepted
            .entries
            .iter()
            .filter(|entry| entry.action == Action::Revoke);
        if accepted.entries.len() > 1 {
            // What fails here is tried again, and told, one by one.
            let _ = self.peers.cut_off_again(revoked);
        }
    }

    async fn enforce(&self, entry: &Entry) -> Enforced {
        let enforced = self.peers.enforce(entry).await;
        let node = entry.node_id.short();
        tracing::info!(
            sequence = entry.sequence, node, label = entry.label, action = ?entry.action,
            how = ?enforced.how, detail = enforced.detail, "revocation log"
        );
        if enforced.is_failed() {
            let detail = format!("{node}: {}", enforced.detail);
            self.notices.claim(notices::NOT_ENFORCED, node, &detail);
        }
        enforced
    }

    /// An entry's actions are through.
    pub(super) async fn acted(&self, sequence: u64) {
        let mut state = self.state().await;
        if let Err(error) = state.held.acted(sequence).await {
            tracing::error!(%error, "after a restart actions will be run once more");
        }
    }

    pub(super) fn queue(
        &self,
        occasions: Vec<Occasion>,
        done: Option<oneshot::Sender<Vec<String>>>,
    ) {
        // Fails only when the process is ending.
        let _ = self.jobs.send(Job { occasions, done });
    }
}

fn with_details(mut done: Vec<Done>, details: Vec<String>) -> Vec<Done> {
    for (done, detail) in done.iter_mut().zip(details) {
        if !detail.is_empty() {
            done.detail = clean_text(&format!("{}; {detail}", done.detail));
        }
    }
    done
}

fn stopping() -> Problem {
    Problem::new(
        ProblemKind::Unavailable,
        "stopping",
        "the enforcer is being stopped",
    )
}

fn not_durable(error: &std::io::Error) -> Problem {
    let detail = format!("what was enforced could not be written down: {error}");
    Problem::new(ProblemKind::Internal, "not-durable", detail)
}
