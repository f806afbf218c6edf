//! Whether a person was asked for a passphrase: systemd puts a file `ask.…` for each question into a folder.

use std::{fs, io, os::unix::ffi::OsStrExt, path::Path};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

/// Sees every question from its making on, also one that was answered and is gone.
#[derive(Debug)]
pub(crate) struct Prompts(Inotify);

impl Prompts {
    /// Watches the folder, which is made when it is not there yet.
    pub(crate) fn watch(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let made = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        watch.add_watch(folder, made)?;
        Ok(Self(watch))
    }

    /// Whether there was a question since the last look. More events than the kernel keeps count as one.
    pub(crate) fn seen(&self) -> io::Result<bool> {
        let mut seen = false;
        loop {
            match self.0.read_events() {
                Ok(events) => {
                    seen |= events.iter().any(|event| {
                        let name = event.name.as_ref();
                        event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
                            || name.is_some_and(|name| name.as_bytes().starts_with(b"ask."))
                    });
                }
                Err(Errno::EAGAIN) => return Ok(seen),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_is_gone_was_still_asked() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("ask-password");
        let prompts = Prompts::watch(&folder).unwrap();
        assert!(!prompts.seen().unwrap());
        fs::write(folder.join("tmp.x"), "").unwrap();
        assert!(!prompts.seen().unwrap());
        fs::rename(folder.join("tmp.x"), folder.join("ask.x")).unwrap();
        fs::remove_file(folder.join("ask.x")).unwrap();
        assert!(prompts.seen().unwrap());
        assert!(!prompts.seen().unwrap());
    }
}
