//! A node made of code: speaks the link, answers with a [`Machine`].

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bootkeep_link::{dial, ClientTls, LinkReceiver, LinkSender};
use bootkeep_protocol::{
    link::{
        Call, Event, Evidence, NodeFrame, Open, Outcome, QuoteCall, Reply, ServerFrame, ShareCall,
    },
    link_qualifying_data, Nonce, Phase, Problem, ProblemKind,
};
use bootkeep_tpkd::{NodeKey, Share, Wrapped, V};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{machine::Machine, peer::Peer};

/// Makes the evidence of an answer; tests put lies here.
pub type Answer = Box<dyn Fn(&Machine, &QuoteCall, &[u8; 32]) -> Option<Evidence> + Send>;

/// A node with an accepted link.
pub struct Node {
    pub machine: Arc<Mutex<Machine>>,
    pub nk: Arc<NodeKey>,
    pub sender: LinkSender,
    pub exporter: [u8; 32],
    pub nonces: Arc<Mutex<Vec<Nonce>>>,
    /// From where in the IMA list each question asked.
    pub offsets: Arc<Mutex<Vec<u64>>>,
    shares: mpsc::UnboundedReceiver<ShareCall>,
    ended: JoinHandle<Option<Problem>>,
}

/// The opening frame of a machine on a link with this exporter.
pub fn open_frame(machine: &Machine, nonce: &Nonce, exporter: &[u8; 32]) -> Open {
    let qualifying =
        link_qualifying_data(nonce, machine.phase, &machine.nk, &machine.node, exporter);
    Open {
        node_id: machine.node.clone(),
        phase: machine.phase,
        boot_id: machine.boot_id.clone(),
        nk_public: machine.nk.as_slice().into(),
        quote: machine.quote(&qualifying, &[15]),
    }
}

/// Dials and takes the hello: the nonce, the halves and the exporter.
pub async fn hello(tls: &ClientTls, url: &str) -> (Nonce, LinkSender, LinkReceiver, [u8; 32]) {
    let end = dial(tls, &[url.to_owned()]).await.unwrap();
    let exporter = *end.exporter();
    let (sender, mut receiver) = end.split();
    match receiver.next().await.unwrap() {
        Some(ServerFrame::Hello { nonce, .. }) => (nonce, sender, receiver, exporter),
        other => panic!("{other:?}"),
    }
}

/// The verifier's word on an opening.
pub async fn verdict(receiver: &mut LinkReceiver) -> Result<(), Problem> {
    match receiver.next().await {
        Ok(Some(ServerFrame::Accepted {})) => Ok(()),
        Ok(Some(ServerFrame::Refused { problem })) => Err(problem),
        other => Err(Problem::new(
            ProblemKind::Unavailable,
            "ended",
            format!("{other:?}"),
        )),
    }
}

impl Node {
    /// Opens a link and serves it with honest answers.
    pub async fn connect(tls: &ClientTls, url: &str, machine: &Machine) -> Result<Self, Problem> {
        let honest: Answer =
            Box::new(|machine, call, exporter| Some(machine.evidence(call, exporter)));
        Self::connect_with(tls, url, machine, honest).await
    }

    /// Opens a link, serves it with honest answers and follows the revocation log.
    pub async fn connect_as(
        tls: &ClientTls,
        url: &str,
        machine: &Machine,
        peer: &Peer,
    ) -> Result<Self, Problem> {
        let honest: Answer =
            Box::new(|machine, call, exporter| Some(machine.evidence(call, exporter)));
        Self::connect_whole(tls, url, machine, honest, Some(peer.clone())).await
    }

    pub async fn connect_with(
        tls: &ClientTls,
        url: &str,
        machine: &Machine,
        answer: Answer,
    ) -> Result<Self, Problem> {
        Self::connect_whole(tls, url, machine, answer, None).await
    }

    /// Opens a link, takes every call, and never answers one.
    pub async fn connect_mute(
        tls: &ClientTls,
        url: &str,
        machine: &Machine,
    ) -> Result<Self, Problem> {
        let mute = Peer::mute();
        Self::connect_whole(tls, url, machine, Box::new(|_, _, _| None), Some(mute)).await
    }

