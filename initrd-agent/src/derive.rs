//! From the registered node to the open volume.

use std::{future::Future, sync::Arc, time::Duration};

use bootkeep_node::{
    session::{event_queue, share_channel, ShareRequest},
    tpm::TpmThread,
};
use bootkeep_protocol::{
    link::{Event, SharePart, Step},
    NodeId, Problem, ProblemKind,
};
use tokio::{
    sync::mpsc,
    time::{timeout, timeout_at, Instant},
};

use crate::{
    contents::Contents,
    giving_up,
    latch::{latch, LatchedTpm},
    link::Links,
    luks,
    prompt::Prompts,
    shares::{Opened, Shares, Taken},
    stages::{Events, Registered, TpmReady},
    Console, GaveUp, KeySocket, Settings,
};

/// How long systemd-cryptsetup may take to open the volume once its key is ready.
const OPEN: Duration = Duration::from_secs(120);
/// How long the last events may take to go out.
const FAREWELL: Duration = Duration::from_secs(5);

/// Both shares came and the envelope holds the volume's key.
struct Combined {
    contents: Contents,
    tpm: TpmThread,
}

/// PCR 15 is extended: the key may leave the agent.
struct Latched {
    contents: Contents,
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
        volume: &settings.config.volume,
        console,
    };
    let result = async {
        let collecting = collector.collect(requests, &events, || reopen.notify_one());
        let contents = deadline.keep(collecting, console).await?;
        let combined = Combined {
            contents,
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
    volume: &'a str,
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
    ) -> Contents {
        self.console.waiting("waiting for the shares of the key");
        loop {
            let Some(request) = requests.recv().await else {
                // The links' task holds the other end for as long as it runs; the deadline ends this wait.
                return std::future::pending().await;
            };
            match self.take(&request) {
                Ok(None) => request.answer(Ok(None)),
                Ok(Some((contents, confirmation))) => {
                    let event = Event::Combined {
                        confirmation: confirmation.as_slice().into(),
                    };
                    request.answer(Ok(Some(confirmation.as_slice().into())));
                    let _ = events.0.send(event).await;
                    events.step(Step::Combined).await;
                    return contents;
                }
                Err(problem) => {
                    self.console.say(&format!("refused: {}", problem.detail));
                    request.answer(Err(problem));
                    reopen();
                }
            }
        }
    }

    fn take(&mut self, request: &ShareRequest) -> Result<Option<(Contents, [u8; 32])>, Problem> {
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
        let taken = self.shares.take(&request.call)?;
        self.console.say(&format!("share {part} received"));
        let Taken::Both(Opened {
            envelope,
            confirmation,
        }) = taken
        else {
            return Ok(None);
        };
        match Contents::of(&envelope, &self.node, self.volume) {
            Some(contents) => Ok(Some((contents, confirmation))),
            None => Err(Problem::new(
                ProblemKind::Untrusted,
                "no-luks-key",
                format!("the envelope holds no key for the volume {}", self.volume),
            )),
        }
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
        let proof = latch(&self.tpm, &settings.config.volume, &self.contents.luks_key).await?;
        events.step(Step::Latched).await;
        Ok(Latched {
            contents: self.contents,
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
        let opened = self.open(settings, socket, events).await;
        if opened.is_err() {
            giving_up::close(settings, &self.tpm).await?;
            return opened;
        }
        events.step(Step::Unlocked).await;
        console.say(&format!("the volume {} is open", settings.config.volume));
        Ok(())
    }

    async fn open(
        &self,
        settings: &Settings,
        socket: &KeySocket,
        events: &Events,
    ) -> Result<(), GaveUp> {
        let volume = &settings.config.volume;
        let prompts = Prompts::watch(&settings.ask_password)
            .map_err(GaveUp::io("the folder of systemd's questions"))?;
        hand_over(settings, &self.contents)?;
        let device = settings.device();
        let feeding = socket.feed(&self.contents.luks_key, &device, async || {
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
        luks::lower_device(&device, &settings.sys_block, &settings.devices)
            .and_then(|below| luks::check(&below))
            .map_err(|problem| GaveUp::NotTheOwners {
                volume: volume.clone(),
                problem,
            })
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
