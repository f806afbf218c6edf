//! The task between the halves of an end and the socket.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use bootkeep_protocol::limits::{MAX_FRAME, PING_SECONDS, SILENCE_SECONDS, WRITE_SECONDS};
use futures_util::{Sink, Stream};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    time::{sleep_until, timeout, Instant},
};
use tokio_tungstenite::{
    tungstenite::{
        error::Error as WsError,
        protocol::{frame::coding::CloseCode, CloseFrame, Message},
    },
    WebSocketStream,
};

use crate::{watched::Watched, LinkError};

const PING: Duration = Duration::from_secs(PING_SECONDS);
const SILENCE: Duration = Duration::from_secs(SILENCE_SECONDS);
const WRITE: Duration = Duration::from_secs(WRITE_SECONDS);
/// How long the peer may take to answer a good-bye.
const GOOD_BYE: Duration = Duration::from_secs(2);

/// What the sending half wants.
#[derive(Debug)]
pub(super) enum Command {
    /// Write this text, then say so.
    Frame(String, oneshot::Sender<()>),
    /// Let the peer send as much as it likes.
    Accept,
    /// End the link, then say so.
    Close(oneshot::Sender<()>),
}

/// One thing that happened.
enum Step {
    Read(Option<Result<Message, WsError>>),
    Flushed(Result<(), WsError>),
    Command(Option<Command>),
    Room,
    Abandoned,
    Time,
}

/// A frame on its way out.
struct Writing {
    since: Instant,
    done: oneshot::Sender<()>,
}

pub(super) struct Pump<S, In> {
    socket: WebSocketStream<Watched<S>>,
    commands: mpsc::Receiver<Command>,
    incoming: mpsc::Sender<Result<In, LinkError>>,
    writing: Option<Writing>,
    /// Something may still be in the socket's buffer.
    unflushed: bool,
    /// Silence counts from here at the earliest: before, we did not listen.
    listening_since: Instant,
    /// The peer's last sign of life when it was pinged last.
    pinged_after: Option<Instant>,
}

/// Why the pump stops: with an error for the application, a good-bye for the peer, or neither.
struct Stop {
    error: Option<LinkError>,
    code: Option<CloseCode>,
    closed: Option<oneshot::Sender<()>>,
}

impl Stop {
    fn gone(error: LinkError) -> Self {
        Self {
            error: Some(error),
            code: None,
            closed: None,
        }
    }

    fn refused(error: LinkError, code: CloseCode) -> Self {
        Self {
            code: Some(code),
            ..Self::gone(error)
        }
    }

    fn ours(closed: Option<oneshot::Sender<()>>) -> Self {
        Self {
            error: None,
            code: Some(CloseCode::Normal),
            closed,
        }
    }

    fn theirs() -> Self {
        Self {
            error: None,
            code: None,
            closed: None,
        }
    }
}