    async fn connect_whole(
        tls: &ClientTls,
        url: &str,
        machine: &Machine,
        answer: Answer,
        peer: Option<Peer>,
    ) -> Result<Self, Problem> {
        let nk = Arc::new(NodeKey::generate().unwrap());
        let mut machine = machine.clone();
        machine.nk = nk.public();
        let (nonce, sender, mut receiver, exporter) = hello(tls, url).await;
        let open = open_frame(&machine, &nonce, &exporter);
        sender.send(&NodeFrame::Open(open)).await.unwrap();
        verdict(&mut receiver).await?;
        let machine = Arc::new(Mutex::new(machine));
        let nonces = Arc::new(Mutex::new(vec![nonce]));
        let offsets = Arc::<Mutex<Vec<u64>>>::default();
        let (share_in, shares) = mpsc::unbounded_channel();
        let serving = Serving {
            machine: machine.clone(),
            nonces: nonces.clone(),
            offsets: offsets.clone(),
            sender: sender.clone(),
            exporter,
            answer,
            peer,
            shares: share_in,
        };
        Ok(Self {
            machine,
            nk,
            sender,
            exporter,
            nonces,
            offsets,
            shares,
            ended: tokio::spawn(serving.run(receiver)),
        })
    }

    /// The next share that comes.
    pub async fn share(&mut self) -> ShareCall {
        let share = tokio::time::timeout(Duration::from_secs(60), self.shares.recv());
        share.await.unwrap().unwrap()
    }

    /// From where in the IMA list the first question asks.
    pub async fn first_offset(&self) -> u64 {
        loop {
            if let Some(offset) = self.offsets.lock().unwrap().first() {
                return *offset;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn has_share(&mut self) -> bool {
        self.shares.try_recv().is_ok()
    }

    /// Share V, unwrapped.
    pub fn unwrap(&self, call: &ShareCall) -> Share<V> {
        let wrapped = Wrapped {
            encapsulated: call.encapsulated.0.clone(),
            ciphertext: call.ciphertext.0.clone(),
        };
        let id = self.machine.lock().unwrap().node.clone();
        self.nk
            .unwrap_share(call.nonce.as_bytes(), id.as_str(), &wrapped)
            .unwrap()
    }

    pub async fn event(&self, event: Event) {
        self.sender.send(&NodeFrame::Event { event }).await.unwrap();
    }

    /// The kernel measures a file and the agent says so.
    pub async fn run_file(&self, path: &str, contents: &[u8]) {
        self.machine.lock().unwrap().measure(path, contents);
        self.event(Event::ImaGrew { count: 1_000_000 }).await;
    }

    /// Waits for the end of the link: the verifier's reason, if it gave one.
    pub async fn ended(self) -> Option<Problem> {
        self.ended.await.unwrap()
    }

    /// Closes the link.
    pub async fn close(self) {
        self.sender.close().await;
        self.ended.abort();
    }
}

/// The machine after it has opened its volume, as the runtime agent finds it.
pub fn running(machine: &Machine) -> Machine {
    let mut machine = machine.clone();
    machine.extend(15, &super::LATCH);
    machine.phase = Phase::Runtime;
    machine
}

struct Serving {
    machine: Arc<Mutex<Machine>>,
    nonces: Arc<Mutex<Vec<Nonce>>>,
    offsets: Arc<Mutex<Vec<u64>>>,
    sender: LinkSender,
    exporter: [u8; 32],
    answer: Answer,
    peer: Option<Peer>,
    shares: mpsc::UnboundedSender<ShareCall>,
}

impl Serving {
    async fn run(self, mut receiver: LinkReceiver) -> Option<Problem> {
        loop {
            match receiver.next().await {
                Ok(Some(ServerFrame::Request { id, call })) => {
                    let Some(outcome) = self.answer(call) else {
                        continue;
                    };
                    // The verifier may have gone.
                    let _ = self.sender.send(&NodeFrame::Reply { id, outcome }).await;
                }
                Ok(Some(ServerFrame::Refused { problem })) => return Some(problem),
                Ok(None) | Err(_) => return None,
                Ok(Some(_)) => {}
            }
        }
    }

    fn answer(&self, call: Call) -> Option<Outcome> {
        let machine = self.machine.lock().unwrap();
        Some(Outcome::Ok(match call {
            Call::Quote(call) => {
                self.nonces.lock().unwrap().push(call.nonce);
                self.offsets.lock().unwrap().extend(call.ima_offset);
                Reply::Quote(Box::new((self.answer)(&machine, &call, &self.exporter)?))
            }
            Call::Activate(_) => Reply::Activate {
                proof: vec![1; 32].into(),
            },
            Call::Share(share) => {
                let _ = self.shares.send(share);
                Reply::Share { confirmation: None }
            }
            Call::Revocations(call) => {
                if let Some(peer) = &self.peer {
                    return peer.answer(&call);
                }
                let problem =
                    Problem::new(ProblemKind::Unavailable, "no-enforcer", "not on this node");
                return Some(Outcome::Refused(problem));
            }
            Call::Keep(_) => Reply::Keep {},
        }))
    }
}
