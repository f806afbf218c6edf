//! The main job.

use anyhow::{ensure, Result};

use crate::{
    guest::Guest,
    stage::{Boot, Provisioned, Set, Stage},
};

/// On SeaBIOS.
pub(super) fn quick(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    prove(&set.stage(name, guest)?, false)
}

/// On OVMF, whose event log covers kernel, command line and initramfs.
pub(super) fn measured(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    prove(&set.stage(name, guest)?, true)
}

fn prove(stage: &Stage<'_>, measured: bool) -> Result<()> {
    let boot = Boot {
        measured,
        ..Boot::default()
    };
    holds(stage, &stage.provisioned(boot)?)
}

/// The root is open, user-data applied, everything handed over and taken, the node trusted, PCR 15 closed.
pub(super) fn holds(stage: &Stage<'_>, provisioned: &Provisioned) -> Result<()> {
    let guest = &stage.bay.guest;
    let root = guest.ok("findmnt --noheadings --output SOURCE /")?;
    ensure!(root.trim() == "/dev/mapper/cryptroot", "the root is {root}");
    let applied = guest.ok("cat /etc/bootkeep-applied")?;
    ensure!(applied == "sealed", "cloud-init wrote {applied:?}");
    let left = guest.ok("find /run/bootkeep -type f")?;
    ensure!(!left.contains(".json"), "a hand-over was not taken: {left}");
    let failed = guest.ok("systemctl --failed --no-legend --plain")?;
    ensure!(!failed.contains("bootkeep"), "failed units: {failed}");
    let status = stage.status(&provisioned.node)?;
    ensure!(status["state"] == "trusted", "the node is {status}");
    let pcr = guest.ok("cat /sys/class/tpm/tpm0/pcr-sha256/15")?;
    ensure!(
        pcr.trim().chars().any(|digit| digit != '0'),
        "PCR 15 is not latched"
    );
    Ok(())
}
