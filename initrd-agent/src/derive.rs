//! From the registered node to the open volume.

use std::{sync::Arc, time::Duration};

use bootkeep_node::{
    session::{event_queue, share_channel},
    tpm::TpmThread,
};
use bootkeep_protocol::link::Step;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::{
    collect::{Collector, Derived},
    contents::Contents,
    deadline::Deadline,
    giving_up,
    latch::{latch, LatchedTpm},
    link::Links,
    luks,
    own_key::Candidates,
    prompt::Prompts,
    renew::{renew, Open},
    shares::Shares,
    stages::{Events, Registered, TpmReady},
    Console, GaveUp, KeySocket, Settings,
};

/// How long systemd-cryptsetup may take to open the volume once its key is ready.
const OPEN: Duration = Duration::from_secs(120);
/// How long the last events may take to go out.
const FAREWELL: Duration = Duration::from_secs(5);

/// Both shares came and the envelope holds the volume's key.
struct Combined {
    derived: Derived,
    tpm: TpmThread,
}

/// PCR 15 is extended: the key may leave the agent.
struct Latched {
    derived: Derived,
    tpm: TpmThread,
    _proof: LatchedTpm,
}

pub(crate) async fn run(
    settings: &Settings,
    socket: &KeySocket,
    console: &Arc<Console>,
) -> Result<(), GaveUp> {
    let deadline = Deadline::of(settings, console);
    let (sender, queue) = event_queue();
    let events = Events(sender);
    let registered = deadline
        .keep(register(settings, &events, console), console)
        .await??;
    let (taker, requests) = share_channel();
    let links = Links::new(settings, &registered, taker, &events, console);
    let reopen = links.reopen();
    let mut link = tokio::spawn(links.keep(queue));
    let Registered {
        attester, node_key, ..
    } = registered;
    let node = attester.identity.node_id.clone();
    let shares = Shares::new(node_key, node.clone());
    let mut collector = Collector::new(shares, node, settings, &attester.tpm, console);
    let result = async {
        let collecting = collector.collect(requests, &events, || reopen.notify_one());
        let derived = deadline.keep(collecting, console).await??;
        let combined = Combined {
            derived,
            tpm: attester.tpm.clone(),
        };
        let latched = combined.latch(settings, &events, console).await?;
        latched.unlock(settings, socket, &events, console).await
    }
    .await;
    drop(events);
    if timeout(FAREWELL, &mut link).await.is_err() {
        link.abort();
    }
    result
}

async fn register(
    settings: &Settings,
    events: &Events,
    console: &Console,
) -> Result<Registered, GaveUp> {
    let ready = TpmReady::reach(settings, events, console).await?;
    let online = ready.online(events, console).await;
    online.register(settings, events, console).await
}

impl Combined {
    /// Extends PCR 15. From here on nothing in this boot can ask for shares again.
    async fn latch(
        self,
        settings: &Settings,
        events: &Events,
        console: &Console,
    ) -> Result<Latched, GaveUp> {
        console.say("the key is there; closing PCR 15 for the rest of this boot");
        let proof = latch(&self.tpm, &settings.config.volume, &self.derived.key).await?;
        events.step(Step::Latched).await;
        Ok(Latched {
            derived: self.derived,
            tpm: self.tpm,
            _proof: proof,
        })
    }
}

impl Latched {
    /// Writes the hand-over, gives the key to systemd-cryptsetup and waits for the volume. Whatever goes wrong from here
    /// on, a volume that a person has opened, and one whose header allows more than the owner's key, takes the hand-over
    /// back and the latch's value with it: only the owner's key tells the owner's volume from another with a copied UUID.
    async fn unlock(
        self,
        settings: &Settings,
        socket: &KeySocket,
        events: &Events,
        console: &Console,
    ) -> Result<(), GaveUp> {
        let keys = self.derived.candidates(&settings.config.volume);
        let open = match self.open(settings, socket, events, &keys).await {
            Ok(open) => open,
            Err(error) => {
                giving_up::close(settings, &self.tpm).await?;
                return Err(error);
            }
        };
        events.step(Step::Unlocked).await;
        console.say(&format!("the volume {} is open", settings.config.volume));
        renew(self.derived, open, settings, &self.tpm, events, console).await;
        Ok(())
    }

    async fn open(
        &self,
        settings: &Settings,
        socket: &KeySocket,
        events: &Events,
        keys: &Candidates,
    ) -> Result<Open, GaveUp> {
        let volume = &settings.config.volume;
        let prompts = Prompts::watch(&settings.ask_password)
            .map_err(GaveUp::io("the folder of systemd's questions"))?;
        hand_over(settings, &self.derived.contents)?;
        let device = settings.device();
        let mut used = Zeroizing::new(Vec::new());
        let key = || {
            used = keys.choose(&settings.sys_block, &settings.devices);
            used.clone()
        };
        let feeding = socket.feed(key, &device, async || {
            events.step(Step::KeyHandedOver).await;
        });
        timeout(OPEN, feeding)
            .await
            .map_err(|_| GaveUp::NotOpened {
                volume: volume.clone(),
                seconds: OPEN.as_secs(),
            })?
            .map_err(GaveUp::io("the key socket"))?;
        let asked = prompts
            .seen()
            .map_err(GaveUp::io("the folder of systemd's questions"))?;
        if asked {
            return Err(GaveUp::OpenedByHand {
                volume: volume.clone(),
            });
        }
        let device = luks::lower_device(&device, &settings.sys_block, &settings.devices)
            .and_then(|below| luks::check(&below).map(|()| below))
            .map_err(|problem| GaveUp::NotTheOwners {
                volume: volume.clone(),
                problem,
            })?;
        Ok(Open { device, used })
    }
}

fn hand_over(settings: &Settings, contents: &Contents) -> Result<(), GaveUp> {
    let write = || {
        settings.handover.prepare()?;
        settings.handover.write("agent.json", &contents.for_agent)?;
        settings
            .handover
            .write("user-data.json", &contents.for_cloud_init)
    };
    write().map_err(GaveUp::io("the hand-over to the booted system"))
}
