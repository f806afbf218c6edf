//! From the registered node to the open volume.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use bootkeep_node::{
    session::{event_queue, share_channel, ShareRequest},
    tpm::TpmThread,
};
use bootkeep_protocol::{
    link::{Claim, Event, SharePart, Step},
    NodeId, Problem, ProblemKind, ShareId,
};
use bootkeep_tpkd::{BootstrapKey, Envelope};
use bootkeep_tpm::KeptSlot;
use tokio::{
    sync::mpsc,
    time::{timeout, timeout_at, Instant},
};
use zeroize::Zeroizing;

use crate::{
    contents::Contents,
    giving_up,
    kept::{KeySets, Next, Reunited},
    latch::{latch, LatchedTpm},
    link::Links,
    luks,
    own_key::{Candidates, OwnKey},
    prompt::Prompts,
    rekey::Rekey,
    shares::{Opened, Shares, Taken},
    stages::{Events, Registered, TpmReady},
    Console, GaveUp, KeySocket, Settings,
};

/// How long systemd-cryptsetup may take to open the volume once its key is ready.
const OPEN: Duration = Duration::from_secs(120);
/// How long the last events may take to go out.
const FAREWELL: Duration = Duration::from_secs(5);

/// K is known and its envelope says how the volume is opened.
struct Derived {
    key: BootstrapKey,
    contents: Contents,
    /// Other K of this node, newest first: the volume may still have the key of one of them.
    older: Vec<BootstrapKey>,
    /// The U to be kept for the next boot.
    next: Option<Next>,
}

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
    let deadline = Deadline::of(settings);
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
    let mut collector = Collector {
        shares: Shares::new(node_key, node.clone()),
        node,
        settings,
        tpm: &attester.tpm,
        sets: None,
        reunited: Vec::new(),
        console,
    };
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

/// The deadline of `agent.yaml`, from the agent's start to the shares.
struct Deadline {
    seconds: u64,
    at: Instant,
}

impl Deadline {
    fn of(settings: &Settings) -> Self {
        let seconds = settings.config.deadline_seconds;
        Self {
            seconds,
            at: Instant::now() + Duration::from_secs(seconds),
        }
    }

    async fn keep<T>(&self, work: impl Future<Output = T>, console: &Console) -> Result<T, GaveUp> {
        timeout_at(self.at, work)
            .await
            .map_err(|_| GaveUp::Deadline {
                seconds: self.seconds,
                last: console.last_wait(),
            })
    }
}

struct Collector<'a> {
    shares: Shares,
    node: NodeId,
    settings: &'a Settings,
    tpm: &'a TpmThread,
    /// What came with the last V, and what the TPM's own shares gave with it, newest K set first.
    sets: Option<KeySets>,
    reunited: Vec<Reunited>,
    console: &'a Console,
}

