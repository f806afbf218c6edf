//! One client cannot keep the service from others (A12).
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use axum::{routing::get, Json, Router};
use bootkeep_service::Limits;
use common::{raw, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Far longer than any limit below, shorter than what the HTTP library has by itself: only a service without these
/// limits meets it.
const NEVER: Duration = Duration::from_secs(25);

fn routes() -> Router {
    Router::new().route("/", get(|| async { Json("here") }))
}

fn short() -> Limits {
    Limits {
        handshake_seconds: 1,
        header_seconds: 1,
        ..Limits::default()
    }
}

async fn is_served(server: &Server) -> bool {
    let answer = server.stranger().get::<String>(&server.url).await;
    answer.is_ok_and(|text| text == "here")
}

/// Waits until the service lets go of a connection.
async fn is_let_go(mut stream: impl AsyncReadExt + Unpin) -> bool {
    let mut rest = Vec::new();
    // An error (reset) is an end as well.
    timeout(NEVER, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn silent_connections_stop_nobody_and_are_let_go() {
    let server = Server::start(short(), routes()).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert!(is_served(&server).await);
    for stream in idle {
        assert!(is_let_go(stream).await);
    }
    server.stop().await;
}

#[tokio::test]
async fn half_a_handshake_is_let_go() {
    let server = Server::start(short(), routes()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // A record that announces 512 bytes of hello and brings three.
    stream
        .write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1])
        .await
        .unwrap();
    assert!(is_served(&server).await);
    assert!(is_let_go(stream).await);
    server.stop().await;
}

#[tokio::test]
async fn tls_without_a_request_is_let_go() {
    let server = Server::start(short(), routes()).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(raw::connect(&server, None).await.unwrap());
    }
    assert!(is_served(&server).await);
    for stream in idle {
        assert!(is_let_go(stream).await);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_head_that_drips_is_let_go() {
    let server = Server::start(short(), routes()).await;
    let mut stream = raw::connect(&server, None).await.unwrap();
    let dripping = async {
        for byte in b"GET / HTTP/1.1\r\nX: ".iter().chain(b"x".iter().cycle()) {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(NEVER, dripping).await.is_ok());
    assert!(is_served(&server).await);
    server.stop().await;
}

#[tokio::test]
async fn a_head_without_end_is_let_go() {
    let server = Server::start(Limits::default(), routes()).await;
    let mut stream = raw::connect(&server, None).await.unwrap();
    let flooding = async {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nX: ").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    };
    assert!(timeout(NEVER, flooding).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn one_address_has_its_share_and_no_more() {
    let limits = Limits {
        per_address: 3,
        ..Limits::default()
    };
    let server = Server::start(limits, routes()).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(raw::connect(&server, None).await.unwrap());
    }
    assert!(raw::connect(&server, None).await.is_err());
    held.clear();
    // The places come free as soon as the service has seen the ends.
    let again = async {
        while !is_served(&server).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(NEVER, again).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let server = Server::start(Limits::default(), routes()).await;
    let _idle = raw::connect(&server, None).await.unwrap();
    let _silent = TcpStream::connect(server.address).await.unwrap();
    assert!(timeout(NEVER, server.stop()).await.is_ok());
}
