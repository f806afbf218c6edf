//! The hooks for boot files never fail an installation, whatever becomes of the report. They run here in a folder that
//! stands for the root, with programs that stand for the agent.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bootkeep_vm_tests::image::product::copy_tree;

/// As kernel-install, Debian's kernel packages and update-initramfs call them.
const CALLS: [(&str, &[&str]); 5] = [
    (
        "usr/lib/kernel/install.d/95-bootkeep.install",
        &[
            "add",
            "6.1.0-9",
            "/boot/entry",
            "/boot/vmlinuz",
            "/boot/initrd",
        ],
    ),
    (
        "usr/lib/kernel/install.d/95-bootkeep.install",
        &["remove", "6.1.0-9", "/boot/entry"],
    ),
    (
        "etc/kernel/postinst.d/zzz-bootkeep",
        &["6.1.0-9", "/boot/vmlinuz"],
    ),
    (
        "etc/kernel/postrm.d/zzz-bootkeep",
        &["6.1.0-9", "/boot/vmlinuz"],
    ),
    (
        "etc/initramfs/post-update.d/zz-bootkeep",
        &["6.1.0-9", "/boot/initrd"],
    ),
];

/// A node's root with the hooks, whose paths lead into it.
fn node() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boot-hooks");
    copy_tree(&hooks, &root).unwrap();
    let report = "usr/lib/bootkeep/report-boot-files";
    let files = CALLS.iter().map(|(path, _)| *path).chain([report]);
    for path in files.collect::<BTreeSet<_>>() {
        let path = root.join(path);
        let mut text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("#!/bin/sh\n"), "{}", path.display());
        for inside in ["/usr/lib/bootkeep", "/etc/bootkeep"] {
            text = text.replace(inside, &format!("{}{inside}", root.display()));
        }
        fs::write(&path, text).unwrap();
    }
    fs::create_dir_all(root.join("etc/bootkeep")).unwrap();
    fs::write(root.join("etc/bootkeep/agent.yaml"), "").unwrap();
    (folder, root)
}

fn agent(root: &Path, script: &str) {
    let path = root.join("usr/lib/bootkeep/bootkeep-agent");
    fs::write(&path, format!("#!/bin/sh\necho \"called $*\"\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn run(root: &Path, (path, arguments): (&str, &[&str])) -> Output {
    Command::new(root.join(path))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn every_hook_tells_the_agent_the_version_and_nothing_on_standard_output() {
    let (_folder, root) = node();
    agent(&root, "exit 0");
    for call in CALLS {
        let output = run(&root, call);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{call:?}");
        assert_eq!(told, "called boot-files --version 6.1.0-9\n", "{call:?}");
        assert!(output.stdout.is_empty(), "{call:?}");
    }
}

#[test]
fn an_agent_that_fails_is_a_warning() {
    let (_folder, root) = node();
    for script in ["exit 1", "exit 127", "kill -9 $$"] {
        agent(&root, script);
        for call in CALLS {
            let output = run(&root, call);
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{script}: {call:?}");
            assert!(
                told.contains("warning: the new boot files were not noted"),
                "{told}"
            );
        }
    }
}

#[test]
fn without_an_agent_or_its_configuration_nothing_happens() {
    let (_folder, root) = node();
    for call in CALLS {
        assert!(run(&root, call).status.success(), "{call:?}");
    }
    agent(&root, "exit 1");
    fs::remove_file(root.join("etc/bootkeep/agent.yaml")).unwrap();
    for call in CALLS {
        let output = run(&root, call);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{call:?}"
        );
    }
    fs::remove_file(root.join("usr/lib/bootkeep/report-boot-files")).unwrap();
    for call in &CALLS[2..] {
        assert!(run(&root, *call).status.success(), "{call:?}");
    }
}

/// An agent that hangs is ended. `timeout` is another here: it says for how long it was asked, and that the time is over.
#[test]
fn an_agent_that_hangs_is_a_warning() {
    let (_folder, root) = node();
    agent(&root, "sleep 1000");
    let programs = root.join("programs");
    fs::create_dir(&programs).unwrap();
    fs::write(
        programs.join("timeout"),
        "#!/bin/sh\necho limit $1\nexit 124\n",
    )
    .unwrap();
    fs::set_permissions(programs.join("timeout"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let output = Command::new(root.join("usr/lib/bootkeep/report-boot-files"))
        .env("PATH", path)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success());
    assert!(
        told.contains("limit 60\n") && told.contains("warning"),
        "{told}"
    );
}
