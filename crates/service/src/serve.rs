//! Taking connections until the service is asked to stop.

use std::{future::Future, net::SocketAddr, path::PathBuf, pin::pin, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use crate::{
    admission::Admission, connection::Front, notify_ready, process::raise_file_limit, Limits,
    ServerTls,
};

/// How long requests may take to end once the service is asked to stop.
const GRACE: Duration = Duration::from_secs(5);
/// Pause when the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(200);

/// Why a service cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A file cannot be read.
    #[error("cannot read {}: {}", .0.display(), .1)]
    Read(PathBuf, #[source] std::io::Error),
    /// A file does not hold what it should.
    #[error("{}: {}", .0.display(), .1)]
    File(PathBuf, String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The listener failed.
    #[error("the listener failed: {0}")]
    Listen(#[from] std::io::Error),
}

/// Serves over TLS with the default [`Limits`] until `shutdown` ends, then lets running requests end.
///
/// Logs `listening` with the bound address and tells systemd that the service is ready.
///
/// # Errors
/// [`ServiceError::Listen`].
pub async fn serve_tls(
    listener: TcpListener,
    tls: ServerTls,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServiceError> {
    serve_tls_within(Limits::default(), listener, tls, router, shutdown).await
}

/// As [`serve_tls`], with limits of its own.
///
/// # Errors
/// [`ServiceError::Listen`].
pub async fn serve_tls_within(
    limits: Limits,
    listener: TcpListener,
    tls: ServerTls,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServiceError> {
    tracing::info!(address = %listener.local_addr()?, "listening");
    notify_ready();
    serve(limits, listener, Some(tls), router, shutdown).await
}

/// Serves plain HTTP: only for what is public and signed by itself. [`Peer`](crate::Peer) refuses everything here.
///
/// # Errors
/// [`ServiceError::Listen`].
pub async fn serve_plain(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServiceError> {
    tracing::info!(address = %listener.local_addr()?, "listening without TLS");
    serve(Limits::default(), listener, None, router, shutdown).await
}

async fn serve(
    limits: Limits,
    listener: TcpListener,
    tls: Option<ServerTls>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServiceError> {
    raise_file_limit();
    let (stop, stopping) = watch::channel(false);
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let admission = Admission::new(limits.clone());
    let front = Front {
        tls,
        router,
        limits,
        stopping,
    };
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, address) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener) => accepted,
        };
        match admission.admit(address.ip()) {
            Ok(permit) => {
                let (front, alive) = (front.clone(), alive.clone());
                tokio::spawn(async move {
                    front.take(stream, address, permit).await;
                    drop(alive);
                });
            }
            Err(full) => tracing::debug!(%address, %full, "connection refused"),
        }
    }
    drop((listener, alive, front));
    // Fails only when no connection is left to hear it.
    let _ = stop.send(true);
    if timeout(GRACE, ended.recv()).await.is_err() {
        tracing::info!("some requests did not end in time");
    }
    Ok(())
}

/// The next connection. One that broke at once, or no file descriptor left: neither ends the service.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection taken");
                sleep(NO_ROOM).await;
            }
        }
    }
}
