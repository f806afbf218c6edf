//! Frames over a WebSocket, the same at both ends.
//!
//! An [`End`] is made of a [`Sender`] and a [`Receiver`]; a task between them and the socket reads, writes, asks a
//! silent peer whether it is still there, and ends the link when it is not. Dropping either half ends the link.

mod pump;

use std::marker::PhantomData;

use bootkeep_protocol::{
    limits::{MAX_BEFORE_ACCEPT, MAX_FRAME},
    EXPORTER_LEN,
};
use serde::{de::DeserializeOwned, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
};
use tokio_tungstenite::{
    tungstenite::protocol::{Role, WebSocketConfig},
    WebSocketStream,
};

use crate::{watched::Watched, LinkError};
use pump::{Command, Pump};

/// Frames that wait to be read by the application, then that wait to be written.
const WAITING: usize = 4;

/// One end of a link: `Out` is what it sends, `In` what it receives.
#[derive(Debug)]
pub struct End<Out, In> {
    exporter: [u8; EXPORTER_LEN],
    sender: Sender<Out>,
    receiver: Receiver<In>,
}

/// The sending half. Clones send on the same link.
#[derive(Debug)]
pub struct Sender<Out> {
    commands: mpsc::Sender<Command>,
    kind: PhantomData<fn(Out)>,
}

impl<Out> Clone for Sender<Out> {
    fn clone(&self) -> Self {
        Self {
            commands: self.commands.clone(),
            kind: PhantomData,
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver<In> {
    frames: mpsc::Receiver<Result<In, LinkError>>,
}

pub(crate) fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_FRAME))
        .max_frame_size(Some(MAX_FRAME))
}

impl<Out, In> End<Out, In>
where
    In: DeserializeOwned + Send + 'static,
{
    /// The service's end, on a stream that has been upgraded. Until [`Sender::accept`] the peer may send no more than
    /// [`MAX_BEFORE_ACCEPT`] bytes.
    pub async fn server<S>(stream: S, exporter: [u8; EXPORTER_LEN]) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let watched = Watched::new(stream, Some(MAX_BEFORE_ACCEPT));
        let config = Some(websocket_config());
        let socket = WebSocketStream::from_raw_socket(watched, Role::Server, config).await;
        Self::over(socket, exporter)
    }

    pub(crate) fn over<S>(socket: WebSocketStream<Watched<S>>, exporter: [u8; EXPORTER_LEN]) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (commands, queue) = mpsc::channel(WAITING);
        let (incoming, frames) = mpsc::channel(WAITING);
        tokio::spawn(Pump::new(socket, queue, incoming).run());
        Self {
            exporter,
            sender: Sender {
                commands,
                kind: PhantomData,
            },
            receiver: Receiver { frames },
        }
    }

    /// The TLS exporter of this connection: part of the qualifying data of every quote over it.
    #[must_use]
    pub fn exporter(&self) -> &[u8; EXPORTER_LEN] {
        &self.exporter
    }

    /// Both halves.
    #[must_use]
    pub fn split(self) -> (Sender<Out>, Receiver<In>) {
        (self.sender, self.receiver)
    }
}

impl<Out: Serialize> Sender<Out> {
    /// Sends one frame; returns once the kernel has all of it.
    ///
    /// # Errors
    /// [`LinkError::TooLarge`] (the link lives on), [`LinkError::Ended`].
    pub async fn send(&self, frame: &Out) -> Result<(), LinkError> {
        let text = serde_json::to_string(frame)
            .map_err(|error| LinkError::Transport(error.to_string()))?;
        if text.len() > MAX_FRAME {
            return Err(LinkError::TooLarge(MAX_FRAME));
        }
        let (done, written) = oneshot::channel();
        self.command(Command::Frame(text, done)).await?;
        written.await.map_err(|_| LinkError::Ended)
    }

    /// The peer is who it says: it may send frames of full size from now on.
    ///
    /// # Errors
    /// [`LinkError::Ended`].
    pub async fn accept(&self) -> Result<(), LinkError> {
        self.command(Command::Accept).await
    }

    /// Says good-bye and waits, for a moment at most, until the peer has seen it.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.command(Command::Close(done)).await.is_ok() {
            // An error says that the pump is gone: closed as well.
            let _ = closed.await;
        }
    }

    async fn command(&self, command: Command) -> Result<(), LinkError> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| LinkError::Ended)
    }
}

impl<In> Receiver<In> {
    /// The next frame; `None` once the peer has closed the link.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// Why the link ended otherwise.
    pub async fn next(&mut self) -> Result<Option<In>, LinkError> {
        self.frames.recv().await.transpose()
    }
}
