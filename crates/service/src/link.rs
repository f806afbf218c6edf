//! The service's end of a link: a WebSocket upgrade that gives typed frames.

use std::future::Future;

use axum::{
    body::Body,
    extract::FromRequestParts,
    http::{header, request::Parts, HeaderMap, HeaderValue, Response, StatusCode},
};
use bootkeep_link::channel::End;
use bootkeep_protocol::{
    link::{NodeFrame, ServerFrame},
    Problem, ProblemKind,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{Peer, ProblemResponse};

/// The service's end of a link.
pub type ServerEnd = End<ServerFrame, NodeFrame>;

/// A request to become a link. An extractor.
///
/// ```
/// # use axum::response::IntoResponse;
/// # use bootkeep_service::LinkUpgrade;
/// async fn link(upgrade: LinkUpgrade) -> impl IntoResponse {
///     upgrade.on_open(|peer, end| async move {
///         let (sender, mut frames) = end.split();
///         // hello, open, then sender.accept() and Accepted
///     })
/// }
/// ```
#[derive(Debug)]
pub struct LinkUpgrade {
    peer: Peer,
    accept_key: HeaderValue,
    upgrade: OnUpgrade,
}

impl LinkUpgrade {
    /// Answers with 101 and runs `serve` on the link, in a task of its own.
    pub fn on_open<F, R>(self, serve: F) -> Response<Body>
    where
        F: FnOnce(Peer, ServerEnd) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let Self {
            peer,
            accept_key,
            upgrade,
        } = self;
        tokio::spawn(async move {
            match upgrade.await {
                Ok(stream) => {
                    let end = ServerEnd::server(TokioIo::new(stream), peer.exporter).await;
                    serve(peer, end).await;
                }
                Err(error) => tracing::debug!(%error, "a link broke before it was one"),
            }
        });
        switch_protocols(accept_key)
    }
}

fn switch_protocols(accept_key: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept_key);
    response
}

impl<S: Send + Sync> FromRequestParts<S> for LinkUpgrade {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemResponse> {
        let peer = <Peer as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        let accept_key = accept_key(&parts.headers).ok_or_else(not_websocket)?;
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        Ok(Self {
            peer,
            accept_key,
            upgrade: upgrade.ok_or_else(not_websocket)?,
        })
    }
}

fn not_websocket() -> Problem {
    Problem::new(
        ProblemKind::Malformed,
        "not-websocket",
        "this path speaks WebSocket, version 13 (RFC 6455)",
    )
}

/// What RFC 6455 §4.2.2 wants answered; `None` when the request is not what §4.2.1 demands.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let names = |name, word: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok())?;
        value
            .split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(word))
            .then_some(())
    };
    names(header::CONNECTION, "upgrade")?;
    names(header::UPGRADE, "websocket")?;
    names(header::SEC_WEBSOCKET_VERSION, "13")?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes();
    if key.len() != 24 {
        return None;
    }
    HeaderValue::from_str(&derive_accept_key(key)).ok()
}
