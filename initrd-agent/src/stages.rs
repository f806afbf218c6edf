//! The stages up to the registered node.

use std::{sync::Arc, time::Duration};

use bootkeep_link::{Backoff, ClientTls, HttpClient};
use bootkeep_node::{
    host::{boot_ms, network_addresses},
    identity::IdentityError,
    tpm::TpmThread,
    Attester, Identity,
};
use bootkeep_protocol::{
    link::{Event, Step},
    Phase, Role,
};
use bootkeep_tpkd::NodeKey;
use tokio::{sync::mpsc, time::sleep};

use crate::{error::server_ca, latch, Console, GaveUp, Settings};

/// How long the TPM's driver may take to come up.
const TPM_PATIENCE: Duration = Duration::from_secs(30);
/// How often the network is looked at.
const NETWORK_LOOK: Duration = Duration::from_millis(50);

/// Events for the verifier; kept until a link is there.
#[derive(Clone, Debug)]
pub(crate) struct Events(pub(crate) mpsc::Sender<Event>);

impl Events {
    pub(crate) async fn step(&self, step: Step) {
        let at_ms = boot_ms();
        // The queue is gone only when the agent is ending.
        let _ = self.0.send(Event::Progress { step, at_ms }).await;
    }
}

/// The TPM answered, EK, SRK and AK are there, PCR 15 is zero.
#[derive(Debug)]
pub(crate) struct TpmReady {
    tpm: TpmThread,
    identity: Identity,
}

/// There is a network address.
#[derive(Debug)]
pub(crate) struct Online(TpmReady);

/// A registrar knows the AK.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) attester: Attester,
    pub(crate) node_key: NodeKey,
    pub(crate) tls: ClientTls,
}

impl TpmReady {
    pub(crate) async fn reach(
        settings: &Settings,
        events: &Events,
        console: &Console,
    ) -> Result<Self, GaveUp> {
        events.step(Step::Started).await;
        let tpm = TpmThread::open_at(settings.tpm.clone(), TPM_PATIENCE).await?;
        latch::demand_open(&tpm).await?;
        let identity = Identity::load_with(&tpm, settings.config.ak.into()).await?;
        events.step(Step::TpmReady).await;
        console.say(&format!("this node is {}", identity.node_id));
        Ok(Self { tpm, identity })
    }

    pub(crate) async fn online(self, events: &Events, console: &Console) -> Online {
        let addresses = loop {
            let addresses = network_addresses();
            if !addresses.is_empty() {
                break addresses;
            }
            console.waiting("waiting for a network address");
            sleep(NETWORK_LOOK).await;
        };
        console.say(&format!("network: {}", addresses.join(", ")));
        events.step(Step::NetworkUp).await;
        Online(self)
    }
}

impl Online {
    pub(crate) async fn register(
        self,
        settings: &Settings,
        events: &Events,
        console: &Console,
    ) -> Result<Registered, GaveUp> {
        let TpmReady { tpm, identity } = self.0;
        let tls = client_tls(settings)?;
        let client = HttpClient::new(tls.clone(), Role::Registrar);
        let mut backoff = Backoff::default();
        loop {
            match identity
                .register(&tpm, &client, &settings.config.registrar)
                .await
            {
                Ok(_) => break,
                Err(IdentityError::Registrar(error)) if error.is_refusal() => {
                    console.waiting(&format!("refused: the registrar: {error}"));
                }
                Err(IdentityError::Gone(gone)) => return Err(gone.into()),
                Err(error) => console.waiting(&format!("waiting for a registrar: {error}")),
            }
            backoff.pause().await;
        }
        console.say(&format!("registered as {}", identity.node_id.short()));
        events.step(Step::Registered).await;
        Registered::new(settings, tpm, identity, tls)
    }
}

impl Registered {
    fn new(
        settings: &Settings,
        tpm: TpmThread,
        identity: Identity,
        tls: ClientTls,
    ) -> Result<Self, GaveUp> {
        let node_key = NodeKey::generate().map_err(|error| GaveUp::Io {
            what: "the node's transport key",
            source: std::io::Error::other(error),
        })?;
        let attester = Attester {
            tpm,
            identity: Arc::new(identity),
            phase: Phase::Initramfs,
            boot_id: settings
                .files
                .boot_id()
                .map_err(GaveUp::io("the boot id"))?,
            nk_public: node_key.public(),
            files: settings.files.clone(),
        };
        Ok(Self {
            attester,
            node_key,
            tls,
        })
    }
}

fn client_tls(settings: &Settings) -> Result<ClientTls, GaveUp> {
    let path = settings.config.server_ca.clone();
    let pem = std::fs::read(&path).map_err(|source| GaveUp::ServerCa {
        path: path.clone(),
        problem: source.to_string(),
    })?;
    ClientTls::new(&pem).map_err(server_ca(path))
}
