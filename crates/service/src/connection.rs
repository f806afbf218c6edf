//! One connection: handshake, then requests, each within its deadline.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::{pin, Pin},
    task::{Context, Poll},
};

use axum::{body::Body, http::Request, response::Response, Router};
use futures_util::FutureExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tower::ServiceExt;

use crate::{
    admission::{Limits, Permit},
    problem::{in_one_voice, panicked},
    tls::identify,
    Peer, ServerTls,
};

/// Largest head of a request (bytes).
const MAX_HEAD: usize = 32 * 1024;

/// What every connection of a front shares.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) tls: Option<ServerTls>,
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) stopping: watch::Receiver<bool>,
}

/// A stream that keeps its place among the open connections, also after an upgrade.
struct Admitted<S> {
    stream: S,
    _permit: Permit,
}

impl Front {
    pub(crate) async fn take(self, stream: TcpStream, address: SocketAddr, permit: Permit) {
        prepare(&stream, &self.limits);
        let Some(tls) = self.tls.clone() else {
            let stream = Admitted {
                stream,
                _permit: permit,
            };
            return self.speak(stream, None).await;
        };
        let handshake = timeout(self.limits.handshake(), tls.acceptor().accept(stream)).await;
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%address, %error, "no handshake"),
            Err(_) => return tracing::debug!(%address, "handshake took too long"),
        };
        match identify(stream.get_ref().1) {
            Ok((role, exporter)) => {
                let peer = Peer {
                    address,
                    role,
                    exporter,
                };
                let stream = Admitted {
                    stream,
                    _permit: permit,
                };
                self.speak(stream, Some(peer)).await;
            }
            Err(error) => tracing::warn!(%address, %error, "no TLS exporter"),
        }
    }

    async fn speak<S>(mut self, stream: Admitted<S>, peer: Option<Peer>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router;
        let service = service_fn(move |request| answer(router.clone(), request, peer));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header())
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped(&mut self.stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error says that the front is gone, which is an end as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Settings of the socket. A peer that acknowledges nothing, or takes nothing, is cut off by the kernel.
fn prepare(stream: &TcpStream, limits: &Limits) {
    let socket = socket2::SockRef::from(stream);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_user_timeout(Some(limits.stall())));
    if let Err(error) = set {
        tracing::debug!(%error, "socket options");
    }
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    peer: Option<Peer>,
) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    let handled = AssertUnwindSafe(router.oneshot(request)).catch_unwind();
    Ok(match handled.await {
        Ok(Ok(response)) => in_one_voice(response),
        Err(_) => panicked(),
    })
}

impl<S: AsyncRead + Unpin> AsyncRead for Admitted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Admitted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
