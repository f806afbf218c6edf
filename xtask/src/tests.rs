//! Everything that must hold.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{bail, Context, Result};
use bootkeep_vm_tests::{
    cache::Cache,
    command,
    guest::Guest,
    image::base,
    progress::{seconds, Progress},
    scenarios::{Scenario, SCENARIOS},
    stage::Set,
};

use crate::{compile, isolate, prepare, setup, tree, workspace::Workspace};

/// How many checks held and how many did not.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn check(&mut self, progress: Progress, name: &str, work: impl FnOnce() -> Result<usize>) {
        let begun = Instant::now();
        progress.say(&format!("{name} ..."));
        let verdict = match work() {
            Ok(count) => {
                self.passed += count;
                "passed".to_owned()
            }
            Err(error) => {
                self.failed += 1;
                format!("FAILED\n{error:#}")
            }
        };
        progress.say(&format!("{name}: {verdict} ({})", seconds(begun.elapsed())));
    }

    fn close(&self) -> ExitCode {
        println!("\n{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// `cargo xtask test [--fast]`.
pub(crate) fn all(workspace: &Workspace, progress: Progress, fast: bool) -> Result<ExitCode> {
    setup::run(progress)?;
    let mut tally = Tally::default();
    tally.check(progress, "format", || {
        one(workspace.cargo().args(["fmt", "--all", "--check"]))
    });
    tally.check(progress, "shell scripts", || shell(workspace));
    tally.check(progress, "dependencies", || dependencies(workspace));
    tally.check(progress, "lints", || {
        let lint = [
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ];
        one(workspace.cargo().args(lint))
    });
    tally.check(progress, "tests", || cargo_test(workspace));
    if !fast {
        tally.check(progress, "Debian's own cloud-init", || {
            real_cloud_init(workspace, progress)
        });
        tally.check(progress, "virtual machines", || {
            virtual_machines(workspace, progress)
        });
    }
    Ok(tally.close())
}

/// `cargo xtask test --scenario ...`.
pub(crate) fn scenarios(
    workspace: &Workspace,
    progress: Progress,
    names: &[String],
) -> Result<ExitCode> {
    if names.iter().any(|name| name == "list") {
        SCENARIOS
            .iter()
            .for_each(|scenario| println!("{:<24}{}", scenario.name, scenario.promise));
        return Ok(ExitCode::SUCCESS);
    }
    prepare(workspace, progress)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    isolate::again(&[&["scenarios"], names.as_slice()].concat())
}

fn virtual_machines(workspace: &Workspace, progress: Progress) -> Result<usize> {
    setup::require_root()?;
    compile::everything_tested(workspace, progress)?;
    Set::prepare(&workspace.programs(), progress)?;
    if isolate::again(&["scenarios"])? != ExitCode::SUCCESS {
        bail!("a scenario failed, see above");
    }
    Ok(SCENARIOS.len())
}

/// Inside the namespace: the scenarios, one machine at a time.
pub(crate) fn inside(
    workspace: &Workspace,
    progress: Progress,
    names: &[String],
) -> Result<ExitCode> {
    let chosen: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| names.is_empty() || names.iter().any(|name| name == scenario.name))
        .collect();
    if chosen.is_empty() {
        bail!(
            "no scenario is called {}; `--scenario list` shows them",
            names.join(", ")
        );
    }
    let set = Set::prepare(&workspace.programs(), progress)?;
    let (guest, _server) = Guest::serve(0)?;
    set.learn_policies(&guest)?;
    let mut tally = Tally::default();
    for scenario in chosen {
        let name = format!("{}: {}", scenario.name, scenario.promise);
        tally.check(progress, &name, || {
            let logs = set.cache.root().join("runs").join(scenario.name);
            scenario
                .run(&set, &guest)
                .map(|()| 1)
                .with_context(|| format!("logs are in {}", logs.display()))
        });
    }
    Ok(tally.close())
}

fn one(command: &mut std::process::Command) -> Result<usize> {
    command::output(command).map(|_| 1)
}

/// shellcheck over every shell script of the work tree.
fn shell(workspace: &Workspace) -> Result<usize> {
    let mut scripts = Vec::new();
    find_scripts(&workspace.tree, &workspace.target, &mut scripts)?;
    if scripts.is_empty() {
        bail!("no shell script was found");
    }
    one(std::process::Command::new("shellcheck").args(&scripts))?;
    Ok(scripts.len())
}

/// Files that start as shell scripts do; not those of builds and of git.
fn find_scripts(folder: &Path, target: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            let other = path == target || path.ends_with("target") || path.ends_with(".git");
            if !other {
                find_scripts(&path, target, found)?;
            }
        } else if is_script(&path) {
            found.push(path);
        }
    }
    Ok(())
}

fn is_script(path: &Path) -> bool {
    let mut start = [0; 11];
    let read = fs::File::open(path).and_then(|mut file| file.read(&mut start));
    let start = &start[..read.unwrap_or(0)];
    start.starts_with(b"#!/bin/sh") || start.starts_with(b"#!/bin/bash")
}

fn dependencies(workspace: &Workspace) -> Result<usize> {
    let has_deny = workspace
        .cargo()
        .args(["deny", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if has_deny {
        let check = ["deny", "--offline", "check", "bans", "licenses", "sources"];
        return one(workspace.cargo().args(check));
    }
    tree::check(workspace).map(|()| 1)
}

/// The handler inside Debian's own cloud-init, in namespaces over an unpacked root file system.
fn real_cloud_init(workspace: &Workspace, progress: Progress) -> Result<usize> {
    setup::require_root()?;
    let cache = Cache::at(&workspace.programs().cache)?;
    let root = base::unpacked(&cache, progress)?;
    let mut test = workspace.cargo();
    test.env("BOOTKEEP_CLOUD_INIT_ROOT", root).args([
        "test",
        "--quiet",
        "--locked",
        "--package=bootkeep-cloud-init-handler",
        "--test=real_cloud_init",
        "--",
        "--ignored",
    ]);
    counted(&mut test)
}

fn cargo_test(workspace: &Workspace) -> Result<usize> {
    counted(workspace.cargo().args([
        "test",
        "--quiet",
        "--workspace",
        "--locked",
        "--no-fail-fast",
    ]))
}

/// How many tests of a `cargo test` passed.
fn counted(test: &mut std::process::Command) -> Result<usize> {
    // The TSS library reports what a TPM refuses; here refusals are what is tested.
    let output = command::finish(test.env("TSS2_LOG", "all+none"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let passed = text.lines().filter_map(passed_of).sum();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let failures = text
            .lines()
            .filter(|line| !line.starts_with("running ") && !line.trim().is_empty());
        bail!("{}\n{errors}", failures.collect::<Vec<_>>().join("\n"));
    }
    if passed == 0 {
        bail!("cargo test ran no test");
    }
    Ok(passed)
}

/// `test result: ok. 5 passed; 0 failed; ...`
fn passed_of(line: &str) -> Option<usize> {
    let (before, _) = line.strip_prefix("test result:")?.split_once(" passed")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod unit {
    use super::passed_of;

    #[test]
    fn results_of_cargo_test_are_counted() {
        let line = "test result: ok. 15 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(passed_of(line), Some(15));
        assert_eq!(passed_of("running 15 tests"), None);
    }
}
