//! A node: a software TPM, files in the place of the kernel's, and what the two agents do.

use std::{
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use bootkeep_authorize::{access_policy, from_wire};
use bootkeep_evidence::eventlog::EventLog;
use bootkeep_link::{ClientTls, HttpClient};
use bootkeep_node::{
    config::AgentConfig,
    host::KernelFiles,
    session::{
        event_queue, keep_channel, share_channel, Ended, KeepRequest, Session, ShareRequest,
    },
    tpm::TpmThread,
    Attester, Identity,
};
use bootkeep_protocol::{
    kept::WrappedShare,
    link::{Event, ShareCall, SharePart},
    Bytes, NodeId, Phase, Problem, ProblemKind, Role, ShareId,
};
use bootkeep_swtpm::Swtpm;
use bootkeep_tpkd::{
    latch_digest, open_envelope, Authority, BootstrapKey, Envelope, Item, NodeKey, Share, Wrapped,
    U, V,
};
use bootkeep_tpm::{KeptSlot, Tcti, Tpm};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

use super::services::Owner;

/// A node that is powered on.
pub struct Node {
    pub swtpm: Swtpm,
    tpm: TpmThread,
    identity: Arc<Identity>,
    files: TempDir,
    config: AgentConfig,
    tls: ClientTls,
    /// Every U that came, as it was unwrapped.
    pub shares_u: Arc<Mutex<Vec<[u8; 32]>>>,
    /// What the envelope held, once it was opened.
    pub opened: Arc<Mutex<Option<Envelope>>>,
}

fn ima_ng(path: &str, digest: [u8; 32]) -> (Vec<u8>, [u8; 32]) {
    let mut data = Vec::new();
    let hash = [b"sha256:\0".as_slice(), &digest].concat();
    let name = [path.as_bytes(), b"\0"].concat();
    for field in [hash, name] {
        data.extend_from_slice(&(field.len() as u32).to_le_bytes());
        data.extend_from_slice(&field);
    }
    let extended: [u8; 32] = Sha256::digest(&data).into();
    let mut entry = 10_u32.to_le_bytes().to_vec();
    entry.extend_from_slice(&[1; 20]); // the SHA-1 bank's digest: nobody relies on it
    entry.extend_from_slice(&6_u32.to_le_bytes());
    entry.extend_from_slice(b"ima-ng");
    entry.extend_from_slice(&(data.len() as u32).to_le_bytes());
    entry.extend_from_slice(&data);
    (entry, extended)
}

impl Node {
    /// Powers on with a TPM of its own, and measures `boot_aggregate` and `/init`.
    pub async fn boot(owner: &Owner, swtpm: Swtpm) -> Self {
        Self::boot_measured(owner, swtpm, None).await
    }

    /// The same after firmware and boot loaders have measured what this event log says.
    pub async fn boot_into(owner: &Owner, swtpm: Swtpm, event_log: &[u8]) -> Self {
        Self::boot_measured(owner, swtpm, Some(event_log)).await
    }

    async fn boot_measured(owner: &Owner, swtpm: Swtpm, event_log: Option<&[u8]>) -> Self {
        let way = Tcti::Swtpm { port: swtpm.port() };
        let tpm = TpmThread::open_at(way, Duration::from_secs(20))
            .await
            .unwrap();
        let config = AgentConfig::load(&owner.path().join("node/agent.yaml")).unwrap();
        let ca = std::fs::read(owner.path().join("node/ca.pem")).unwrap();
        let node = Self {
            identity: Arc::new(Identity::load(&tpm).await.unwrap()),
            tls: ClientTls::new(&ca).unwrap(),
            files: tempfile::tempdir().unwrap(),
            shares_u: Arc::default(),
            opened: Arc::default(),
            config,
            tpm,
            swtpm,
        };
        if let Some(log) = event_log {
            for event in EventLog::parse(log).unwrap().events() {
                node.extend(event.pcr, event.digest).await;
            }
            std::fs::write(node.kernel_files().event_log, log).unwrap();
        }
        let pcrs = node
            .tpm
            .run(|tpm| tpm.pcr_read(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]))
            .await;
        let mut aggregate = Sha256::new();
        for (_, value) in pcrs.unwrap().unwrap() {
            aggregate.update(value);
        }
        node.measure("boot_aggregate", aggregate.finalize().into())
            .await;
        node.measure("/init", Sha256::digest(b"/init").into()).await;
        node
    }

    /// Off and on again.
    pub async fn power_cycle(self, owner: &Owner) -> Self {
        let Self { mut swtpm, tpm, .. } = self;
        drop(tpm);
        swtpm.power_cycle().unwrap();
        Self::boot(owner, swtpm).await
    }

    /// Off and on again, into another boot.
    pub async fn power_cycle_into(self, owner: &Owner, event_log: &[u8]) -> Self {
        let Self { mut swtpm, tpm, .. } = self;
        drop(tpm);
        swtpm.power_cycle().unwrap();
        Self::boot_into(owner, swtpm, event_log).await
    }

    pub fn id(&self) -> &NodeId {
        &self.identity.node_id
    }

    fn kernel_files(&self) -> KernelFiles {
        let at = |name: &str| -> PathBuf { self.files.path().join(name) };
        KernelFiles {
            event_log: at("event_log"),
            ima: at("ima"),
            ima_count: at("count"),
            ..KernelFiles::default()
        }
    }

    /// What the kernel does with a file that is run.
    pub async fn measure(&self, path: &str, digest: [u8; 32]) {
        let (entry, extended) = ima_ng(path, digest);
        self.tpm
            .run(move |tpm| tpm.pcr_extend(10, &extended))
            .await
            .unwrap()
            .unwrap();
        let mut list = OpenOptions::new();
        let mut list = list
            .create(true)
            .append(true)
            .open(self.kernel_files().ima)
            .unwrap();
        list.write_all(&entry).unwrap();
    }

    pub async fn extend(&self, pcr: u8, digest: [u8; 32]) {
        self.tpm
            .run(move |tpm| tpm.pcr_extend(pcr, &digest))
            .await
            .unwrap()
            .unwrap();
    }

    /// Registers, as often as needed.
    pub async fn register(&self) {
        let client = HttpClient::new(self.tls.clone(), Role::Registrar);
        let urls = &self.config.registrar;
        while let Err(error) = self.identity.register(&self.tpm, &client, urls).await {
            eprintln!("node: {error}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn attester(&self, phase: Phase, nk_public: [u8; 32]) -> Attester {
        let files = self.kernel_files();
        Attester {
            tpm: self.tpm.clone(),
            identity: self.identity.clone(),
            phase,
            boot_id: files.boot_id().unwrap(),
            nk_public,
            files,
        }
    }

    /// The initramfs: links until both shares came and the envelope opened. `volume` is latched then.
    pub fn initramfs(&self) -> Agent {
        self.booting(false)
    }

    /// As [`Self::initramfs`], but the power goes before U is kept.
    pub fn initramfs_cut_short(&self) -> Agent {
        self.booting(true)
    }

    fn booting(&self, cut: bool) -> Agent {
        let node_key = NodeKey::generate().unwrap();
        let attester = self.attester(Phase::Initramfs, node_key.public());
        let (tls, urls) = (self.tls.clone(), self.config.verifier.clone());
        let (events, mut queue) = event_queue();
        let (shares, taken) = share_channel();
        let taking = Taking {
            node_key,
            node: self.id().clone(),
            tpm: self.tpm.clone(),
            shares_u: self.shares_u.clone(),
            opened: self.opened.clone(),
            cut,
            events,
        };
        let work = tokio::spawn(taking.run(taken));
        let task = tokio::spawn(async move {
            let links = async {
                loop {
                    match Session::open(&attester, &tls, &urls).await {
                        Ok(session) => match session.serve(Some(&shares), &mut queue).await {
                            Ended::Done => return,
                            ended => eprintln!("node: {ended}"),
                        },
                        Err(error) => eprintln!("node: {error}"),
                    }
                    sleep(Duration::from_millis(50)).await;
                }
            };
            // As the agent does: the boot goes on a while after the work is done, also when its last words reach nobody.
            let farewell = async {
                let _ = work.await;
                sleep(FAREWELL).await;
            };
            tokio::select! {
                () = links => {}
                () = farewell => {}
            }
        });
        Agent(task)
    }

    /// The booted system. It is attested as long as the task lives.
    pub fn runtime(&self) -> Agent {
        let node_key = NodeKey::generate().unwrap();
        let attester = self.attester(Phase::Runtime, node_key.public());
        let (keeps, kept) = keep_channel();
        tokio::spawn(keep(node_key, self.id().clone(), self.tpm.clone(), kept));
        let (tls, urls) = (self.tls.clone(), self.config.verifier.clone());
        let task = tokio::spawn(async move {
            let (_events, mut queue) = event_queue();
            loop {
                match Session::open(&attester, &tls, &urls).await {
                    Ok(session) => {
                        let session = session.taking_keeps(&keeps);
                        eprintln!("node: {}", session.serve(None, &mut queue).await);
                    }
                    Err(error) => eprintln!("node: {error}"),
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        Agent(task)
    }

    /// Both, one after the other.
    pub async fn whole_boot(&self) -> Agent {
        self.initramfs().done().await;
        self.runtime()
    }
}

/// How long the last words of an initramfs may take to go out.
const FAREWELL: Duration = Duration::from_secs(5);

/// An agent at work; dropped, it stops.
pub struct Agent(JoinHandle<()>);

impl Agent {
    /// Waits until it has done all it has to do.
    pub async fn done(mut self) {
        (&mut self.0).await.unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One K that the verifier offers.
struct Offer {
    envelope: Bytes,
    policy: [u8; 32],
    authorities: Vec<Authority>,
    shares: Vec<(ShareId, Share<V>)>,
    next: (ShareId, Share<V>),
}

struct Taking {
    node_key: NodeKey,
    node: NodeId,
    tpm: TpmThread,
    shares_u: Arc<Mutex<Vec<[u8; 32]>>>,
    opened: Arc<Mutex<Option<Envelope>>>,
    /// Whether the power goes before U is in NV.
    cut: bool,
    events: mpsc::Sender<Event>,
}

impl Taking {
    async fn run(self, mut requests: mpsc::Receiver<ShareRequest>) {
        let (mut u, mut v) = (None, None);
        while let Some(request) = requests.recv().await {
            let call = &request.call;
            let nonce = *call.nonce.as_bytes();
            match call.part {
                SharePart::U => {
                    let share: Share<U> = self.unwrap(&nonce, &call.encapsulated, &call.ciphertext);
                    self.shares_u.lock().unwrap().push(*share.expose());
                    u = Some((share, nonce));
                }
                SharePart::V => {
                    let share: Share<V> = self.unwrap(&nonce, &call.encapsulated, &call.ciphertext);
                    let offers = self.offers(call);
                    if self.alone(call, &offers).await {
                        request.answer(Ok(None));
                        return;
                    }
                    v = Some((share, call.envelope.clone().unwrap(), offers));
                }
            }
            let (Some((u, nonce)), Some((v, envelope, offers))) = (&u, &v) else {
                request.answer(Ok(None));
                continue;
            };
            let key = BootstrapKey::combine(u, v);
            let id = self.node.as_str();
            let Ok(envelope) = open_envelope(&key, id, envelope.as_slice()) else {
                let kind = ProblemKind::Untrusted;
                request.answer(Err(Problem::new(
                    kind,
                    "envelope-refused",
                    "it does not open",
                )));
                continue;
            };
            let confirmation = key.confirmation(nonce, id).as_slice().into();
            let _ = self.events.send(Event::Combined { confirmation }).await;
            self.finish(&key, envelope, offers.first(), KeptSlot::A)
                .await;
            request.answer(Ok(None));
            return;
        }
    }

    fn unwrap<P: bootkeep_tpkd::SharePart>(
        &self,
        nonce: &[u8; 32],
        encapsulated: &Bytes,
        ciphertext: &Bytes,
    ) -> Share<P> {
        let wrapped = Wrapped {
            encapsulated: encapsulated.0.clone(),
            ciphertext: ciphertext.0.clone(),
        };
        self.node_key
            .unwrap_share(nonce, self.node.as_str(), &wrapped)
            .unwrap()
    }

    fn offers(&self, call: &ShareCall) -> Vec<Offer> {
        let nonce = *call.nonce.as_bytes();
        let share =
            |it: &WrappedShare| (it.id, self.unwrap(&nonce, &it.encapsulated, &it.ciphertext));
        let sets = call.kept.iter().flat_map(|kept| &kept.sets);
        sets.filter(|set| set.boots)
            .map(|set| {
                let authorities: Vec<Authority> = set.authorities.iter().map(from_wire).collect();
                Offer {
                    envelope: set.envelope.clone(),
                    policy: access_policy(&authorities).unwrap(),
                    authorities,
                    shares: set.shares.iter().map(share).collect(),
                    next: share(&set.next),
                }
            })
            .collect()
    }

    /// Boots with a U out of NV, if one goes with a V that came.
    async fn alone(&self, call: &ShareCall, offers: &[Offer]) -> bool {
        let policies = call.kept.as_ref().map(|kept| kept.policies.clone());
        for offer in offers {
            for slot in KeptSlot::ALL {
                let (authorities, policies) =
                    (offer.authorities.clone(), policies.clone().unwrap());
                let read = move |tpm: &mut Tpm| tpm.read_kept(slot, &authorities, &policies);
                let Ok(kept) = self.tpm.run(read).await.unwrap() else {
                    continue;
                };
                let fits = |(id, _): &&(ShareId, Share<V>)| id.as_bytes() == &kept.id;
                let Some((_, v)) = offer.shares.iter().find(fits) else {
                    continue;
                };
                let key = BootstrapKey::combine(&Share::from_bytes(*kept.u), v);
                let id = self.node.as_str();
                let Ok(envelope) = open_envelope(&key, id, offer.envelope.as_slice()) else {
                    continue;
                };
                let free = match slot {
                    KeptSlot::A => KeptSlot::B,
                    _ => KeptSlot::A,
                };
                self.finish(&key, envelope, Some(offer), free).await;
                return true;
            }
        }
        false
    }

    async fn finish(
        &self,
        key: &BootstrapKey,
        envelope: Envelope,
        offer: Option<&Offer>,
        free: KeptSlot,
    ) {
        self.latch(key, &envelope).await;
        *self.opened.lock().unwrap() = Some(envelope);
        let Some(offer) = offer.filter(|_| !self.cut) else {
            return;
        };
        let (id, v) = &offer.next;
        let (bytes, u, policy) = (*id.as_bytes(), key.u_for(v), offer.policy);
        let write = move |tpm: &mut Tpm| tpm.write_kept(free, &policy, &bytes, u.expose());
        self.tpm.run(write).await.unwrap().unwrap();
        let _ = self.events.send(Event::ShareKept { id: *id }).await;
    }

    async fn latch(&self, key: &BootstrapKey, envelope: &Envelope) {
        let volumes = envelope.items.iter().find_map(|item| match item {
            Item::LuksKey { volume, .. } | Item::OwnKey { volume, .. } => Some(volume),
            _ => None,
        });
        if let Some(volume) = volumes {
            let digest = latch_digest(volume, key.latch_secret().as_slice());
            let extended = self.tpm.run(move |tpm| tpm.pcr_extend(15, &digest)).await;
            extended.unwrap().unwrap();
        }
    }
}

/// What the runtime agent does with a share for the next boot.
async fn keep(
    node_key: NodeKey,
    node: NodeId,
    tpm: TpmThread,
    mut requests: mpsc::Receiver<KeepRequest>,
) {
    while let Some(request) = requests.recv().await {
        let call = &request.call;
        let wrapped = Wrapped {
            encapsulated: call.encapsulated.0.clone(),
            ciphertext: call.ciphertext.0.clone(),
        };
        let (nonce, id) = (*call.nonce.as_bytes(), *call.id.as_bytes());
        let share: Share<U> = node_key
            .unwrap_share(&nonce, node.as_str(), &wrapped)
            .unwrap();
        let staged = move |tpm: &mut Tpm| tpm.stage_kept(&id, share.expose());
        tpm.run(staged).await.unwrap().unwrap();
        request.answer(Ok(()));
    }
}
