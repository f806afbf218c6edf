//! After the boot.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Result};

use crate::{
    guest::Guest,
    owner::said,
    revocations::UNLISTED,
    stage::{Boot, Set, PATIENCE},
};

pub(super) fn unlisted_program(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let stage = set.stage(name, guest)?;
    let provisioned = stage.provisioned(Boot::default())?;
    guest.ok(&format!("cp /bin/true {UNLISTED} && echo x >> {UNLISTED}"))?;
    let status = stage.status(&provisioned.node)?;
    ensure!(
        status["state"] == "trusted",
        "copying a file is no reason: {status}"
    );
    let begun = Instant::now();
    guest.ok(UNLISTED)?;
    let status = stage.wait_for_state(&provisioned.node, "untrusted", Duration::from_secs(60))?;
    let took = begun.elapsed();
    ensure!(
        status["reasons"].to_string().contains(UNLISTED),
        "the reason does not name the file: {status}"
    );
    set.progress.say(&format!(
        "  from the start of {UNLISTED} (emulated) to `untrusted` at the owner: {} ms",
        took.as_millis()
    ));
    // It does not heal by itself.
    thread::sleep(Duration::from_secs(6));
    ensure!(
        stage.status(&provisioned.node)?["state"] == "untrusted",
        "trust came back by itself"
    );
    Ok(())
}

pub(super) fn shares_again(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let stage = set.stage(name, guest)?;
    let provisioned = stage.provisioned(Boot::default())?;
    // The agent of the initramfs, with a key socket, as a rogue process would start it.
    let again = guest.run(
        "cd / && timeout 60 systemd-socket-activate --listen /run/again.key /usr/lib/bootkeep/bootkeep-initrd-agent & \
         sleep 2; timeout 60 python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"/run/again.key\"); print(\"got\", len(s.recv(4096)))'; wait",
        PATIENCE,
    )?;
    let told = again.text();
    ensure!(
        !told.contains("got 50"),
        "the running system got the key: {told}"
    );
    ensure!(
        told.contains("latch") || told.contains("PCR 15"),
        "the latch is not named: {told}"
    );
    let policies = set.policies(false);
    let mut provision = stage.provision(&provisioned.node, &policies);
    provision.timeout = 20;
    let output = stage.owner.provision(&provision)?.wait()?;
    ensure!(
        !said(&output).contains("share-u-sent"),
        "the tenant gave U to a running system: {}",
        said(&output)
    );
    Ok(())
}
