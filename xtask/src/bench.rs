//! Figures. They are printed, never judged: this machine's speed is not ours.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{ensure, Context, Result};
use bootkeep_vm_tests::{
    guest::Guest,
    image::sizes::{self, Size},
    progress::Progress,
    stage::{Boot, Policies, Set, Stage, PATIENCE},
};
use serde_json::Value;

use crate::{setup, workspace::Workspace};

/// Figures of others, for the eye: what and how much.
const OTHERS: &str = "Keylime 7.14.3 with rust-keylime 0.2.9, host programs on loopback, not emulated: start to registered 0.36 s cold, \
                      0.097 s warm; payload on the node after 0.90-0.95 s; agent 19 MB resident.";
/// Looks at the agent of the initramfs while it runs; what it saw last stays in /run. The initramfs has no grep.
const WEIGH: &str = r#"[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sh -c 'while sleep 0.3; do for p in /proc/[0-9]*; do read -r n < $$p/comm; [ "$$n" = bootkeep-initrd ] || continue; while read -r k v; do case $$k in VmHWM:) echo "$$k $$v" > /run/weighed;; esac; done < $$p/status; done; done'
"#;
/// Starts that with the agent.
const WEIGH_TOO: &str = "[Unit]\nWants=weigh.service\n";
/// Where both are put in the initramfs. The policy of this run allows them, as no other does.
const WEIGH_FILES: [(&str, &str); 2] = [
    ("/etc/systemd/system/weigh.service", WEIGH),
    (
        "/etc/systemd/system/bootkeep-initrd-agent.socket.d/weigh.conf",
        WEIGH_TOO,
    ),
];

/// Tests that print figures of revocation: package, test, whether it is marked `ignored`.
pub(crate) const REVOCATION: &[(&str, &str, bool)] = &[
    ("bootkeep-runtime-agent", "network", true),
    ("bootkeep-ipsec", "namespaces", true),
];
/// Of policies.
pub(crate) const POLICY: &[(&str, &str, bool)] = &[("bootkeep-policy", "scale", false)];

/// Runs tests that print figures, built as they are for use.
pub(crate) fn tests(workspace: &Workspace, tests: &[(&str, &str, bool)]) -> Result<()> {
    for (package, test, ignored) in tests {
        let mut cargo = workspace.cargo();
        cargo.args([
            "test",
            "--quiet",
            "--locked",
            "--release",
            "--package",
            package,
            "--test",
            test,
        ]);
        cargo.args(["--", "--nocapture", "--test-threads=1"]);
        if *ignored {
            setup::require_root()?;
            cargo.arg("--ignored");
        }
        let status = cargo.env("TSS2_LOG", "all+none").status()?;
        ensure!(status.success(), "{package}, {test}: {status}");
    }
    Ok(())
}

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
    let (guest, _server) = Guest::serve(0)?;
    set.learn_policies(&guest)?;
    let stage = set.stage("bench-boot", &guest)?;
    let policies = set.policies(false);
    let weighing = weighing(&policies, &stage.directory)?;
    let overlay = WEIGH_FILES.map(|(path, content)| (path, content.into(), 0o644));
    let mut cold = stage.boot(Boot {
        overlay: overlay.into(),
        ..Boot::default()
    })?;
    let node = stage.wait_until_waiting(&cold)?;
    let output = stage
        .owner
        .provision(&stage.provision(&node, &weighing))?
        .succeed()?;
    guest.wait_until_up(PATIENCE, || cold.vm.is_running())?;
    println!("\nA first boot, provisioned while it waits (emulated, 2 cores)");
    times(&stage, &output.stdout)?;
    memory(&guest)?;
    cold.switch_off(&stage.bay)?;
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

/// The policies, with the two files that look at the agent allowed.
fn weighing(policies: &Policies, directory: &Path) -> Result<Policies> {
    let mut runtime: Value = serde_json::from_slice(&fs::read(&policies.runtime)?)?;
    let excludes = runtime["excludes"]
        .as_array_mut()
        .context("the runtime policy has no excludes")?;
    excludes.extend(WEIGH_FILES.map(|(path, _)| Value::from(path)));
    let path = directory.join("weighing.json");
    fs::write(&path, runtime.to_string())?;
    Ok(Policies {
        boot: policies.boot.clone(),
        runtime: path,
    })
}

/// The agent's lines in the node's journal, with the node's own clock.
fn times(stage: &Stage<'_>, report: &[u8]) -> Result<()> {
    let report: Value = serde_json::from_slice(report)?;
    println!(
        "  provision to K confirmed at the owner: {} ms; to trusted: {} ms",
        report["combined_ms"], report["total_ms"]
    );
    let journal = stage.bay.guest.ok("journalctl -b -o json --output-fields=MESSAGE -u bootkeep-initrd-agent -u systemd-networkd")?;
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
    let initrd = guest.ok("cat /run/weighed")?;
    let initrd = match initrd.split_whitespace().collect::<Vec<_>>().join(" ") {
        nothing if nothing.is_empty() => "not measured: the probe gave nothing".to_owned(),
        figures => figures,
    };
    println!("  bootkeep-initrd-agent: {initrd}");
    Ok(())
}
