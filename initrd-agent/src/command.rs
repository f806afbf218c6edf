//! How this program is started: by systemd with a key socket, or by the scripts of an initramfs without systemd.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, Read, Write},
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use listenfd::ListenFd;
use zeroize::Zeroizing;

use crate::GaveUp;

/// Where systemd-cryptsetup looks for `VOLUME.key`; the same place serves initramfs-tools.
const KEYS: &str = "/run/cryptsetup-keys.d";
/// How long the reader waits for an agent that is being started beside it.
const START: Duration = Duration::from_secs(30);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);
/// More than cryptsetup reads from a key file (bytes).
const MAX_KEY: u64 = 8 * 1024 * 1024;

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Unlock; systemd has opened the key socket as descriptor 3.
    Unlock,
    /// Unlock; the key socket is made by this program.
    Listen,
    /// Print the key that the agent gives out. Empty: a person is to be asked.
    Key,
}

impl Command {
    /// Of the arguments behind the program's name; `None` when they are not understood.
    #[must_use]
    pub fn of(arguments: &[String]) -> Option<Self> {
        match arguments {
            [] => Some(Self::Unlock),
            [word] if word == "listen" => Some(Self::Listen),
            [word] if word == "key" => Some(Self::Key),
            _ => None,
        }
    }
}

/// Where the key of this volume is read.
#[must_use]
pub fn socket_of(volume: &str) -> PathBuf {
    Path::new(KEYS).join(format!("{volume}.key"))
}

/// The socket that systemd has opened.
///
/// # Errors
/// [`GaveUp::NoSocket`].
pub fn inherited() -> Result<UnixListener, GaveUp> {
    ListenFd::from_env()
        .take_unix_listener(0)
        .ok()
        .flatten()
        .ok_or(GaveUp::NoSocket)
}

/// Opens the socket where there is no systemd: mode 0600 in a folder of mode 0700, as systemd's.
///
/// # Errors
/// [`GaveUp::Io`].
pub fn listen(path: &Path) -> Result<UnixListener, GaveUp> {
    bind(path).map_err(GaveUp::io("the key socket"))
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Reads the key at the socket and writes it to `output`; says whether there was one.
///
/// It waits as long as the agent does, and a little for an agent that is only being started.
///
/// # Errors
/// When there is no agent, or it ends without an answer.
pub fn print_key(path: &Path, output: &mut impl Write) -> io::Result<bool> {
    let mut key = Zeroizing::new(Vec::new());
    connect(path, START)?.take(MAX_KEY).read_to_end(&mut key)?;
    output.write_all(&key)?;
    output.flush()?;
    Ok(!key.is_empty())
}

fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let end = Instant::now() + patience;
    loop {
        match UnixStream::connect(path) {
            Err(error) if is_not_yet(&error) && Instant::now() < end => thread::sleep(LOOK),
            result => return result,
        }
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn the_command_line_is_one_word_or_none() {
        assert_eq!(Command::of(&words("")), Some(Command::Unlock));
        assert_eq!(Command::of(&words("listen")), Some(Command::Listen));
        assert_eq!(Command::of(&words("key")), Some(Command::Key));
        for bad in ["--key", "key key", "listen x", "help"] {
            assert_eq!(Command::of(&words(bad)), None, "{bad}");
        }
    }

    #[test]
    fn the_socket_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/v.key");
        fs::create_dir(folder.path().join("keys")).unwrap();
        fs::write(&path, "left over").unwrap();
        let _listener = listen(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }

    /// What the reader prints when the agent answers with these bytes.
    fn read(answer: &'static [u8]) -> (bool, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/v.key");
        let agent = path.clone();
        let agent = thread::spawn(move || {
            // The reader is there first.
            thread::sleep(2 * LOOK);
            let (mut stream, _) = listen(&agent).unwrap().accept().unwrap();
            stream.write_all(answer).unwrap();
        });
        let mut printed = Vec::new();
        let found = print_key(&path, &mut printed).unwrap();
        agent.join().unwrap();
        (found, printed)
    }

    #[test]
    fn the_key_is_printed_as_it_is() {
        let key = b"\0binary\nkey\xff";
        assert_eq!(read(key), (true, key.to_vec()));
        assert_eq!(read(b""), (false, Vec::new()));
    }

    #[test]
    fn without_an_agent_nothing_is_printed() {
        let folder = tempfile::tempdir().unwrap();
        let missing = connect(&folder.path().join("v.key"), Duration::ZERO);
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// An agent that dies while somebody waits is not one that says "ask a person".
    #[test]
    fn an_agent_that_ends_before_it_answers_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.key");
        let listener = listen(&path).unwrap();
        let reader = thread::spawn({
            let path = path.clone();
            move || print_key(&path, &mut Vec::new())
        });
        // The connection is in the backlog, unanswered.
        let waiting = UnixStream::connect(&path).unwrap();
        thread::sleep(4 * LOOK);
        drop(listener);
        assert!(reader.join().unwrap().is_err());
        drop(waiting);
    }
}
