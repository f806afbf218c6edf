//! The socket systemd-cryptsetup reads the volume's key from (`crypttab(5)`, "AF_UNIX key files").

use std::{io, os::unix::net::UnixListener as StdListener, path::Path, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

use crate::GaveUp;

/// How often the device is looked for.
const LOOK: Duration = Duration::from_millis(10);
/// How long one reader may take.
const WRITE: Duration = Duration::from_secs(10);

/// The listening socket `/run/cryptsetup-keys.d/VOLUME.key`.
#[derive(Debug)]
pub struct KeySocket(UnixListener);

impl KeySocket {
    /// Takes over the socket that systemd has opened.
    ///
    /// # Errors
    /// [`GaveUp::Io`].
    pub fn new(listener: StdListener) -> Result<Self, GaveUp> {
        let take = |listener: StdListener| {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        };
        take(listener)
            .map(Self)
            .map_err(GaveUp::io("the key socket"))
    }

    /// The next reader, who must be root.
    async fn reader(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.0.accept().await?;
            if stream.peer_cred()?.uid() == nix::unistd::geteuid().as_raw() {
                return Ok(stream);
            }
            eprintln!("bootkeep: refused: a process of another user asked for the key");
        }
    }

    /// Gives every reader what `key` says at that moment, until `device` is there. Calls `first` after the first one.
    ///
    /// Whoever reads is about to open the volume: its disk is there.
    pub(crate) async fn feed(
        &self,
        mut key: impl FnMut() -> Zeroizing<Vec<u8>>,
        device: &Path,
        mut first: impl AsyncFnMut(),
    ) -> io::Result<()> {
        let mut fed = false;
        loop {
            tokio::select! {
                biased;
                () = appears(device) => return Ok(()),
                reader = self.reader() => {
                    let wrote = timeout(WRITE, write(reader?, &key())).await;
                    if !fed && matches!(wrote, Ok(Ok(()))) {
                        fed = true;
                        first().await;
                    }
                }
            }
        }
    }
}

async fn write(mut stream: UnixStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.shutdown().await
}

async fn appears(device: &Path) {
    while !device.exists() {
        sleep(LOOK).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn every_reader_gets_the_key_until_the_device_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (path, device) = (folder.path().join("s"), folder.path().join("device"));
        let socket = KeySocket::new(StdListener::bind(&path).unwrap()).unwrap();
        let mut firsts = 0;
        let readers = async {
            for _ in 0..2 {
                let mut key = Vec::new();
                UnixStream::connect(&path)
                    .await
                    .unwrap()
                    .read_to_end(&mut key)
                    .await
                    .unwrap();
                assert_eq!(key, b"key");
            }
            std::fs::write(&device, "").unwrap();
        };
        let (fed, ()) = tokio::join!(
            socket.feed(|| b"key".to_vec().into(), &device, async || firsts += 1),
            readers
        );
        fed.unwrap();
        assert_eq!(firsts, 1);
    }
}
