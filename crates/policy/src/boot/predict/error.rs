//! Why the next boot, or a part of it, cannot be foretold.

/// Why there is no prediction at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PredictError {
    /// The log has nothing that the file would take the place of.
    #[error("the last boot has no event of {0}, so nothing says what {1} changes; was the right file named?")]
    NoPlace(&'static str, &'static str),
    /// No boot loader of that name.
    #[error("no boot loader called {name:?} started; PCR 4 has {found}")]
    Loader {
        /// The new file's name.
        name: String,
        /// Names in the log.
        found: String,
    },
    /// An event that lies about itself.
    #[error("{event}: {problem}: this boot is no base for a prediction")]
    Log {
        /// Which.
        event: String,
        /// Why.
        problem: String,
    },
    /// Not a kernel that QEMU loads itself.
    #[error("the kernel cannot be loaded by QEMU: {0}")]
    QemuKernel(&'static str),
    /// A text that no boot has.
    #[error("{0} has more than {1} characters")]
    TooLong(&'static str, usize),
}

/// An event of the next boot whose digest is not known: its PCR is open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event}: {why}")]
pub struct Open {
    /// Its PCR.
    pub pcr: u8,
    /// Number in the log of the last boot; the header is 0.
    pub number: usize,
    /// The event of the last boot, for people.
    pub event: String,
    /// Why.
    pub why: Why,
}

/// Why a digest is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// QEMU's `-kernel`.
    #[error("QEMU writes the place of the initramfs into the kernel it is given: name the kernel, the initramfs and the machine's memory (--qemu-memory)")]
    Qemu,
    /// A kernel of an unknown kind.
    #[error("the new kernel has no Authenticode digest: it is no PE image, or the node did not report it")]
    Authenticode,
    /// Kernel of another version, and its file is not there.
    #[error("it is of the old version {0}: name the new file")]
    OldVersion(String),
    /// Only the digest of the image is known.
    #[error(
        "the digest of a unified kernel image does not tell what is in it: name the file (--uki)"
    )]
    Contents,
    /// More than one initramfs.
    #[error("GRUB loads several initramfs files, and the kernel measures them as one")]
    Several,
    /// A newer systemd-stub.
    #[error("systemd-stub {0} adds archives to the initramfs that are not known here")]
    Archives(u32),
    /// Only the digest of the old command line is known.
    #[error("the log holds only the digest of the command line, and it is not that of a text that is known: name the whole new command line (--cmdline)")]
    LoadOptions,
    /// `grub.cfg` is written anew for each kernel.
    #[error("the new kernel has another name, so this file changes: name it (--config)")]
    Config,
    /// The menu comes from `grub.cfg`.
    #[error("the menu is written in grub.cfg: name the new file (--config)")]
    Menu,
    /// The menu has changed.
    #[error("the new grub.cfg has no such entry, or one whose words are not known before it runs")]
    MenuEntry,
}
