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
    stage::{Boot, Set, PATIENCE, USER_DATA},
};

/// What the cloud would have run as root.
const HOSTILE: &str = "#cloud-config\nruncmd:\n  - touch /etc/foreign-was-here\nbootcmd:\n  - touch /etc/foreign-was-here\n";

/// The same as a script.
const SCRIPT: &str = "#!/bin/sh\ntouch /etc/foreign-was-here\n";

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
    let foreign = guest.run("ls /etc/foreign-was-here", PATIENCE)?;
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

/// Sealed user-data comes as a part through the cloud's metadata service, which has put a part of its own beside it.
pub(super) fn foreign_part(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let stage = set.stage(name, guest)?;
    let (sealed, key) = stage.owner.seal(USER_DATA)?;
    let parts = [
        ("text/cloud-config", HOSTILE),
        ("text/x-bootkeep-sealed", &sealed),
        ("text/x-shellscript", SCRIPT),
    ];
    let seed = Seed {
        user_data: multipart(&parts).into(),
        ..Seed::default()
    };
    let provisioned = stage.provisioned_with(
        Boot {
            seed,
            ..Boot::default()
        },
        |provision| {
            provision.user_data = None;
            provision.user_data_key = Some(key);
        },
    )?;
    guest.ok("timeout 100 cloud-init status --wait || true")?;
    let foreign = guest.run("ls /etc/foreign-was-here", PATIENCE)?;
    ensure!(foreign.code != 0, "the cloud's part ran");
    ensure!(
        guest.ok("cat /etc/bootkeep-applied")? == "sealed",
        "the owner's part did not"
    );
    let claims = stage.status(&provisioned.node)?["claims"].to_string();
    ensure!(
        claims.contains("cloud-init-unsealed-part"),
        "the node has not reported it: {claims}"
    );
    Ok(())
}

/// A MIME message as clouds take it (RFC 2046).
fn multipart(parts: &[(&str, &str)]) -> String {
    let mut message =
        String::from("Content-Type: multipart/mixed; boundary=\"part\"\nMIME-Version: 1.0\n\n");
    for (kind, content) in parts {
        message += &format!("--part\nContent-Type: {kind}\nMIME-Version: 1.0\n\n{content}\n");
    }
    message + "--part--\n"
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
