//! A verifier that hands every link to the test.
#![allow(dead_code)]

use std::collections::VecDeque;

use axum::{routing::any, Router};
use bootkeep_evidence::{AkPublic, UnverifiedQuote};
use bootkeep_link::channel::{Receiver, Sender};
use bootkeep_protocol::{
    link::{Call, Event, NodeFrame, Open, Outcome, Quote, ServerFrame, LATCH_PCR, LINK_VERSION},
    link_qualifying_data, Nonce, Problem,
};
use bootkeep_service::{Limits, LinkUpgrade};
use tokio::sync::mpsc;

use crate::common::Server;

pub(crate) struct Verifier {
    pub(crate) server: Server,
    links: mpsc::Receiver<Link>,
}

pub(crate) struct Link {
    exporter: [u8; 32],
    sender: Sender<ServerFrame>,
    frames: Receiver<NodeFrame>,
    /// Events that came while an answer was waited for.
    early: VecDeque<NodeFrame>,
}

impl Verifier {
    pub(crate) async fn start() -> Self {
        let (opened, links) = mpsc::channel(4);
        let link = move |upgrade: LinkUpgrade| {
            let opened = opened.clone();
            async move {
                upgrade.on_open(|_, end| async move {
                    let exporter = *end.exporter();
                    let (sender, frames) = end.split();
                    let link = Link {
                        exporter,
                        sender,
                        frames,
                        early: VecDeque::new(),
                    };
                    drop(opened.send(link).await);
                })
            }
        };
        let router = Router::new().route("/v1/link", any(link));
        Self {
            server: Server::start(Limits::default(), router).await,
            links,
        }
    }

    /// Whether no link waits to be looked at.
    pub(crate) fn no_link(&mut self) -> bool {
        self.links.try_recv().is_err()
    }

    /// The next link, on which nothing has been said.
    pub(crate) async fn link(&mut self) -> Link {
        self.links.recv().await.unwrap()
    }
}

impl Link {
    /// Says hello and checks that this AK opened the link.
    pub(crate) async fn hello(&mut self, ak_public: &[u8]) -> Open {
        let (open, qualifying) = self.greet().await;
        check(ak_public, &qualifying, &open.quote);
        open
    }

    /// Says hello; gives the opening and what its quote must be bound to.
    async fn greet(&mut self) -> (Open, [u8; 32]) {
        let nonce = Nonce::from([4; 32]);
        let version = LINK_VERSION;
        self.say(&ServerFrame::Hello { version, nonce }).await;
        let Some(NodeFrame::Open(open)) = self.next().await else {
            panic!("no opening")
        };
        let nk: [u8; 32] = open.nk_public.as_slice().try_into().unwrap();
        let qualifying =
            link_qualifying_data(&nonce, open.phase, &nk, &open.node_id, &self.exporter);
        (open, qualifying)
    }

    /// Accepts whoever opens.
    pub(crate) async fn accept_any(&mut self) -> Open {
        let (open, _) = self.greet().await;
        self.accepted().await;
        open
    }

    async fn accepted(&mut self) {
        self.sender.accept().await.unwrap();
        self.say(&ServerFrame::Accepted {}).await;
    }

    pub(crate) async fn accept(&mut self, ak_public: &[u8]) -> Open {
        let open = self.hello(ak_public).await;
        self.accepted().await;
        open
    }

    pub(crate) async fn refuse(&mut self, problem: Problem) {
        self.say(&ServerFrame::Refused { problem }).await;
    }

    async fn say(&self, frame: &ServerFrame) {
        self.sender.send(frame).await.unwrap();
    }

    /// The next frame; none when the node has closed the link.
    pub(crate) async fn next(&mut self) -> Option<NodeFrame> {
        match self.early.pop_front() {
            Some(frame) => Some(frame),
            None => self.frames.next().await.unwrap(),
        }
    }

    pub(crate) async fn event(&mut self) -> Event {
        match self.next().await.unwrap() {
            NodeFrame::Event { event } => event,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn ask(&mut self, call: Call) -> Outcome {
        self.say(&ServerFrame::Request { id: 7, call }).await;
        loop {
            match self.frames.next().await.unwrap().unwrap() {
                NodeFrame::Reply { id: 7, outcome } => return outcome,
                event @ NodeFrame::Event { .. } => self.early.push_back(event),
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn close(self) {
        self.sender.close().await;
    }
}

fn check(ak_public: &[u8], qualifying: &[u8; 32], quote: &Quote) {
    let ak = AkPublic::parse(ak_public).unwrap();
    let values: Vec<(u8, [u8; 32])> = quote
        .pcrs
        .iter()
        .map(|pcr| (pcr.index, pcr.digest.as_slice().try_into().unwrap()))
        .collect();
    let unverified = UnverifiedQuote {
        attest: quote.attest.as_slice(),
        signature: quote.signature.as_slice(),
    };
    unverified
        .verify(&ak, qualifying, &[LATCH_PCR], &values)
        .unwrap();
}
