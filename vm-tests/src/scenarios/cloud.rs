//! A cloud that adds its own configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{ensure, Result};

use crate::{
    command,
    guest::{Guest, Seed},
    stage::{Boot, Set},
};

/// What the cloud would have run as root.
const HOSTILE: &str = "#cloud-config\nruncmd:\n  - touch /etc/foreign-was-here\nbootcmd:\n  - touch /etc/foreign-was-here\n";

/// User-data, vendor-data and an attached seed disk, all at once.
pub(super) fn foreign_user_data(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let stage = set.stage(name, guest)?;
    let boot = Boot {
        seed: Seed {
            user_data: HOSTILE.into(),
            vendor_data: HOSTILE.into(),
            ..Seed::default()
        },
        second_disk: Some(cidata(&stage.directory)?),
        ..Boot::default()
    };
    let provisioned = stage.provisioned(boot)?;
    guest.ok("timeout 100 cloud-init status --wait || true")?;
    let foreign = guest.run("ls /etc/foreign-was-here", crate::stage::PATIENCE)?;
    ensure!(foreign.code != 0, "the cloud's configuration ran");
    ensure!(
        guest.ok("cat /etc/bootkeep-applied")? == "sealed",
        "the owner's configuration did not"
    );
    let status = stage.status(&provisioned.node)?;
    let claims = status["claims"].to_string();
    ensure!(
        claims.contains("cloud-init"),
        "the node has not reported it: {status}"
    );
    Ok(())
}

/// A FAT disk labelled `cidata`, as NoCloud looks for it.
fn cidata(directory: &Path) -> Result<PathBuf> {
    let (disk, file) = (directory.join("cidata.img"), directory.join("cidata"));
    fs::write(&file, HOSTILE)?;
    fs::File::create(&disk)?.set_len(1024 * 1024)?;
    command::output(Command::new("mkfs.vfat").args(["-n", "cidata"]).arg(&disk))?;
    for name in ["user-data", "vendor-data", "meta-data"] {
        command::output(
            Command::new("mcopy")
                .arg("-i")
                .arg(&disk)
                .arg(&file)
                .arg(format!("::{name}")),
        )?;
    }
    Ok(disk)
}
