//! The enforcer: takes what the verifier says of revocations, holds it, acts on it, and acknowledges it.
//!
//! It runs apart from the daemon: it may change the kernel's IPsec and run the owner's actions, so it has no network, and the
//! daemon, which has one, has no rights. The daemon only relays; here every signature, the order of the log and the
//! freshness of its head are checked.
//!
//! | module | what |
//! |---|---|
//! | [`wire`] | one JSON line each way, over `/run/bootkeep-enforce/socket` |
//! | [`actions`] | the owner's drop-ins in `/etc/bootkeep/actions.d` |
//! | `enforcer` | check, hold, act, acknowledge |
//! | `held`, `keep` | what is held of the log, on disk before it is acknowledged |
//! | `queue` | the owner's actions, apart from what must not wait for them |
//! | `clock` | whether the verifier's word is fresh, by a clock that nobody sets |
//! | `gate` | closes the node to all peers when it is not, and opens it again |
//! | `peers` | IPsec, through `bootkeep-ipsec` |
//! | [`check`] | says which of the node's files are bad |

pub mod actions;
pub mod check;
mod clock;
mod enforcer;
mod gate;
mod held;
mod keep;
mod notices;
mod peers;
mod queue;
mod settings;
mod socket;
mod state;
pub mod wire;

use std::{future::Future, io, path::PathBuf, sync::Arc};

use bootkeep_signed::{SignedError, VerifyingKeys};
use tokio::task::JoinSet;

use crate::Supervisor;
use enforcer::Enforcer;
use peers::Peers;

pub use peers::PeersError;
pub use settings::EnforceSettings;

/// Why the enforcer cannot work. systemd starts it again.
#[derive(Debug, thiserror::Error)]
pub enum EnforceError {
    /// No usable configuration.
    #[error(transparent)]
    Config(#[from] bootkeep_node::config::ConfigError),
    /// The keys are missing.
    #[error(
        "cannot read {path}: {source}; install `node/revocation.pem` that `bootkeep init` wrote"
    )]
    ReadKeys {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The keys are none.
    #[error("{path}: {source}")]
    Keys {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: SignedError,
    },
    /// The node's IPsec group or certificate is no good.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The kernel gives no boot id.
    #[error("the boot id cannot be read: {0}")]
    BootId(io::Error),
    /// The socket cannot be made.
    #[error("{path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Enforces until `stop`.
///
/// That nothing of the group goes in clear comes first, and holds when this fails later; what is revoked is blocked again
/// before systemd hears that this service is up.
///
/// # Errors
/// [`EnforceError`]: why it cannot. A missing IKE daemon is no error: the kernel blocks then.
pub async fn run(
    settings: &EnforceSettings,
    supervisor: &Supervisor,
    stop: impl Future<Output = ()>,
) -> Result<(), EnforceError> {
    let peers = Peers::load(&settings.ipsec, &settings.identity)?;
    peers.guard();
    let keys = keys(&settings.keys)?;
    let (enforcer, queue) = Enforcer::load(settings, keys, peers)?;
    let enforcer = Arc::new(enforcer);
    enforcer.begin().await;
    let listener = socket::listen(&settings.socket).map_err(|source| EnforceError::Socket {
        path: settings.socket.clone(),
        source,
    })?;
    let mut work = JoinSet::new();
    work.spawn(peers::watch(Arc::clone(&enforcer)));
    work.spawn(queue::run(queue, Arc::clone(&enforcer)));
    work.spawn(gate::watch(Arc::clone(&enforcer)));
    work.spawn(socket::serve(listener, enforcer));
    work.spawn(supervisor.clone().keep_alive());
    supervisor.ready("Enforcing revocations");
    stop.await;
    supervisor.stopping();
    work.shutdown().await;
    Ok(())
}

/// Waits for `stop`: this node takes no revocations.
pub async fn idle(supervisor: &Supervisor, stop: impl Future<Output = ()>) {
    tracing::warn!("agent.yaml has no `revocation`: this node takes no revocations");
    let alive = tokio::spawn(supervisor.clone().keep_alive());
    supervisor.ready("Off: agent.yaml has no `revocation`");
    stop.await;
    alive.abort();
    supervisor.stopping();
}

fn keys(path: &std::path::Path) -> Result<VerifyingKeys, EnforceError> {
    let pem = std::fs::read_to_string(path).map_err(|source| EnforceError::ReadKeys {
        path: path.into(),
        source,
    })?;
    VerifyingKeys::from_pem(&pem).map_err(|source| EnforceError::Keys {
        path: path.into(),
        source,
    })
}
