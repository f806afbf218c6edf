//! The owner's services on machines that were attested themselves, in the order of the article that this project is
//! about: the registrar first, then the CA, then the nodes that work.
//!
//! One machine carries registrar and CA; the first attestation is made with a registrar on the owner's own computer, which
//! is switched off afterwards. Their identities and the key that seals the CA's state reach the machine in its envelope only.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{ensure, Context, Result};

use crate::{
    bay::Bay,
    guest::Guest,
    image::product::SERVICES,
    relay::Relay,
    services::Service,
    stage::{Boot, Provisioned, Set, Stage},
};

/// Where the machine's services are found on the host, beside where they are known.
const FORWARDS: [(u16, u16); 3] = [(18890, 8890), (18892, 8892), (18893, 8893)];
/// Where nodes fetch the revocation list.
const CRL: &str = "http://10.0.2.2:8893/crl.der";
/// What cloud-init does there.
const START: &str = "#cloud-config\nruncmd:\n  - systemctl start bootkeep-registrar bootkeep-ca\n";

pub(super) fn prove(set: &Set, guest: &Guest, name: &str) -> Result<()> {
    let mut stage = set.stage(name, guest)?;
    // There is no CA but the one that is to be provisioned.
    stage.services.stop(Service::Ca);
    let keeper = keeper(&stage)?;
    stage.services.stop(Service::Registrar);
    let _relays = FORWARDS
        .iter()
        .map(|(host, known)| Relay::start(*known, *host))
        .collect::<Result<Vec<_>>>()?;
    let bay = stage.further_bay(1)?;
    let worker = worker(&stage, &bay)?;
    certified(&bay)?;
    revoked(&stage, &bay, &worker.node)?;
    let status = stage.status(&keeper.node)?;
    ensure!(
        status["state"] == "trusted",
        "the machine of the CA is {status}"
    );
    Ok(())
}

/// The machine of registrar and CA: attested, then given their keys.
fn keeper(stage: &Stage<'_>) -> Result<Provisioned> {
    let boot = Boot {
        forwards: &FORWARDS,
        ..Boot::default()
    };
    let files = service_files(stage)?;
    let keeper = stage.provisioned_with(boot, |provision| {
        provision.user_data = Some(START);
        provision.more = vec!["--no-certificate".into()];
        provision.more.extend(files);
    })?;
    let guest = &stage.bay.guest;
    guest.ok("timeout 100 cloud-init status --wait || true")?;
    guest
        .ok("systemctl is-active bootkeep-registrar bootkeep-ca")
        .with_context(|| {
            let journal =
                "journalctl -b --no-pager -u bootkeep-registrar -u bootkeep-ca | tail -n 30";
            guest.ok(journal).unwrap_or_default()
        })?;
    let left = guest.ok("systemctl --failed --no-legend --plain")?;
    ensure!(!left.contains("bootkeep"), "failed units: {left}");
    Ok(keeper)
}

/// A node that registers with that registrar and is certified by that CA.
fn worker(stage: &Stage<'_>, bay: &Bay) -> Result<Provisioned> {
    let booted = stage.boot_in(bay, Boot::default(), Box::new(|_| {}))?;
    let policies = stage.set.policies(false);
    stage
        .begin_provisioning(booted, &policies, |_| {})?
        .finish(bay)
}

/// The node has a certificate of that CA, and reaches the list that the certificate names.
fn certified(bay: &Bay) -> Result<()> {
    let list = bay.guest.ok("ls /etc/bootkeep/identity")?;
    ensure!(
        list.contains("certificate.pem") && list.contains("key.pem"),
        "the node's identity is {list}"
    );
    ensure!(
        !revocation_list(bay)?.is_empty(),
        "there is no revocation list"
    );
    Ok(())
}

/// Revoking the node puts it on the list of the CA in the machine.
fn revoked(stage: &Stage<'_>, bay: &Bay, node: &str) -> Result<()> {
    let before = revocation_list(bay)?;
    stage
        .owner
        .json(&["revoke", node, "--reason", "scenario"])?;
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while revocation_list(bay)? == before {
        ensure!(
            std::time::Instant::now() < end,
            "the revocation list has not changed within a minute"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    let list = revocation_list(bay)?;
    let serial = bay.serial()?;
    ensure!(
        list.contains(&serial),
        "serial {serial} is not on the list {list}"
    );
    Ok(())
}

/// The list as a node fetches it, in hex.
fn revocation_list(bay: &Bay) -> Result<String> {
    let fetch = format!(
        "python3 -c 'import urllib.request; print(urllib.request.urlopen(\"{CRL}\", timeout=20).read().hex())'"
    );
    Ok(bay.guest.ok(&fetch)?.trim().to_owned())
}

/// `--file` for everything that the services read, with their state where systemd keeps it.
fn service_files(stage: &Stage<'_>) -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    for service in SERVICES {
        let folder = stage.owner.home.join(service);
        let config = folder.join(format!("{service}.yaml"));
        let moved = stage.directory.join(format!("{service}.yaml"));
        let state = format!("database: sqlite:///var/lib/bootkeep/{service}/{service}.db");
        fs::write(
            &moved,
            with_line(&fs::read_to_string(&config)?, "database:", &state),
        )?;
        for file in files(&folder)? {
            let source = if file == config { &moved } else { &file };
            let inside = file.strip_prefix(&folder)?.display().to_string();
            if inside.contains(".db") {
                continue;
            }
            arguments.push("--file".into());
            arguments.push(format!(
                "{}:/etc/bootkeep/{service}/{inside}:0600:bootkeep-{service}:bootkeep-{service}",
                source.display()
            ));
        }
    }
    Ok(arguments)
}

/// The text with the line that starts so replaced.
fn with_line(text: &str, start: &str, line: &str) -> String {
    let lines = text.lines().map(|known| {
        if known.starts_with(start) {
            line
        } else {
            known
        }
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
