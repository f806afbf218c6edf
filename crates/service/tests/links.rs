//! Links over real TLS: who gets one, and what both ends know of it.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use axum::{response::IntoResponse, routing::any, Router};
use bootkeep_link::{dial, LinkError};
use bootkeep_protocol::{
    link::{Event, NodeFrame, ServerFrame},
    Nonce, Problem, Role,
};
use bootkeep_service::{Limits, LinkUpgrade, ProblemResponse};
use common::{Pki, Server, Wanted};
use tokio::net::TcpListener;

/// A verifier that puts the link's exporter in its hello and says good-bye after one event.
fn routes() -> Router {
    async fn link(upgrade: LinkUpgrade) -> impl IntoResponse {
        upgrade.on_open(|peer, end| async move {
            assert_eq!(&peer.exporter, end.exporter());
            let nonce = Nonce::from(*end.exporter());
            let (sender, mut frames) = end.split();
            let hello = ServerFrame::Hello { version: 1, nonce };
            sender.send(&hello).await.unwrap();
            let event = frames.next().await.unwrap().unwrap();
            assert!(matches!(event, NodeFrame::Event { .. }));
            sender.close().await;
        })
    }
    Router::new().route("/v1/link", any(link))
}

async fn hello_nonce(end: bootkeep_link::NodeEnd) -> Nonce {
    let (sender, mut frames) = end.split();
    let Some(ServerFrame::Hello { nonce, .. }) = frames.next().await.unwrap() else {
        panic!("no hello")
    };
    let event = Event::ImaGrew { count: 1 };
    sender.send(&NodeFrame::Event { event }).await.unwrap();
    assert_eq!(frames.next().await.unwrap(), None);
    nonce
}

#[tokio::test]
async fn both_ends_see_the_same_exporter_and_no_two_links_do() {
    let server = Server::start(Limits::default(), routes()).await;
    let tls = server.pki.node_tls();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let end = dial(&tls, std::slice::from_ref(&server.url)).await.unwrap();
        let ours = Nonce::from(*end.exporter());
        assert_eq!(hello_nonce(end).await, ours);
        assert!(!seen.contains(&ours));
        seen.push(ours);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_first_that_answers_wins() {
    let server = Server::start(Limits::default(), routes()).await;
    // Nobody there; someone who says nothing; another role; not TLS at all.
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registrar = server.pki.issue(&Wanted::role(Role::Registrar));
    let other = Server::start_as(
        Arc::clone(&server.pki),
        &registrar,
        Limits::default(),
        routes(),
    )
    .await;
    let urls = [
        format!("https://{closed}"),
        format!("https://{}", silent.local_addr().unwrap()),
        other.url.clone(),
        "https://no-such-host.invalid".into(),
        format!("https://localhost:{}/", server.address.port()),
    ];
    let end = dial(&server.pki.node_tls(), &urls).await.unwrap();
    let ours = Nonce::from(*end.exporter());
    assert_eq!(hello_nonce(end).await, ours);
    server.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn every_failure_is_named() {
    let pki = Arc::new(Pki::new("test CA"));
    let tls = pki.node_tls();
    assert!(matches!(dial(&tls, &[]).await, Err(LinkError::NoUrl)));
    let identity = pki.issue(&Wanted::role(Role::Ca));
    let ca = Server::start_as(Arc::clone(&pki), &identity, Limits::default(), routes()).await;
    let identity = pki.issue(&Wanted::role(Role::Verifier));
    let no_link = Server::start_as(
        Arc::clone(&pki),
        &identity,
        Limits::default(),
        Router::new(),
    )
    .await;
    let urls = [ca.url.clone(), no_link.url.clone(), "http://plain".into()];
    let error = dial(&tls, &urls).await.unwrap_err();
    let LinkError::Unreachable(failures) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(failures.len(), urls.len());
    for word in ["it is a ca", "404", "only https://"] {
        assert!(
            failures.iter().any(|failure| failure.contains(word)),
            "{word}: {error}"
        );
    }
    ca.stop().await;
    no_link.stop().await;
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_refused() {
    let server = Server::start(Limits::default(), routes()).await;
    let url = format!("{}/v1/link", server.url);
    let error = server.stranger().get::<()>(&url).await.unwrap_err();
    assert_eq!(
        error.problem().map(|p| p.code.as_str()),
        Some("not-websocket")
    );
    server.stop().await;
}

#[tokio::test]
async fn plain_http_gives_no_peer_and_so_no_link() {
    async fn peer(peer: bootkeep_service::Peer) -> Result<(), ProblemResponse> {
        peer.require(&Role::ALL).map_err(Problem::into).map(drop)
    }
    let routes = routes().route("/peer", any(peer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        bootkeep_service::serve_plain(listener, routes, std::future::pending())
            .await
            .unwrap();
    });
    for path in ["/peer", "/v1/link"] {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(driver);
        let request = http::Request::get(path).header("host", "x");
        let request = request.body(http_body_util::Empty::<hyper::body::Bytes>::new());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 403, "{path}");
    }
    serving.abort();
}
