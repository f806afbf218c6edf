//! Gives the volume a key of this node alone, and takes away the one that every clone of the image has.
//!
//! Each step looks at what is there, so that a boot that was cut short is gone on with by the next:
//!
//! ```text
//! token "unfinished"  →  slot and token of the own key  →  slot and token of the recovery key
//!   →  (the next U is kept in the TPM)
//!   →  slots of older own and recovery keys removed  →  slots that the image's key opens removed  →  token removed
//! ```
//! The keys have 256 bits, so their slots need no slow key derivation: opening the volume gets faster, too.

use std::{
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::memfd::{memfd_create, MFdFlags};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    luks::{self, LuksProblem, Slots},
    own_key::{OwnKey, OWN, RECOVERY, UNFINISHED},
};

/// How long one run of cryptsetup may take: the image's slot may have a slow key derivation.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(10);
/// Slots of a LUKS2 header (specification 1.1, section 2.3).
const SLOTS: u32 = 32;
/// cryptsetup's exit code for a key that opens no slot.
const NO_PERMISSION: i32 = 2;

/// Why the keys were not exchanged; the volume still opens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RekeyError {
    #[error(transparent)]
    Header(#[from] LuksProblem),
    #[error("cryptsetup cannot be run: {0}; is it in the initramfs?")]
    Run(#[from] io::Error),
    #[error("cryptsetup {what} failed: {said}")]
    Cryptsetup { what: &'static str, said: String },
    #[error("the header has no free key slot; remove one: cryptsetup luksKillSlot")]
    NoFreeSlot,
}

/// The exchange to be made.
pub(crate) struct Rekey {
    pub(crate) cryptsetup: PathBuf,
    /// The device below the open volume.
    pub(crate) device: PathBuf,
    /// The key that has opened it.
    pub(crate) used: Zeroizing<Vec<u8>>,
    pub(crate) own: OwnKey,
    pub(crate) recovery: Option<Zeroizing<String>>,
    pub(crate) image: Option<Zeroizing<Vec<u8>>>,
}

impl Rekey {
    /// Adds the new keys; whether there is anything to do. The old ones still open the volume.
    pub(crate) fn add_new(&self) -> Result<bool, RekeyError> {
        let slots = self.slots()?;
        let unfinished = slots.token(UNFINISHED).is_some();
        if !unfinished && slots.names(OWN, &self.own.id) && self.recovered(&slots) {
            return Ok(false);
        }
        if !unfinished {
            self.token(&json!({ "type": UNFINISHED, "keyslots": [] }))?;
        }
        self.add(&*self.own.key, OWN, unfinished)?;
        if let Some(recovery) = &self.recovery {
            self.add(recovery.as_bytes(), RECOVERY, unfinished)?;
        }
        Ok(true)
    }

    /// Removes the old keys.
    pub(crate) fn remove_old(&self) -> Result<(), RekeyError> {
        self.remove_older()?;
        if let Some(image) = &self.image {
            if image.as_slice() != self.own.key.as_slice() {
                self.remove_key(image)?;
            }
        }
        match self.slots()?.token(UNFINISHED) {
            Some(token) => self.remove_token(token),
            None => Ok(()),
        }
    }

    fn recovered(&self, slots: &Slots) -> bool {
        self.recovery.is_none() || slots.names(RECOVERY, &self.own.id)
    }

    fn slots(&self) -> Result<Slots, RekeyError> {
        Ok(luks::slots(&self.device)?)
    }

    /// Adds a key and then the token that names it. A slot of this key without a token was left by a boot that was cut
    /// short, and is removed first; only then, since looking for it means trying the image's slow slot.
    fn add(&self, key: &[u8], kind: &'static str, resumed: bool) -> Result<(), RekeyError> {
        if self.slots()?.names(kind, &self.own.id) {
            return Ok(());
        }
        if resumed && key != self.used.as_slice() {
            self.remove_key(key)?;
        }
        let slots = self.slots()?;
        let slot = (0..SLOTS)
            .find(|slot| !slots.is_used(*slot))
            .ok_or(RekeyError::NoFreeSlot)?;
        let (used, new) = (secret(&self.used)?, secret(key)?);
        let mut command = self.cryptsetup("luksAddKey");
        command
            .args(["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"])
            .args(["--key-slot", &slot.to_string()])
            .arg("--key-file")
            .arg(path(&used))
            .arg(&self.device)
            .arg(path(&new));
        finish("luksAddKey", command.spawn()?)?;
        let token = json!({ "type": kind, "keyslots": [slot.to_string()], "key_id": self.own.id });
        self.token(&token)
    }

    /// Slots and tokens of keys that this node had before.
    fn remove_older(&self) -> Result<(), RekeyError> {
        for kind in [OWN, RECOVERY] {
            for token in self.slots()?.others(kind, &self.own.id) {
                for slot in &token.keyslots {
                    let mut command = self.cryptsetup("luksKillSlot");
                    command.arg(&self.device).arg(slot.to_string());
                    finish("luksKillSlot", command.spawn()?)?;
                }
                self.remove_token(token.number)?;
            }
        }
        Ok(())
    }

    /// Removes every slot that this key opens.
    fn remove_key(&self, key: &[u8]) -> Result<(), RekeyError> {
        for _ in 0..SLOTS {
            let file = secret(key)?;
            let mut command = self.cryptsetup("luksRemoveKey");
            command.arg(&self.device).arg(path(&file));
            match finish("luksRemoveKey", command.spawn()?) {
                Ok(()) => {}
                Err(RekeyError::Cryptsetup { said, .. }) if said.starts_with(NOTHING) => {
                    return Ok(())
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn token(&self, token: &serde_json::Value) -> Result<(), RekeyError> {
        let mut command = self.cryptsetup("token");
        command
            .args(["import", "--json-file", "-"])
            .arg(&self.device)
            .stdin(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(token.to_string().as_bytes())?;
        }
        finish("token import", child)
    }

    fn remove_token(&self, number: u32) -> Result<(), RekeyError> {
        let mut command = self.cryptsetup("token");
        command
            .args(["remove", "--token-id", &number.to_string()])
            .arg(&self.device);
        finish("token remove", command.spawn()?)
    }

    fn cryptsetup(&self, action: &str) -> Command {
        command(&self.cryptsetup, action)
    }
}

/// Whether a key opens a slot of this device. Slow when its slots are.
pub(crate) fn opens(cryptsetup: &Path, device: &Path, key: &[u8]) -> bool {
    let test = || {
        let file = secret(key)?;
        let mut command = command(cryptsetup, "open");
        command
            .args(["--test-passphrase", "--key-file"])
            .arg(path(&file))
            .arg(device);
        finish("open --test-passphrase", command.spawn()?)
    };
    test().is_ok()
}

fn command(cryptsetup: &Path, action: &str) -> Command {
    let mut command = Command::new(cryptsetup);
    command
        .arg(action)
        .arg("--batch-mode")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// How an error begins that says: this key opens no slot.
const NOTHING: &str = "no slot";

/// A file in memory that cryptsetup reads a key from; it is inherited by its number.
fn secret(key: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd_create(c"bootkeep", MFdFlags::empty())?;
    let mut rest = key;
    while !rest.is_empty() {
        let written = nix::unistd::write(&file, rest)?;
        rest = &rest[written..];
    }
    Ok(file)
}

fn path(file: &OwnedFd) -> PathBuf {
    Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
}

fn finish(what: &'static str, mut child: Child) -> Result<(), RekeyError> {
    let until = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() >= until {
            child.kill()?;
        }
        sleep(LOOK);
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().next().unwrap_or_default();
    let said = match output.status.code() {
        Some(NO_PERMISSION) => format!("{NOTHING} opens with this key: {line}"),
        Some(code) => format!("{line} (exit code {code})"),
        None => "it was ended".to_owned(),
    };
    Err(RekeyError::Cryptsetup { what, said })
}
