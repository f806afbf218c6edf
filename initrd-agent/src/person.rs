//! A person at the console who will not wait for the deadline.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use nix::fcntl::OFlag;
use tokio::time::sleep;

/// What is to be typed, before Enter: noise on a serial line is not this.
const WORD: &[u8] = b"p";
/// How often the terminal is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Longest line that is looked at (bytes).
const MAX_LINE: usize = 64;

/// Ends when somebody types `p` and Enter at this terminal; never, when it cannot be read.
///
/// Nothing is read any more once this is dropped: what is typed then is for whoever asks.
pub(crate) async fn asks(terminal: &Path) {
    if let Ok(terminal) = open(terminal) {
        if wait(&terminal).await.is_ok() {
            return;
        }
    }
    std::future::pending().await
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}

async fn wait(mut terminal: &File) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        let mut bytes = [0; MAX_LINE];
        let read = match terminal.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(LOOK).await;
                continue;
            }
            read => read?,
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for &byte in &bytes[..read] {
            match byte {
                b'\n' | b'\r' if line == WORD => return Ok(()),
                b'\n' | b'\r' => line.clear(),
                byte if line.len() < MAX_LINE => line.push(byte),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use nix::{sys::stat::Mode, unistd::mkfifo};
    use tokio::time::timeout;

    use super::*;

    /// Whether these words at a terminal are somebody who asks.
    async fn heard(typed: &[u8]) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("terminal");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let reader = open(&path).unwrap();
        let mut keyboard = OpenOptions::new().write(true).open(&path).unwrap();
        keyboard.write_all(typed).unwrap();
        // The end of what was typed is an error, and nobody has asked.
        drop(keyboard);
        timeout(Duration::from_secs(30), wait(&reader))
            .await
            .unwrap()
            .is_ok()
    }

    #[tokio::test]
    async fn only_the_word_and_enter_count() {
        for good in ["p\n", "p\r", "\n\np\n", "x\np\n"] {
            assert!(heard(good.as_bytes()).await, "{good:?}");
        }
        let long = [&[b'p'; 3 * MAX_LINE][..], b"\n"].concat();
        for bad in [&b"p"[..], b"\n\n\n", b"pp\n", b"xp\n", b"\0\xff\n", &long] {
            assert!(!heard(bad).await, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn without_a_terminal_nobody_asks() {
        let missing = asks(Path::new("/nonexistent/console"));
        assert!(timeout(Duration::from_millis(50), missing).await.is_err());
    }
}
