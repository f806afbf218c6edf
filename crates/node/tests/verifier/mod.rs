//! A verifier that hands every link to the test.

use axum::{routing::any, Router};
use bootkeep_evidence::{AkPublic, QuoteError, UnverifiedQuote};
use bootkeep_link::{
    channel::{Receiver, Sender},
    ClientTls, LinkError,
};
use bootkeep_node::Attester;
use bootkeep_protocol::{
    link::{Call, Evidence, NodeFrame, Outcome, Quote, ServerFrame, LATCH_PCR, LINK_VERSION},
    link_qualifying_data, quote_qualifying_data, Nonce, Role,
};
use bootkeep_service::{Limits, LinkUpgrade};
use tokio::sync::{mpsc, Mutex};

use crate::common::Server;

pub(crate) struct Verifier {
    server: Server,
    links: Mutex<mpsc::Receiver<Link>>,
}

pub(crate) struct Link {
    pub(crate) exporter: [u8; 32],
    sender: Sender<ServerFrame>,
    frames: Receiver<NodeFrame>,
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
                    };
                    drop(opened.send(link).await);
                })
            }
        };
        let router = Router::new().route("/v1/link", any(link));
        Self {
            server: Server::start(Limits::default(), router).await,
            links: Mutex::new(links),
        }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url.clone()
    }

    pub(crate) fn tls(&self) -> ClientTls {
        self.server.pki.node_tls()
    }

    /// The next link, on which nothing has been said.
    pub(crate) async fn link(&self) -> Link {
        self.links.lock().await.recv().await.unwrap()
    }

    /// The next link, opened and accepted.
    pub(crate) async fn accepted(&self, attester: &Attester) -> Link {
        let mut link = self.link().await;
        link.hello(attester).await;
        link.sender.accept().await.unwrap();
        link.say(&ServerFrame::Accepted {}).await;
        link
    }
}

impl Link {
    /// Says hello and checks the opening.
    pub(crate) async fn hello(&mut self, attester: &Attester) {
        let nonce = Nonce::from([4; 32]);
        let version = LINK_VERSION;
        self.say(&ServerFrame::Hello { version, nonce }).await;
        let Some(NodeFrame::Open(open)) = self.next().await.unwrap() else {
            panic!("no opening")
        };
        let node = &attester.identity.node_id;
        assert_eq!(&open.node_id, node);
        let qualifying = link_qualifying_data(
            &nonce,
            open.phase,
            &attester.nk_public,
            node,
            &self.exporter,
        );
        check(attester, &qualifying, &[LATCH_PCR], &open.quote).unwrap();
    }

    pub(crate) async fn say(&self, frame: &ServerFrame) {
        self.sender.send(frame).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Result<Option<NodeFrame>, LinkError> {
        self.frames.next().await
    }

    pub(crate) async fn request(&self, id: u64, call: Call) {
        self.say(&ServerFrame::Request { id, call }).await;
    }

    pub(crate) async fn reply(&mut self) -> (u64, Outcome) {
        match self.next().await.unwrap().unwrap() {
            NodeFrame::Reply { id, outcome } => (id, outcome),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn ask(&mut self, call: Call) -> Outcome {
        self.request(77, call).await;
        let (id, outcome) = self.reply().await;
        assert_eq!(id, 77);
        outcome
    }

    pub(crate) async fn close(self) {
        self.sender.close().await;
    }
}

/// Checks evidence that the verifier asked for with this nonce.
pub(crate) fn check_quote(
    attester: &Attester,
    exporter: &[u8; 32],
    nonce: u8,
    pcrs: &[u8],
    evidence: &Evidence,
) -> Result<(), QuoteError> {
    let qualifying = quote_qualifying_data(
        &Nonce::from([nonce; 32]),
        Role::Verifier,
        &attester.nk_public,
        &attester.identity.node_id,
        exporter,
    );
    check(attester, &qualifying, pcrs, &evidence.quote)
}

fn check(
    attester: &Attester,
    qualifying: &[u8; 32],
    pcrs: &[u8],
    quote: &Quote,
) -> Result<(), QuoteError> {
    let ak = AkPublic::parse(&attester.identity.ak_public).unwrap();
    let values: Vec<(u8, [u8; 32])> = quote
        .pcrs
        .iter()
        .map(|pcr| (pcr.index, pcr.digest.as_slice().try_into().unwrap()))
        .collect();
    let unverified = UnverifiedQuote {
        attest: quote.attest.as_slice(),
        signature: quote.signature.as_slice(),
    };
    unverified.verify(&ak, qualifying, pcrs, &values).map(drop)
}

pub(crate) fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    use hmac::{Hmac, Mac};
    let mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.chain_update(message).finalize().into_bytes().to_vec()
}
