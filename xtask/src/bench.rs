//! Figures. They are printed, never judged: this machine's speed is not ours.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};
use bootkeep_vm_tests::{
    guest::Guest,
    image::sizes::{self, Size},
    progress::Progress,
    stage::{Boot, Set, Stage, PATIENCE},
};
use serde_json::Value;

use crate::workspace::Workspace;

/// Figures of others, for the eye: what and how much.
const OTHERS: &str = "Keylime 7.14.3 with rust-keylime 0.2.9, host programs on loopback, not emulated: start to registered 0.36 s cold, \
                      0.097 s warm; payload on the node after 0.90-0.95 s; agent 19 MB resident.";
/// The agent of the initramfs, run for its memory in the booted system: the latch refuses it, its work is the same.
const INITRD_AGENT: &str = "import resource, subprocess\n\
                            subprocess.run(['timeout', '8', '/usr/lib/bootkeep/bootkeep-initrd-agent'])\n\
                            print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";

/// Sizes of initramfs images; needs the network once, for clevis's packages.
pub(crate) fn weigh(set: &Set, progress: Progress) -> Result<()> {
    let sizes = sizes::measure(&set.cache, &set.image, progress)?;
    let mut text = String::from("\nInitramfs (bytes)\n");
    let base = sizes.first().context("nothing was weighed")?;
    for size in &sizes {
        text += &row(size, base);
    }
    fs::write(set.cache.root().join("sizes.txt"), &text)?;
    print!("{text}");
    Ok(())
}

fn row(size: &Size, base: &Size) -> String {
    let added = |bytes: u64, base: u64| (bytes as f64 - base as f64) / 1e6;
    format!(
        "  {:<40} {:>11} gz {:>11} raw   added {:>6.2} MB gz {:>6.2} MB raw\n",
        size.name,
        size.gz,
        size.raw,
        added(size.gz, base.gz),
        added(size.raw, base.raw)
    )
}

/// Times of two boots of one machine, and the memory of its agents.
pub(crate) fn boot(workspace: &Workspace, progress: Progress) -> Result<()> {
    let set = Set::prepare(&workspace.programs(), progress)?;
    let guest = Guest::serve()?;
    set.learn_policies(&guest)?;
    let stage = set.stage("bench-boot", &guest)?;
    let policies = set.policies(false);
    let cold = stage.boot(Boot::default())?;
    let node = stage.wait_until_waiting(&cold)?;
    let output = stage
        .owner
        .provision(&stage.provision(&node, &policies))?
        .succeed()?;
    println!("\nA first boot, provisioned while it waits (emulated, 2 cores)");
    times(&stage, &output.stdout)?;
    memory(&guest)?;
    drop(cold);
    // Now the owner waits for the node, as for every later boot.
    let provisioning = stage.owner.provision(&stage.provision(&node, &policies))?;
    let mut warm = stage.boot(Boot::default())?;
    let output = provisioning.succeed()?;
    guest.wait_until_up(PATIENCE, || warm.vm.is_running())?;
    println!("\nA later boot, the owner waiting for it");
    times(&stage, &output.stdout)?;
    println!("\n{OTHERS}");
    Ok(())
}

/// The agent's lines in the node's journal, with the node's own clock.
fn times(stage: &Stage<'_>, report: &[u8]) -> Result<()> {
    let report: Value = serde_json::from_slice(report)?;
    println!(
        "  provision to K confirmed at the owner: {} ms; to trusted: {} ms",
        report["combined_ms"], report["total_ms"]
    );
    let journal = stage.guest.ok("journalctl -b -o json --output-fields=MESSAGE -u bootkeep-initrd-agent -u systemd-networkd")?;
    let mut last = None;
    for (at, message) in journal.lines().filter_map(entry) {
        let since = last.map_or(0.0, |last| at - last);
        println!("  {at:>8.3} s  +{since:.3}  {message}");
        last = Some(at);
    }
    Ok(())
}

/// Seconds since the kernel started, and the text, of the lines that matter.
fn entry(line: &str) -> Option<(f64, String)> {
    let fields: BTreeMap<String, Value> = serde_json::from_str(line).ok()?;
    let at: f64 = fields
        .get("__MONOTONIC_TIMESTAMP")?
        .as_str()?
        .parse()
        .ok()?;
    let message = fields.get("MESSAGE")?.as_str()?.to_owned();
    let told =
        message.contains("bootkeep") || message.contains("address") || message.contains("carrier");
    told.then_some((at / 1e6, message))
}

fn memory(guest: &Guest) -> Result<()> {
    let resident =
        guest.ok("grep -E 'VmRSS|VmHWM|RssAnon' /proc/$(pidof bootkeep-agent)/status")?;
    println!(
        "\nMemory\n  bootkeep-agent: {}",
        resident.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    let peak = guest.run(&format!("python3 -c \"{INITRD_AGENT}\""), PATIENCE)?;
    let peak = peak
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("peak ").map(String::from));
    println!(
        "  bootkeep-initrd-agent, peak: {} kB",
        peak.context("the agent did not run")?
    );
    Ok(())
}
