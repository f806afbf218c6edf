//! The daemon: one link, its answers, and what it tells without being asked.

use std::{future::Future, sync::Arc, time::Duration};

use bootkeep_link::ClientTls;
use bootkeep_node::{
    host::boot_ms,
    session::{event_queue, keep_channel, revocation_channel, RevocationsRequest},
    tpm::TpmThread,
    AgentConfig, Attester, Identity,
};
use bootkeep_protocol::{
    link::{Event, Step},
    Phase,
};
use bootkeep_tpkd::NodeKey;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{
    boot_files, claims, ima, keep::Keeper, link::Links, relay, AgentError, Settings, Supervisor,
};

/// How long the TPM's driver may take to come up.
const TPM_PATIENCE: Duration = Duration::from_secs(30);
/// How long the last events may take to go out.
const FAREWELL: Duration = Duration::from_secs(5);

/// Attests until `stop`, then sends what is left and closes the link.
///
/// # Errors
/// [`AgentError`]: why it cannot attest. A verifier that is away or refuses is no error: it is dialled again and again.
pub async fn run(
    settings: &Settings,
    supervisor: &Supervisor,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let tls = client_tls(&settings.config)?;
    let node_key = NodeKey::generate()?;
    let attester = attester(settings, node_key.public()).await?;
    tracing::info!(node = %attester.identity.node_id, boot = %attester.boot_id, "attesting");
    let (events, queue) = event_queue();
    let (linked, is_linked) = watch::channel(false);
    let (revocations, relay) = relay(settings, &attester.identity);
    let (keeps, kept) = keep_channel();
    let keeper = Keeper {
        node_key,
        node_id: attester.identity.node_id.clone(),
        tpm: attester.tpm.clone(),
    };
    let links = Links {
        attester,
        tls,
        urls: settings.config.verifier.clone(),
        linked,
        revocations,
        keeps,
    };
    let mut link = std::pin::pin!(links.keep(queue));
    let mut observers = observe(settings, supervisor, events, is_linked);
    observers.spawn(relay);
    observers.spawn(keeper.run(kept));
    supervisor.ready("Attesting");
    tokio::select! {
        ended = &mut link => return Ok(ended?),
        () = stop => {}
    }
    supervisor.stopping();
    // Every sender of events goes with them; the link then sends what is left and ends.
    observers.shutdown().await;
    let _ = timeout(FAREWELL, link).await;
    Ok(())
}

fn client_tls(config: &AgentConfig) -> Result<ClientTls, AgentError> {
    let pem = std::fs::read(&config.server_ca).map_err(|source| AgentError::ServerCa {
        path: config.server_ca.clone(),
        source,
    })?;
    Ok(ClientTls::new(&pem)?)
}

async fn attester(settings: &Settings, nk_public: [u8; 32]) -> Result<Attester, AgentError> {
    let tpm = TpmThread::open_at(settings.tpm.clone(), TPM_PATIENCE).await?;
    let identity = Identity::load_with(&tpm, settings.config.ak.into()).await?;
    Ok(Attester {
        tpm,
        identity: Arc::new(identity),
        phase: Phase::Runtime,
        boot_id: settings.files.boot_id().map_err(AgentError::BootId)?,
        nk_public,
        files: settings.files.clone(),
    })
}

/// The relay to the enforcer, and where it takes from; nothing is taken when the configuration has no `revocation`.
fn relay(
    settings: &Settings,
    identity: &Identity,
) -> (
    Option<mpsc::Sender<RevocationsRequest>>,
    impl Future<Output = ()>,
) {
    let (revocations, requests) = revocation_channel();
    let wanted = settings.config.revocation.is_some();
    if !wanted {
        tracing::warn!("agent.yaml has no `revocation`: this node takes no revocations");
    }
    let socket = settings.enforcer.clone();
    let relay = relay::run(socket, identity.node_id.clone(), requests);
    (wanted.then_some(revocations), relay)
}

fn observe(
    settings: &Settings,
    supervisor: &Supervisor,
    events: mpsc::Sender<Event>,
    linked: watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut observers = JoinSet::new();
    let took_over = Event::Progress {
        step: Step::RuntimeTookOver,
        at_ms: boot_ms(),
    };
    // The queue is new and empty: there is room.
    let _ = events.try_send(took_over);
    observers.spawn(ima::watch(settings.files.clone(), events.clone()));
    let boot_files =
        boot_files::report(settings.boot_files.clone(), events.clone(), linked.clone());
    observers.spawn(boot_files);
    observers.spawn(claims::forward(settings.handover.clone(), events, linked));
    observers.spawn(supervisor.clone().keep_alive());
    observers
}
