//! Everything that must hold.

use std::process::ExitCode;

use anyhow::{bail, Context, Result};
use bootkeep_vm_tests::{
    cache::Cache,
    command,
    guest::Guest,
    image::base,
    progress::Progress,
    scenarios::{self, Scenario, PENDING, SCENARIOS, SIBLINGS},
    stage::Set,
};

use crate::{
    compile,
    files::{find_files, is_script},
    isolate, prepare, setup,
    tally::Tally,
    tree,
    workspace::Workspace,
};

/// Tests that need root: they are marked `ignored`, and run here.
#[derive(Debug)]
struct RootTest {
    what: &'static str,
    package: &'static str,
    test: &'static str,
}

/// All of them but [`real_cloud_init`], which needs a root file system too.
const AS_ROOT: &[RootTest] = &[
    RootTest {
        what: "strongSwan in network namespaces",
        package: "bootkeep-ipsec",
        test: "namespaces",
    },
    RootTest {
        what: "the enforcer with strongSwan",
        package: "bootkeep-runtime-agent",
        test: "strongswan",
    },
    RootTest {
        what: "verifier, enforcers and strongSwan",
        package: "bootkeep-runtime-agent",
        test: "network",
    },
];

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
        for test in AS_ROOT {
            tally.check(progress, test.what, || as_root(workspace, test));
        }
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
            .chain(SIBLINGS)
            .chain(PENDING)
            .for_each(|scenario| println!("{:<24}{}", scenario.name, scenario.promise));
        return Ok(ExitCode::SUCCESS);
    }
    scenarios::prepare(&prepare(workspace, progress)?, names)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    isolate::again(&[&["scenarios"], names.as_slice()].concat())
}

fn virtual_machines(workspace: &Workspace, progress: Progress) -> Result<usize> {
    setup::require_root()?;
    compile::everything_tested(workspace, progress)?;
    let names: Vec<String> = SCENARIOS.iter().map(|one| one.name.to_owned()).collect();
    scenarios::prepare(&Set::prepare(&workspace.programs(), progress)?, &names)?;
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
    let named = |scenario: &&Scenario| names.iter().any(|name| name == scenario.name);
    let chosen: Vec<&Scenario> = match names {
        [] => SCENARIOS.iter().collect(),
        _ => SCENARIOS
            .iter()
            .chain(SIBLINGS)
            .chain(PENDING)
            .filter(named)
            .collect(),
    };
    if chosen.is_empty() {
        bail!(
            "no scenario is called {}; `--scenario list` shows them",
            names.join(", ")
        );
    }
    let set = Set::prepare(&workspace.programs(), progress)?;
    let (guest, _server) = Guest::serve(0)?;
    if chosen.iter().any(|scenario| scenario.needs_policies()) {
        set.learn_policies(&guest)?;
    }
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
    find_files(&workspace.tree, &workspace.target, &is_script, &mut scripts)?;
    if scripts.is_empty() {
        bail!("no shell script was found");
    }
    one(std::process::Command::new("shellcheck").args(&scripts))?;
    Ok(scripts.len())
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

/// One after the other: they share the computer's ports and names. What they print is figures.
fn as_root(workspace: &Workspace, test: &RootTest) -> Result<usize> {
    setup::require_root()?;
    counted(workspace.cargo().args([
        "test",
        "--quiet",
        "--locked",
        "--package",
        test.package,
        "--test",
        test.test,
        "--",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]))
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
    text.lines()
        .filter(|line| is_figure(line))
        .for_each(|line| println!("           {}", line.trim()));
    Ok(passed)
}

/// `test result: ok. 5 passed; 0 failed; ...`
fn passed_of(line: &str) -> Option<usize> {
    let (before, _) = line.strip_prefix("test result:")?.split_once(" passed")?;
    before.rsplit(' ').next()?.parse().ok()
}

/// What a passing test printed of itself.
fn is_figure(line: &str) -> bool {
    let of_cargo = ["running ", "test ", "test result:"];
    let dots = line.chars().all(|c| c == '.' || c == 'i');
    !dots && !of_cargo.iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod unit {
    use std::{fs, path::Path};

    use super::{find_files, is_figure, passed_of, AS_ROOT};

    #[test]
    fn results_of_cargo_test_are_counted() {
        let line = "test result: ok. 15 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(passed_of(line), Some(15));
        assert_eq!(passed_of("running 15 tests"), None);
    }

    #[test]
    fn what_tests_print_is_told_from_what_cargo_prints() {
        let cases = [
            ("running 15 tests", false),
            ("..ii...", false),
            ("", false),
            ("test result: ok. 15 passed; 0 failed", false),
            ("test a::b ... ok", false),
            ("notice to associations gone: p50 1.1 ms", true),
        ];
        for (line, figure) in cases {
            assert_eq!(is_figure(line), figure, "{line}");
        }
    }

    #[test]
    fn every_ignored_test_is_run_by_somebody() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mark = concat!("#[", "ignore");
        let mut files = Vec::new();
        let is_test = |path: &Path| path.extension().is_some_and(|ending| ending == "rs");
        find_files(tree, &tree.join("target"), &is_test, &mut files).unwrap();
        let ignored = files.iter().filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            text.lines().any(|line| line.trim_start().starts_with(mark))
        });
        for path in ignored {
            let text = path.display().to_string();
            let known = AS_ROOT
                .iter()
                .map(|test| test.test)
                .chain(["real_cloud_init"]);
            let run = known.into_iter().any(|test| {
                text.ends_with(&format!("/tests/{test}.rs"))
                    || text.contains(&format!("/tests/{test}/"))
            });
            assert!(run, "{text} has an ignored test that nothing runs");
        }
    }
}
