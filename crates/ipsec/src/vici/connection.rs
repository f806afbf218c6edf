//! One connection to charon, for requests one after the other, or for events.

use std::{future::Future, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};
use zeroize::Zeroizing;

use super::{
    packet::{Reply, Request},
    Message, ViciError, MAX_PACKET,
};

/// Most items of a stream.
const MAX_ITEMS: usize = 100_000;

/// A connection. After an error, or a request that was dropped, it must not be used again: its place in the stream is lost.
pub struct Connection(UnixStream);

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`ViciError::Connect`].
    pub async fn open(path: &Path) -> Result<Self, ViciError> {
        let stream = UnixStream::connect(path).await;
        stream.map(Self).map_err(|source| ViciError::Connect {
            path: path.to_owned(),
            source,
        })
    }

    /// A command and its answer.
    ///
    /// # Errors
    /// [`ViciError`]; [`ViciError::Refused`] when charon says that it failed.
    pub async fn request(
        &mut self,
        command: &str,
        message: &Message,
    ) -> Result<Message, ViciError> {
        self.send(&Request::Command(command, message)).await?;
        loop {
            match self.receive().await? {
                Reply::Response(answer) => return succeeded(command, answer),
                Reply::CommandUnknown => return Err(ViciError::Unknown(command.to_owned())),
                Reply::Event(..) => {}
                _ => return Err(ViciError::Malformed("an answer that was not asked for")),
            }
        }
    }

    /// A command whose answer is a series of events.
    ///
    /// # Errors
    /// [`ViciError`].
    pub async fn stream(
        &mut self,
        command: &str,
        event: &str,
        message: &Message,
    ) -> Result<Vec<Message>, ViciError> {
        self.subscribe(event).await?;
        self.send(&Request::Command(command, message)).await?;
        let mut items = Vec::new();
        while items.len() < MAX_ITEMS {
            match self.receive().await? {
                Reply::Event(name, item) if name == event => items.push(item),
                Reply::Event(..) => {}
                Reply::Response(answer) => return succeeded(command, answer).map(|_| items),
                Reply::CommandUnknown => return Err(ViciError::Unknown(command.to_owned())),
                _ => return Err(ViciError::Malformed("an answer that was not asked for")),
            }
        }
        Err(ViciError::Many(command.to_owned()))
    }

    /// Asks for an event to be sent.
    ///
    /// # Errors
    /// [`ViciError`].
    pub async fn subscribe(&mut self, event: &str) -> Result<(), ViciError> {
        self.send(&Request::Register(event)).await?;
        loop {
            match self.receive().await? {
                Reply::Confirm => return Ok(()),
                Reply::EventUnknown => return Err(ViciError::Unknown(event.to_owned())),
                // Of an earlier subscription. Who needs it subscribes to it last, and looks at the whole afterwards.
                Reply::Event(..) => {}
                _ => return Err(ViciError::Malformed("an answer that was not asked for")),
            }
        }
    }

    /// The next event, with its name. Waits as long as it takes.
    ///
    /// # Errors
    /// [`ViciError`], when charon goes away as well.
    pub async fn event(&mut self) -> Result<(String, Message), ViciError> {
        match self.receive().await? {
            Reply::Event(name, message) => Ok((name, message)),
            _ => Err(ViciError::Malformed("an answer that was not asked for")),
        }
    }

    async fn send(&mut self, request: &Request<'_>) -> Result<(), ViciError> {
        // A key may be in it.
        let bytes = Zeroizing::new(request.bytes()?);
        if bytes.len() > MAX_PACKET {
            return Err(ViciError::Large(bytes.len()));
        }
        Ok(self.0.write_all(&bytes).await?)
    }

    async fn receive(&mut self) -> Result<Reply, ViciError> {
        let length = usize::try_from(self.0.read_u32().await?).unwrap_or(usize::MAX);
        if length > MAX_PACKET {
            return Err(ViciError::Large(length));
        }
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await?;
        Reply::read(&bytes)
    }
}

/// Most commands answer `success`; those that give data do not.
fn succeeded(command: &str, answer: Message) -> Result<Message, ViciError> {
    if answer.text("success").is_none_or(|word| word == "yes") {
        return Ok(answer);
    }
    let reason = answer.text("errmsg").unwrap_or("no reason given");
    Err(ViciError::Refused {
        command: command.to_owned(),
        reason: bootkeep_protocol::limits::clean_text(reason),
    })
}

/// `work`, unless it takes longer.
///
/// # Errors
/// Its own, or [`ViciError::Deadline`].
pub(crate) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, ViciError>>,
) -> Result<T, ViciError> {
    timeout(deadline, work)
        .await
        .unwrap_or(Err(ViciError::Deadline(deadline)))
}
