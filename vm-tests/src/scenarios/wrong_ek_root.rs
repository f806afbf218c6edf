//! A TPM whose maker the owner does not trust.

use anyhow::{ensure, Result};

use crate::{
    guest::Guest,
    stage::{Boot, Set, PATIENCE, REFUSED},
    swtpm::{Manufacturer, SoftTpm},
};

pub(super) fn prove(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let mut stage = set.stage(name, guest)?;
    let stranger = Manufacturer::at(&stage.directory.join("stranger"))?;
    stage.bay.tpm = SoftTpm::made_by(&stranger, &stage.directory.join("tpm"))?;
    let booted = stage.boot(Boot {
        // One interface that nobody answers on must hold nothing up.
        idle_nic: true,
        ..Boot::default()
    })?;
    let said = booted.vm.serial.wait(REFUSED, &[], PATIENCE)?;
    ensure!(
        said.text.contains("EK") || said.text.contains("ek-"),
        "the console does not say why: {}",
        said.text
    );
    ensure!(stage.nodes()?.is_empty(), "the node was registered");
    booted.stays_locked()
}
