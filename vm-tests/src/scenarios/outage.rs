//! Services that go away.

use std::{thread, time::Duration};

use anyhow::{ensure, Result};

use crate::{
    guest::Guest,
    services::Service,
    stage::{Boot, Set, GAVE_UP, OPEN, PATIENCE},
};

pub(super) fn restarts(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let policies = set.policies(guest, false)?;
    let mut stage = set.stage(name, guest)?;
    let booted = stage.boot(Boot::default())?;
    let node = stage.wait_until_waiting(&booted)?;
    let provisioning = stage.owner.provision(&stage.provision(&node, &policies))?;
    // In the middle of the exchange of shares, or just before or after: each must do.
    thread::sleep(Duration::from_millis(300));
    stage.services.crash(Service::Verifier)?;
    stage.services.crash(Service::Registrar)?;
    booted.vm.serial.wait(OPEN, &[GAVE_UP], PATIENCE)?;
    stage.services.restart(Service::Verifier)?;
    stage.services.restart(Service::Registrar)?;
    stage.services.restart(Service::Ca)?;
    provisioning.succeed()?;
    ensure!(
        stage.status(&node)?["state"] == "trusted",
        "not trusted after the restarts"
    );
    Ok(())
}

pub(super) fn dead_services(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let mut stage = set.stage(name, guest)?;
    for service in [Service::Verifier, Service::Registrar, Service::Ca] {
        stage.services.stop(service);
    }
    let config = std::fs::read_to_string(stage.owner.node_files().join("agent.yaml"))?;
    let config = format!(
        "{}\ndeadline_seconds: 20\n",
        without(&config, "deadline_seconds")
    );
    let overlay = vec![("etc/bootkeep/agent.yaml", config.into_bytes(), 0o644)];
    let mut booted = stage.boot(Boot {
        overlay,
        ..Boot::default()
    })?;
    booted.vm.serial.wait(GAVE_UP, &[OPEN], PATIENCE)?;
    // The test's command line says poweroff where the module says reboot.
    ensure!(
        booted.vm.wait_until_off(Duration::from_secs(120)),
        "the machine hangs"
    );
    ensure!(booted.vm.serial.find(OPEN).is_none(), "the root was opened");
    Ok(())
}

fn without(config: &str, key: &str) -> String {
    config
        .lines()
        .filter(|line| !line.starts_with(key))
        .collect::<Vec<_>>()
        .join("\n")
}
