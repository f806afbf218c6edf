//! Boots that the policy does not know.

use anyhow::{ensure, Result};

use crate::{
    guest::Guest,
    owner::said,
    stage::{Boot, Set},
};

/// Exit code of `bootkeep` for a node that is not trusted.
const UNTRUSTED: i32 = 4;

/// A debug shell, asked for on the kernel command line.
pub(super) fn modified_cmdline(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    refused(
        set,
        guest,
        name,
        Boot {
            cmdline: "systemd.debug_shell",
            ..Boot::default()
        },
    )
}

/// A file more in the initramfs; nothing on the console or the disk shows it.
pub(super) fn modified_initramfs(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let extra = ("usr/bin/extra", b"#!/bin/sh\n".to_vec(), 0o755);
    refused(
        set,
        guest,
        name,
        Boot {
            overlay: vec![extra],
            ..Boot::default()
        },
    )
}

fn refused(set: &Set, guest: &Guest, name: &str, boot: Boot<'_>) -> Result<()> {
    let stage = set.stage(name, guest)?;
    let policies = set.policies(true);
    let booted = stage.boot(Boot {
        measured: true,
        ..boot
    })?;
    let node = stage.wait_until_waiting(&booted)?;
    let output = stage
        .owner
        .provision(&stage.provision(&node, &policies))?
        .wait()?;
    let told = said(&output);
    ensure!(
        output.status.code() == Some(UNTRUSTED),
        "`bootkeep provision` ended with {}: {told}",
        output.status
    );
    ensure!(
        told.contains("PCR 9") || told.contains("boot"),
        "the reason does not name the boot: {told}"
    );
    ensure!(
        !told.contains("share-u-sent") && !told.contains("share-v-sent"),
        "a share left: {told}"
    );
    let status = stage.status(&node)?;
    ensure!(status["state"] == "untrusted", "the verifier says {status}");
    booted.stays_locked()
}
