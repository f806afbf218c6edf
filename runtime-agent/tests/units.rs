//! The units, as systemd reads them: nothing of them is unknown to it, and the enforcer comes before the network.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

const UNITS: &str = "usr/lib/systemd/system";

fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("files")
        .join(UNITS)
}

fn copy_units(from: &Path, to: &Path) {
    for unit in fs::read_dir(from).unwrap() {
        let unit = unit.unwrap().path();
        if unit.is_file() {
            fs::copy(&unit, to.join(unit.file_name().unwrap())).unwrap();
        }
    }
}

/// A root with this machine's units, ours, and a network that comes up at boot.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join(UNITS);
    fs::create_dir_all(&units).unwrap();
    copy_units(&Path::new("/").join(UNITS), &units);
    copy_units(&ours(), &units);
    let program = root.path().join("usr/lib/bootkeep/bootkeep-agent");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for unit in ["bootkeep-agent.service", "systemd-networkd.service"] {
        let enable = Command::new("systemctl")
            .arg("--root")
            .arg(root.path())
            .args(["--quiet", "enable", unit])
            .status();
        assert!(enable.unwrap().success(), "{unit}");
    }
    root
}

/// What systemd says of our units when it has this one started.
fn complaints(root: &Path, start: &str) -> Vec<String> {
    let output = Command::new("systemd-analyze")
        .arg(format!("--root={}", root.display()))
        .args(["--man=no", "verify", start])
        .output()
        .unwrap();
    String::from_utf8(output.stderr)
        .unwrap()
        .lines()
        .filter(|line| line.contains("bootkeep"))
        .map(str::to_owned)
        .collect()
}

/// The words of all lines with this key.
fn words(unit: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(ours().join(unit)).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .flat_map(str::split_whitespace)
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_enforcer_comes_before_the_network() {
    let unit = "bootkeep-enforce.service";
    // With the default ones it would wait for all of sysinit.target; the network does not.
    assert_eq!(words(unit, "DefaultDependencies"), ["no"]);
    for (key, word) in [
        ("Before", "network-pre.target"),
        ("Wants", "network-pre.target"),
        ("Before", "bootkeep-agent.service"),
        ("RequiresMountsFor", "/var/lib/bootkeep"),
        ("RequiresMountsFor", "/etc/bootkeep"),
        ("After", "local-fs.target"),
        ("WantedBy", "sysinit.target"),
        ("Conflicts", "shutdown.target"),
    ] {
        let words = words(unit, key);
        assert!(words.iter().any(|w| w == word), "{key}={word}: {words:?}");
    }
}

#[test]
fn systemd_reads_the_units_and_finds_an_order_for_them() {
    let root = root();
    for unit in fs::read_dir(ours()).unwrap() {
        let name = unit.unwrap().file_name().into_string().unwrap();
        assert_eq!(complaints(root.path(), &name), [""; 0], "{name}");
    }
    for target in ["multi-user.target", "shutdown.target"] {
        assert_eq!(complaints(root.path(), target), [""; 0], "{target}");
    }
    // An order that cannot be is seen.
    let enforce = root.path().join(UNITS).join("bootkeep-enforce.service");
    let text = fs::read_to_string(&enforce).unwrap();
    let late = text.replacen("[Unit]\n", "[Unit]\nAfter=network.target\n", 1);
    fs::write(&enforce, late).unwrap();
    let said = complaints(root.path(), "multi-user.target");
    assert!(!said.is_empty());
}
