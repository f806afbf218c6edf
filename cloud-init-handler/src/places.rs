//! Where everything lies on the node.

use std::path::{Path, PathBuf};

use bootkeep_handover::{Handover, DIRECTORY};

/// The paths the program reads and writes.
#[derive(Clone, Debug)]
pub struct Places {
    /// `/run/bootkeep`.
    pub handover: Handover,
    /// The owner's choices.
    pub(crate) config: PathBuf,
    /// The guard as the package ships it.
    pub(crate) guard: PathBuf,
    /// The folder cloud-init loads handlers from.
    pub(crate) handlers: PathBuf,
    /// Makes the instance's name say nothing about the user-data. On the encrypted root, 0600.
    pub(crate) salt: PathBuf,
    /// cloud-init's runtime folder; its `cloud.cfg` beats everything under `/etc/cloud`.
    pub(crate) cloud_run: PathBuf,
    /// The kernel's command line.
    pub(crate) cmdline: PathBuf,
    /// The firmware's serial number, in which clouds name a seed.
    pub(crate) serial: PathBuf,
    /// Names of attached file systems.
    pub(crate) labels: PathBuf,
    /// The interpreter that cloud-init runs on.
    pub(crate) python: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self::under(Path::new("/"))
    }
}

impl Places {
    /// The same layout below another root.
    #[must_use]
    pub fn under(root: &Path) -> Self {
        let at = |path: &str| root.join(path.trim_start_matches('/'));
        Self {
            handover: Handover::at(&at(DIRECTORY)),
            config: at("/etc/bootkeep/cloud-init.yaml"),
            guard: at("/usr/share/bootkeep/bootkeep_sealed.py"),
            handlers: at("/var/lib/cloud/handlers"),
            salt: at("/var/lib/bootkeep/instance-salt"),
            cloud_run: at("/run/cloud-init"),
            cmdline: at("/proc/cmdline"),
            serial: at("/sys/class/dmi/id/product_serial"),
            labels: at("/dev/disk/by-label"),
            python: at("/usr/bin/python3"),
        }
    }

    /// What this program remembers of this boot, 0700.
    pub(crate) fn memory(&self) -> PathBuf {
        self.handover.directory().join("cloud-init")
    }

    /// The NoCloud seed made of the envelope's documents, 0700.
    pub(crate) fn seed(&self) -> PathBuf {
        self.handover.directory().join("seed")
    }
}