impl Collector<'_> {
    /// Takes shares until the envelope is open and holds the volume's key. After a wrong combination the link is made
    /// anew, so that the verifier appraises and sends its share again.
    async fn collect(
        &mut self,
        mut requests: mpsc::Receiver<ShareRequest>,
        events: &Events,
        reopen: impl Fn(),
    ) -> Result<Derived, GaveUp> {
        self.console.waiting("waiting for the shares of the key");
        loop {
            let Some(request) = requests.recv().await else {
                // The links' task holds the other end for as long as it runs; the deadline ends this wait.
                return std::future::pending().await;
            };
            match self.take(&request).await? {
                Ok(None) => request.answer(Ok(None)),
                Ok(Some((derived, confirmation))) => {
                    let event = Event::Combined {
                        confirmation: confirmation.as_slice().into(),
                    };
                    request.answer(Ok(Some(confirmation.as_slice().into())));
                    let _ = events.0.send(event).await;
                    events.step(Step::Combined).await;
                    return Ok(derived);
                }
                Err(problem) => {
                    self.console.say(&format!("refused: {}", problem.detail));
                    request.answer(Err(problem));
                    reopen();
                }
            }
        }
    }

    async fn take(
        &mut self,
        request: &ShareRequest,
    ) -> Result<Result<Option<(Derived, [u8; 32])>, Problem>, GaveUp> {
        let taken = match self.received(request) {
            Ok(taken) => taken,
            Err(problem) => return Ok(Err(problem)),
        };
        if request.call.part == SharePart::V {
            self.reunite().await?;
        }
        if let Taken::Both(Opened {
            key,
            envelope,
            confirmation,
        }) = taken
        {
            return Ok(self
                .derived(key, &envelope, None)
                .map(|it| Some((it, confirmation))));
        }
        let Some(index) = self.reunited.iter().position(|reunited| reunited.boots) else {
            return Ok(Ok(None));
        };
        let Reunited {
            set,
            id,
            slot,
            key,
            envelope,
            ..
        } = self.reunited.remove(index);
        self.console.say("share U kept by the TPM received");
        let confirmation = key.confirmation(request.call.nonce.as_bytes(), self.node.as_str());
        let derived = self.derived(key, &envelope, Some((set, slot, id)));
        Ok(derived.map(|derived| Some((derived, confirmation))))
    }

    fn received(&mut self, request: &ShareRequest) -> Result<Taken, Problem> {
        let part = match request.call.part {
            SharePart::U => "U of the tenant",
            SharePart::V => "V of the verifier",
        };
        if !request.quoted {
            return Err(Problem::new(
                ProblemKind::Untrusted,
                "share-without-quote",
                format!("share {part} names no quote that this link has given its holder"),
            ));
        }
        let sets = self.shares.key_sets(&request.call)?;
        let taken = self.shares.take(&request.call)?;
        if request.call.part == SharePart::V {
            self.sets = sets;
        }
        self.console.say(&format!("share {part} received"));
        Ok(taken)
    }

    /// Joins what came with V and what the TPM keeps.
    async fn reunite(&mut self) -> Result<(), GaveUp> {
        self.reunited = match &self.sets {
            Some(sets) => {
                sets.reunite(self.settings, self.tpm, &self.node, self.console)
                    .await?
            }
            None => Vec::new(),
        };
        Ok(())
    }

    /// Sorts the envelope; `kept` says where U came from when it was not the tenant's, whose K is the newest.
    fn derived(
        &mut self,
        key: BootstrapKey,
        envelope: &Envelope,
        kept: Option<(usize, KeptSlot, ShareId)>,
    ) -> Result<Derived, Problem> {
        let volume = &self.settings.config.volume;
        let contents = Contents::of(envelope, &self.node, volume).ok_or_else(|| {
            Problem::new(
                ProblemKind::Untrusted,
                "no-luks-key",
                format!("the envelope holds no key for the volume {volume}"),
            )
        })?;
        let set = kept.map_or(0, |(set, _, _)| set);
        let used = kept.map(|(_, slot, id)| (slot, id));
        let next = self
            .sets
            .as_ref()
            .and_then(|sets| sets.next(&key, set, &contents.authorities, used, &self.reunited));
        let older = std::mem::take(&mut self.reunited);
        Ok(Derived {
            key,
            contents,
            older: older.into_iter().map(|reunited| reunited.key).collect(),
            next,
        })
    }
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
    /// on, a volume that a person has opened, and one whose header allows more than the owner's key, takes the hand-over back and the latch's value with it: only the
    /// owner's key tells the owner's volume from another with a copied UUID.
    async fn unlock(
        self,
        settings: &Settings,
        socket: &KeySocket,
        events: &Events,
        console: &Console,
    ) -> Result<(), GaveUp> {
        let keys = self.derived.candidates(&settings.config.volume);
        let (device, used) = match self.open(settings, socket, events, &keys).await {
            Ok(opened) => opened,
            Err(error) => {
                giving_up::close(settings, &self.tpm).await?;
                return Err(error);
            }
        };
        events.step(Step::Unlocked).await;
        console.say(&format!("the volume {} is open", settings.config.volume));
        let Self { derived, tpm, .. } = self;
        if let Err((code, detail)) = derived.renew(settings, &tpm, device, used, events).await {
            // The volume is open and the old share still fits: the next boot tries again.
            console.say(&detail);
            let code = code.to_owned();
            let _ = events.0.send(Event::Claim(Claim { code, detail })).await;
        }
        Ok(())
    }

    /// The device below the volume, and the key that opened it.
    async fn open(
        &self,
        settings: &Settings,
        socket: &KeySocket,
        events: &Events,
        keys: &Candidates,
    ) -> Result<(PathBuf, Zeroizing<Vec<u8>>), GaveUp> {
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
        let below = luks::lower_device(&device, &settings.sys_block, &settings.devices)
            .and_then(|below| luks::check(&below).map(|()| below))
            .map_err(|problem| GaveUp::NotTheOwners {
                volume: volume.clone(),
                problem,
            })?;
        Ok((below, used))
    }
}

impl Derived {
    /// The keys that may open the volume.
    fn candidates(&self, volume: &str) -> Candidates {
        let keys = std::iter::once(&self.key).chain(&self.older);
        Candidates {
            own: keys.map(|key| OwnKey::of(key, volume)).collect(),
            image: self.contents.luks_key.clone(),
        }
    }

    /// Gives the volume its own key and keeps the next U, in this order: the acknowledgement lets go of older K, whose
    /// key the volume must not have any more.
    async fn renew(
        self,
        settings: &Settings,
        tpm: &TpmThread,
        device: PathBuf,
        used: Zeroizing<Vec<u8>>,
        events: &Events,
    ) -> Result<(), (&'static str, String)> {
        if let Some(recovery) = self.contents.own_key {
            let volume = &settings.config.volume;
            let rekey = Rekey {
                cryptsetup: settings.cryptsetup.clone(),
                device,
                used,
                own: OwnKey::of(&self.key, volume),
                recovery: recovery.then(|| self.key.recovery_key(volume)),
                image: self.contents.luks_key.clone(),
            };
            let done = tokio::task::spawn_blocking(move || rekey.run()).await;
            let failed = |error: String| {
                let detail = format!("the volume keeps its old key: {error}");
                ("rekey-failed", detail)
            };
            let changed = done
                .map_err(|error| failed(error.to_string()))?
                .map_err(|error| failed(error.to_string()))?;
            if changed {
                events.step(Step::Rekeyed).await;
            }
        }
        let Some(next) = self.next else { return Ok(()) };
        let id = next.keep(tpm).await.map_err(|error| {
            let detail = format!("the share for the next boot is not renewed: {error}");
            ("share-not-kept", detail)
        })?;
        let _ = events.0.send(Event::ShareKept { id }).await;
        events.step(Step::ShareKept).await;
        Ok(())
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
