//! A test in namespaces of its own: network, mounts, processes.

use std::process::Command;

const INSIDE: &str = "BOOTKEEP_INSIDE_NAMESPACES";

/// Runs the test of this name again in fresh namespaces; `work` is what it does there.
pub(crate) fn again(name: &str, work: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        run(&["mount", "-t", "tmpfs", "tmpfs", "/run"]);
        return work();
    }
    let status = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", name])
        .env(INSIDE, "1")
        .status()
        .expect("unshare, of util-linux");
    assert!(status.success(), "see above");
}

/// A program that must succeed.
pub(crate) fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Does `work` in a thread that is in this network namespace.
pub(crate) fn in_namespace<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            enter(name);
            work()
        });
        inside.join().unwrap()
    })
}

/// Brings this thread into a network namespace.
pub(crate) fn enter(name: &str) {
    let namespace = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
}
