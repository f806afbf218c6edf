//! Closes this node to all its peers, and opens it again.

use std::{fmt, sync::Arc, time::Duration};

use bootkeep_node::host::boot_ms;
use tokio::time::{interval, MissedTickBehavior};

use super::{
    actions::Occasion,
    enforcer::Enforcer,
    notices::{NOT_ENFORCED, SELF_REVOKED, STALE},
    state::State,
};

/// Between two looks at the clock. A timer would stand still while the machine sleeps.
const LOOK: Duration = Duration::from_millis(250);

/// How this node stands to its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It speaks with those that are not revoked.
    Open,
    /// Just booted: it waits for the first fresh word, and speaks with nobody.
    Waiting,
    /// No fresh word came in time.
    Stale,
    /// It does not know what is revoked.
    Lost,
    /// It is revoked itself.
    SelfRevoked,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open: peers that are not revoked are spoken with",
            Self::Waiting => "closed: no fresh word of the verifier since boot yet",
            Self::Stale => "closed: no fresh word of the verifier in time",
            Self::Lost => {
                "closed: what was revoked is not known any more, the verifier must tell it again"
            }
            Self::SelfRevoked => "closed: this node is revoked",
        })
    }
}

/// Looks at the clock for ever.
pub(super) async fn watch(enforcer: Arc<Enforcer>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut state = enforcer.state().await;
        enforcer.settle(&mut state).await;
    }
}

impl Enforcer {
    /// Brings the gate to where the node stands now. One that does not move is tried again at the next look.
    pub(super) async fn settle(&self, state: &mut State) {
        let standing = state.standing(boot_ms());
        let before = state.gate.standing.replace(standing);
        if before != Some(standing) {
            self.announce(before, standing);
        }
        let closed = standing != Standing::Open;
        if state.gate.closed == Some(closed) {
            return;
        }
        let moved = match closed {
            true => self.peers.block_all().await,
            false => self.peers.unblock_all().await,
        };
        if !moved.is_failed() {
            state.gate.closed = Some(closed);
            self.notices.over(NOT_ENFORCED);
            tracing::info!(closed, how = ?moved.how, detail = moved.detail, "all peers");
        } else if state.gate.said.news(&moved.detail) {
            tracing::error!(closed, detail = moved.detail, "all peers: trying again");
            self.notices
                .claim(NOT_ENFORCED, "all", &format!("all peers: {}", moved.detail));
        }
    }

    fn announce(&self, before: Option<Standing>, standing: Standing) {
        let detail = standing.to_string();
        match standing {
            Standing::Open | Standing::Waiting => tracing::info!(detail, "this node"),
            _ => tracing::error!(detail, "this node"),
        }
        match standing {
            Standing::Stale => {
                self.notices.claim(STALE, "", &detail);
                self.queue(vec![Occasion::Stale], None);
            }
            Standing::SelfRevoked => drop(self.notices.claim(SELF_REVOKED, "", &detail)),
            _ => {}
        }
        if before == Some(Standing::Stale) {
            self.notices.over(STALE);
            self.queue(vec![Occasion::Fresh], None);
        }
    }
}
