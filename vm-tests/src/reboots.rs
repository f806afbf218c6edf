//! A machine that is switched on again and again, and opens its root without its owner.

use std::{cell::OnceCell, path::PathBuf};

use anyhow::{Context, Result};

use crate::{
    bay::copy_disk,
    guest::Guest,
    owner::Owner,
    serial::Watcher,
    stage::{Boot, Booted, Set, Stage, GAVE_UP, OPEN, PATIENCE},
    swtpm::SoftTpm,
};

/// What `bootkeep provision` is told beside what every machine is.
pub const UNATTENDED: &str = "--unattended";

/// Nodes that were provisioned for unattended reboots and switched off in order, one for each firmware. Scenarios go on
/// from copies of them.
#[derive(Debug, Default)]
pub struct Enrolled {
    seabios: OnceCell<Asleep>,
    ovmf: OnceCell<Asleep>,
}

/// A node that is off.
#[derive(Clone, Debug)]
struct Asleep {
    owner: Owner,
    tpm: SoftTpm,
    disk: PathBuf,
    node: String,
}

impl Enrolled {
    fn of(&self, set: &Set, guest: &Guest, measured: bool) -> Result<&Asleep> {
        let (cell, name) = if measured {
            (&self.ovmf, "unattended-ovmf")
        } else {
            (&self.seabios, "unattended-seabios")
        };
        if cell.get().is_none() {
            let text = format!("a node for unattended reboots ({name})");
            let asleep = set
                .progress
                .step(&text, || enrol(set, guest, name, measured))?;
            let _ = cell.set(asleep);
        }
        cell.get().context("no node was enrolled")
    }
}

fn enrol(set: &Set, guest: &Guest, name: &str, measured: bool) -> Result<Asleep> {
    let machine = Unattended::provisioned(set.stage(name, guest)?, measured)?;
    let Unattended {
        stage, disk, node, ..
    } = machine;
    Ok(Asleep {
        owner: stage.owner.clone(),
        tpm: stage.bay.tpm.clone(),
        disk,
        node,
    })
}

/// One machine with its own disk and TPM, enrolled for unattended reboots, switched off.
#[derive(Debug)]
pub struct Unattended<'a> {
    /// Its owner, and where it stands.
    pub stage: Stage<'a>,
    /// Its id.
    pub node: String,
    /// Its disk.
    pub disk: PathBuf,
    measured: bool,
}

impl<'a> Unattended<'a> {
    /// Provisions a new machine and switches it off.
    ///
    /// # Errors
    /// When it does not become trusted.
    pub fn provisioned(stage: Stage<'a>, measured: bool) -> Result<Self> {
        let disk = stage.bay.own_disk(&stage.set.image)?;
        let boot = Boot {
            measured,
            disk: Some(&disk),
            ..Boot::default()
        };
        let provisioned = stage.provisioned_with(boot, |provision| {
            provision.more.push(UNATTENDED.into());
        })?;
        provisioned.booted.switch_off(&stage.bay)?;
        Ok(Self {
            node: provisioned.node,
            stage,
            disk,
            measured,
        })
    }

    /// A copy of the machine that this run has provisioned, with a copy of its owner.
    ///
    /// # Errors
    /// When there is none and none can be provisioned.
    pub fn copied(set: &'a Set, guest: &Guest, name: &str, measured: bool) -> Result<Self> {
        let asleep = set.enrolled.of(set, guest, measured)?;
        let mut stage = set.stage_of(&asleep.owner, name, guest)?;
        stage.bay.tpm = asleep.tpm.copy_to(&stage.bay.directory.join("tpm"))?;
        let disk = stage.bay.directory.join("disk.img");
        copy_disk(&asleep.disk, &disk)?;
        Ok(Self {
            stage,
            node: asleep.node.clone(),
            disk,
            measured,
        })
    }

    /// Switches it on.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn boot(&self) -> Result<Booted> {
        self.boot_with(Boot::default())
    }

    /// Switches it on otherwise: its firmware and, where nothing else is said, its disk are its own.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn boot_with(&self, boot: Boot<'_>) -> Result<Booted> {
        let silent: Watcher = Box::new(|_| {});
        let boot = Boot {
            measured: self.measured,
            disk: boot.disk.or(Some(&self.disk)),
            ..boot
        };
        self.stage.boot_in(&self.stage.bay, boot, silent)
    }

    /// Switches it on and waits until its root is open, with nobody's help.
    ///
    /// # Errors
    /// When it does not open.
    pub fn opens(&self) -> Result<Booted> {
        let booted = self.boot()?;
        booted.vm.serial.wait(OPEN, &[GAVE_UP], PATIENCE)?;
        Ok(booted)
    }

    /// The same, and waits until it is trusted and can be spoken to.
    ///
    /// # Errors
    /// When it is not.
    pub fn comes_up(&self) -> Result<Booted> {
        let mut booted = self.opens()?;
        let alive = || booted.vm.is_running();
        self.stage.bay.guest.wait_until_up(PATIENCE, alive)?;
        self.stage
            .wait_for_state(&self.node, "trusted", PATIENCE)
            .context("after an unattended reboot")?;
        Ok(booted)
    }

    /// A disk like its own, for another machine.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn clone_disk(&self, name: &str) -> Result<PathBuf> {
        let disk = self.stage.directory.join(name);
        copy_disk(&self.disk, &disk)?;
        Ok(disk)
    }
}