impl<S, In> Pump<S, In>
where
    S: AsyncRead + AsyncWrite + Unpin,
    In: DeserializeOwned,
{
    pub(super) fn new(
        socket: WebSocketStream<Watched<S>>,
        commands: mpsc::Receiver<Command>,
        incoming: mpsc::Sender<Result<In, LinkError>>,
    ) -> Self {
        Self {
            socket,
            commands,
            incoming,
            writing: None,
            unflushed: false,
            listening_since: Instant::now(),
            pinged_after: None,
        }
    }

    pub(super) async fn run(mut self) {
        let stop = loop {
            let step = self.step().await;
            if let Err(stop) = self.handle(step) {
                break stop;
            }
        };
        self.end(stop).await;
    }

    async fn step(&mut self) -> Step {
        let room = self.incoming.capacity() > 0;
        let due = self.due();
        let idle = self.writing.is_none();
        let (socket, unflushed) = (&mut self.socket, self.unflushed);
        tokio::select! {
            step = poll_fn(|cx| {
                if unflushed {
                    if let Poll::Ready(flushed) = Pin::new(&mut *socket).poll_flush(cx) {
                        return Poll::Ready(Step::Flushed(flushed));
                    }
                }
                match room {
                    true => Pin::new(&mut *socket).poll_next(cx).map(Step::Read),
                    false => Poll::Pending,
                }
            }) => step,
            command = self.commands.recv(), if idle => Step::Command(command),
            // The permit is given back at once: only this task puts frames in.
            permit = self.incoming.reserve(), if !room => permit.map_or(Step::Abandoned, |_| Step::Room),
            () = self.incoming.closed() => Step::Abandoned,
            () = sleep_until(due) => Step::Time,
        }
    }

    fn handle(&mut self, step: Step) -> Result<(), Stop> {
        match step {
            Step::Read(message) => self.take(message),
            Step::Flushed(result) => self.flushed(result),
            Step::Command(command) => self.obey(command),
            Step::Room => {
                self.listening_since = Instant::now();
                Ok(())
            }
            Step::Abandoned => Err(Stop::ours(None)),
            Step::Time => self.look_at_the_clock(),
        }
    }

    fn take(&mut self, message: Option<Result<Message, WsError>>) -> Result<(), Stop> {
        match message {
            None | Some(Ok(Message::Close(_))) => Err(Stop::theirs()),
            Some(Err(error)) => Err(unreadable(&error)),
            Some(Ok(Message::Text(text))) => self.deliver(&text),
            Some(Ok(Message::Binary(_))) => {
                Err(Stop::refused(LinkError::Binary, CloseCode::Unsupported))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                // The answer to a ping is in the socket's buffer.
                self.unflushed = true;
                Ok(())
            }
        }
    }

    fn deliver(&mut self, text: &str) -> Result<(), Stop> {
        let frame = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Stop::refused(LinkError::Json { line, column }, CloseCode::Invalid)
        })?;
        // There is room, or we would not have read.
        let taken = self.incoming.try_send(Ok(frame));
        taken.map_err(|_| Stop::ours(None))
    }

    fn flushed(&mut self, result: Result<(), WsError>) -> Result<(), Stop> {
        result.map_err(|error| unreadable(&error))?;
        self.unflushed = false;
        if let Some(writing) = self.writing.take() {
            // The peer was busy taking this: it could not answer in the meantime.
            if writing.since.elapsed() > Duration::from_secs(1) {
                self.listening_since = Instant::now();
            }
            // Nobody waits when the caller was cancelled.
            let _ = writing.done.send(());
        }
        Ok(())
    }

    fn obey(&mut self, command: Option<Command>) -> Result<(), Stop> {
        match command {
            Some(Command::Frame(text, done)) => {
                self.put(Message::text(text))?;
                self.writing = Some(Writing {
                    since: Instant::now(),
                    done,
                });
                Ok(())
            }
            Some(Command::Accept) => {
                self.socket.get_mut().lift_allowance();
                Ok(())
            }
            Some(Command::Close(closed)) => Err(Stop::ours(Some(closed))),
            None => Err(Stop::ours(None)),
        }
    }

    fn put(&mut self, message: Message) -> Result<(), Stop> {
        self.unflushed = true;
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(|error| unreadable(&error))
    }

    fn heard(&self) -> Instant {
        self.socket.get_ref().last_read().max(self.listening_since)
    }

    /// When the clock is to be looked at next.
    fn due(&self) -> Instant {
        if let Some(writing) = &self.writing {
            let moved = self.socket.get_ref().last_write().max(writing.since);
            return (moved + SILENCE).min(writing.since + WRITE);
        }
        let heard = self.heard();
        match self.pinged_after == Some(heard) {
            true => heard + SILENCE,
            false => heard + PING,
        }
    }

    fn look_at_the_clock(&mut self) -> Result<(), Stop> {
        if Instant::now() < self.due() {
            return Ok(());
        }
        if self.writing.is_some() {
            return Err(Stop::gone(LinkError::Stuck(SILENCE_SECONDS)));
        }
        if self.incoming.capacity() == 0 {
            // We do not listen now, so silence says nothing.
            self.listening_since = Instant::now();
            return Ok(());
        }
        if self.heard().elapsed() >= SILENCE {
            return Err(Stop::gone(LinkError::Silent(SILENCE_SECONDS)));
        }
        self.pinged_after = Some(self.heard());
        self.put(Message::Ping(Default::default()))
    }

    async fn end(mut self, stop: Stop) {
        if let Some(error) = stop.error {
            // Fails when nobody listens any more, or has not listened for long: the end of the channel says enough.
            let _ = self.incoming.try_send(Err(error));
        }
        if let Some(code) = stop.code {
            let _ = timeout(GOOD_BYE, self.say_good_bye(code)).await;
        }
        if let Some(closed) = stop.closed {
            let _ = closed.send(());
        }
    }

    async fn say_good_bye(&mut self, code: CloseCode) {
        let frame = CloseFrame {
            code,
            reason: "".into(),
        };
        if self.socket.close(Some(frame)).await.is_err() {
            return;
        }
        while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut self.socket).poll_next(cx)).await {}
    }
}

fn unreadable(error: &WsError) -> Stop {
    match error {
        WsError::Capacity(_) | WsError::WriteBufferFull(_) => {
            Stop::refused(LinkError::TooLarge(MAX_FRAME), CloseCode::Size)
        }
        WsError::ConnectionClosed | WsError::AlreadyClosed => Stop::theirs(),
        other => Stop::gone(LinkError::Transport(other.to_string())),
    }
}
