//! Both shares, from whoever holds them, until K is known and the volume's key with it.

use bootkeep_node::{session::ShareRequest, tpm::TpmThread};
use bootkeep_protocol::{
    link::{Event, SharePart, Step},
    NodeId, Problem, ProblemKind, ShareId,
};
use bootkeep_tpkd::{BootstrapKey, Envelope};
use bootkeep_tpm::KeptSlot;
use tokio::sync::mpsc;

use crate::{
    contents::Contents,
    kept::{KeySets, Next, Reunited},
    own_key::{Candidates, OwnKey},
    shares::{Opened, Shares, Taken},
    stages::Events,
    Console, GaveUp, Settings,
};

/// K is known and its envelope says how the volume is opened.
pub(crate) struct Derived {
    pub(crate) key: BootstrapKey,
    pub(crate) contents: Contents,
    /// Other K of this node, newest first: the volume may still have the key of one of them.
    pub(crate) older: Vec<BootstrapKey>,
    /// The U to be kept for the next boot.
    pub(crate) next: Option<Next>,
}

impl Derived {
    /// The keys that may open the volume.
    pub(crate) fn candidates(&self, volume: &str) -> Candidates {
        let keys = std::iter::once(&self.key).chain(&self.older);
        Candidates {
            own: keys.map(|key| OwnKey::of(key, volume)).collect(),
            image: self.contents.luks_key.clone(),
        }
    }
}

/// A K that is known while the volume has a key of another one.
struct Pending {
    key: BootstrapKey,
    envelope: Envelope,
    /// Where U came from when it was not the tenant's, whose K is the newest.
    kept: Option<(usize, KeptSlot, ShareId)>,
}

/// What one share led to.
enum Outcome {
    /// The other one is missing.
    Waiting,
    /// K is known and opens the envelope; there is a confirmation to give, once.
    Known {
        confirmation: Option<[u8; 32]>,
        derived: Box<Derived>,
    },
}

type Refusable<T> = Result<T, Problem>;

pub(crate) struct Collector<'a> {
    shares: Shares,
    node: NodeId,
    settings: &'a Settings,
    tpm: &'a TpmThread,
    console: &'a Console,
    /// What came with the last V.
    sets: Option<KeySets>,
    pending: Option<Pending>,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(
        shares: Shares,
        node: NodeId,
        settings: &'a Settings,
        tpm: &'a TpmThread,
        console: &'a Console,
    ) -> Self {
        Self {
            shares,
            node,
            settings,
            tpm,
            console,
            sets: None,
            pending: None,
        }
    }

    /// Takes shares until the envelope is open and holds the volume's key. After a wrong combination the link is made
    /// anew, so that the verifier appraises and sends its share again.
    pub(crate) async fn collect(
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
                Ok(Outcome::Waiting) => request.answer(Ok(None)),
                Ok(Outcome::Known {
                    confirmation,
                    derived,
                }) => {
                    answer(request, confirmation, events).await;
                    if self.fits(&derived).await {
                        return Ok(*derived);
                    }
                    self.console.waiting(
                        "the volume has a key of another provisioning, whose share does not open in this boot: waiting for \
                         a PCR policy for it (bootkeep policy authorize), or provision with the recovery key as --luks-key",
                    );
                }
                Err(problem) => {
                    self.console.say(&format!("refused: {}", problem.detail));
                    request.answer(Err(problem));
                    reopen();
                }
            }
        }
    }

    async fn take(&mut self, request: &ShareRequest) -> Result<Refusable<Outcome>, GaveUp> {
        let taken = match self.received(request) {
            Ok(taken) => taken,
            Err(problem) => return Ok(Err(problem)),
        };
        let reunited = self.reunite().await?;
        Ok(self.combined(taken, reunited, request))
    }

    fn combined(
        &mut self,
        taken: Taken,
        mut reunited: Vec<Reunited>,
        request: &ShareRequest,
    ) -> Refusable<Outcome> {
        let mut confirmation = None;
        if let Taken::Both(opened) = taken {
            confirmation = Some(opened.confirmation);
            let Opened { key, envelope, .. } = opened;
            self.pending = Some(Pending {
                key,
                envelope,
                kept: None,
            });
        } else if self.pending.is_none() {
            let Some(index) = reunited.iter().position(|reunited| reunited.boots) else {
                return Ok(Outcome::Waiting);
            };
            self.console.say("share U kept by the TPM received");
            let of = reunited.remove(index);
            let nonce = request.call.nonce.as_bytes();
            confirmation = Some(of.key.confirmation(nonce, self.node.as_str()));
            self.pending = Some(Pending {
                kept: Some((of.set, of.slot, of.id)),
                key: of.key,
                envelope: of.envelope,
            });
        }
        match self.derived(reunited) {
            Ok(None) => Ok(Outcome::Waiting),
            Ok(Some(derived)) => Ok(Outcome::Known {
                confirmation,
                derived: Box::new(derived),
            }),
            Err(problem) => {
                // A wrong K is forgotten, as wrong shares are.
                self.pending = None;
                Err(problem)
            }
        }
    }

    fn received(&mut self, request: &ShareRequest) -> Refusable<Taken> {
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
    async fn reunite(&self) -> Result<Vec<Reunited>, GaveUp> {
        match &self.sets {
            Some(sets) => {
                sets.reunite(self.settings, self.tpm, &self.node, self.console)
                    .await
            }
            None => Ok(Vec::new()),
        }
    }

    /// Sorts the envelope of the K that is known, if one is.
    fn derived(&self, reunited: Vec<Reunited>) -> Refusable<Option<Derived>> {
        let Some(Pending {
            key,
            envelope,
            kept,
        }) = &self.pending
        else {
            return Ok(None);
        };
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
            .and_then(|sets| sets.next(key, set, &contents.authorities, used, &reunited));
        let older = reunited.into_iter().map(|reunited| reunited.key);
        Ok(Some(Derived {
            key: key.clone(),
            contents,
            older: older.collect(),
            next,
        }))
    }

    /// Whether one of the keys opens the volume, as far as the disks of this machine tell. They may take a moment to show.
    async fn fits(&self, derived: &Derived) -> bool {
        let settings = self.settings;
        let keys = derived.candidates(&settings.config.volume);
        let (sys_block, devices) = (settings.sys_block.clone(), settings.devices.clone());
        let cryptsetup = settings.cryptsetup.clone();
        let fit = move || keys.fit(&sys_block, &devices, &cryptsetup);
        tokio::task::spawn_blocking(fit).await.unwrap_or(true)
    }
}

async fn answer(request: ShareRequest, confirmation: Option<[u8; 32]>, events: &Events) {
    let Some(confirmation) = confirmation else {
        return request.answer(Ok(None));
    };
    let event = Event::Combined {
        confirmation: confirmation.as_slice().into(),
    };
    request.answer(Ok(Some(confirmation.as_slice().into())));
    let _ = events.0.send(event).await;
    events.step(Step::Combined).await;
}
