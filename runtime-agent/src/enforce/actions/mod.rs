//! What the owner wants done on this node when a node is revoked: files in `/etc/bootkeep/actions.d`.
//!
//! What is run comes from those files only. An entry of the log decides *that* they are run, and tells them of which node;
//! it never says what.

mod command;
mod folder;
mod occasion;
mod remove;
mod spec;
mod trust;

use std::path::{Path, PathBuf};

use bootkeep_protocol::limits::clean_text;
use tokio::{
    task::spawn_blocking,
    time::{timeout_at, Instant},
};

pub use folder::{load, Refused};
pub use occasion::{Occasion, On};
pub use spec::{Action, SpecError, What};

/// All actions of one occasion together take no longer (seconds); what has not begun by then is not begun.
const ALL_TOGETHER: std::time::Duration = std::time::Duration::from_secs(45);

/// The folder of the node's actions.
#[derive(Clone, Debug)]
pub(crate) struct Actions(PathBuf);

/// What came of the actions of one occasion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    /// How many did what they should.
    pub(crate) good: usize,
    /// One line for each that did not.
    pub(crate) failed: Vec<String>,
}

impl Actions {
    pub(crate) fn at(folder: &Path) -> Self {
        Self(folder.into())
    }

    /// Whether there is any file to look at.
    pub(crate) fn exist(&self) -> bool {
        std::fs::read_dir(&self.0).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Runs the actions for this occasion, in the order of their files' names. One that fails does not keep the others.
    pub(crate) async fn run(&self, occasion: &Occasion) -> Ran {
        let mut ran = Ran::default();
        let folder = self.0.clone();
        let loaded = spawn_blocking(move || load(&folder)).await;
        let (actions, refused) = loaded.unwrap_or_default();
        for refused in refused {
            ran.fail(&refused.name, &refused.problem);
        }
        let end = Instant::now() + ALL_TOGETHER;
        for (name, action) in actions.into_iter().filter(|(_, a)| a.on == occasion.on()) {
            match one(&action, occasion, end).await {
                Ok(()) => {
                    tracing::info!(file = name, on = %action.on, "action done");
                    ran.good += 1;
                }
                Err(problem) => ran.fail(&name, &problem),
            }
        }
        ran
    }
}

impl Ran {
    fn fail(&mut self, name: &str, problem: &str) {
        tracing::error!(file = name, problem, "action failed");
        self.failed.push(clean_text(&format!("{name}: {problem}")));
    }

    /// One line for people; empty when there was nothing to do.
    pub(crate) fn detail(&self) -> String {
        match (self.good, self.failed.as_slice()) {
            (0, []) => String::new(),
            (good, []) => format!("{good} actions done"),
            (good, failed) => format!(
                "{good} actions done, {} failed: {}",
                failed.len(),
                failed.join("; ")
            ),
        }
    }
}

async fn one(action: &Action, occasion: &Occasion, end: Instant) -> Result<(), String> {
    if Instant::now() >= end {
        return Err("not begun: the actions before it took too long".into());
    }
    let end = end.min(Instant::now() + action.deadline);
    match &action.what {
        What::Remove(path) => remove_until(path.clone(), end).await,
        What::Unit { verb, name } => command::run(&verb.argv(name), occasion, end).await,
        What::Command(argv) => command::run(argv, occasion, end).await,
    }
}

/// On a thread of its own: a file system that hangs must not hold up anything else.
async fn remove_until(path: PathBuf, end: Instant) -> Result<(), String> {
    let removing = spawn_blocking(move || remove::remove(&path).map_err(|error| error.to_string()));
    match timeout_at(end, removing).await {
        Ok(removed) => removed.unwrap_or_else(|error| Err(error.to_string())),
        Err(_) => Err("the file system does not answer".into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            fs::create_dir(folder.at("actions.d")).unwrap();
            folder
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// An action on `stale` that runs a shell script of root's.
        fn script(&self, name: &str, deadline: u64, text: &str) {
            let (text_file, program) = (self.at("text"), self.at(&format!("{name}.sh")));
            fs::write(&text_file, format!("#!/bin/sh\n{text}\n")).unwrap();
            // Written by another process: a child that another test forks at this moment would hold it open for writing,
            // and the kernel runs no such program.
            let copied = std::process::Command::new("cp")
                .args([&text_file, &program])
                .status();
            assert!(copied.unwrap().success());
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            self.action(
                name,
                &format!(
                    "on: stale\ndeadline_seconds: {deadline}\ncommand: [{}, 'a b', '$HOME']\n",
                    program.display()
                ),
            );
        }

        fn action(&self, name: &str, text: &str) {
            let path = self.at(&format!("actions.d/{name}.yaml"));
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }

        async fn run(&self, occasion: &Occasion) -> Ran {
            Actions::at(&self.at("actions.d")).run(occasion).await
        }
    }

    #[tokio::test]
    async fn actions_run_in_order_and_a_failure_does_not_keep_the_others() {
        let folder = Folder::new();
        let log = folder.at("log");
        let say = |word: &str| format!("echo {word} >> {}", log.display());
        folder.script("30", 10, &say("last"));
        folder.script("20", 10, "echo what went wrong >&2; exit 3");
        folder.script(
            "10",
            10,
            &format!("{}; echo \"$1/$2/$#\" >> {}", say("first"), log.display()),
        );
        folder.action("25", "on: stale\nremove: relative\n");
        folder.action("40", "on: fresh\ncommand: [/bin/false]\n");
        let ran = folder.run(&Occasion::Stale).await;
        assert_eq!(
            fs::read_to_string(&log).unwrap(),
            "first\na b/$HOME/2\nlast\n"
        );
        assert_eq!((ran.good, ran.failed.len()), (2, 2));
        let detail = ran.detail();
        for part in [
            "2 actions done, 2 failed",
            "20.yaml",
            "exit status: 3",
            "what went wrong",
            "25.yaml",
        ] {
            assert!(detail.contains(part), "{detail}");
        }
    }

    #[tokio::test]
    async fn a_command_gets_a_clean_environment() {
        let folder = Folder::new();
        folder.script(
            "1",
            10,
            &format!(
                "/usr/bin/env | sort > {}; pwd >> {0}",
                folder.at("env").display()
            ),
        );
        assert_eq!(folder.run(&Occasion::Stale).await.failed, [""; 0]);
        let seen = fs::read_to_string(folder.at("env")).unwrap();
        let names: Vec<&str> = seen
            .lines()
            .map(|line| line.split('=').next().unwrap())
            .collect();
        // The shell itself adds the first and last.
        assert!(
            names.iter().all(
                |name| ["BOOTKEEP_EVENT", "PATH", "PWD", "_", "OLDPWD", "SHLVL", "/"]
                    .contains(name)
            ),
            "{seen}"
        );
        assert!(seen.contains("BOOTKEEP_EVENT=stale\n"));
    }

    #[tokio::test]
    async fn what_takes_too_long_is_ended_with_all_it_started() {
        let folder = Folder::new();
        let pid = folder.at("pid");
        folder.script(
            "1",
            1,
            &format!("sleep 1000 & echo $! > {}; wait", pid.display()),
        );
        let ran = folder.run(&Occasion::Stale).await;
        assert!(
            ran.detail().contains("took too long and was ended"),
            "{ran:?}"
        );
        let child = fs::read_to_string(&pid).unwrap();
        let stat =
            || fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        for _ in 0..200 {
            if stat().is_empty() || stat().contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("still there: {}", stat());
    }

    #[tokio::test]
    async fn what_says_too_much_is_not_remembered_and_not_held_up() {
        let folder = Folder::new();
        folder.script("1", 20, "yes | head -c 3000000; exit 1");
        let ran = folder.run(&Occasion::Stale).await;
        assert!(ran.failed[0].contains("exit status: 1"), "{ran:?}");
        assert!(ran.failed[0].len() < 300, "{}", ran.failed[0].len());
    }

    #[tokio::test]
    async fn what_stays_behind_does_not_hold_up_the_rest() {
        let folder = Folder::new();
        folder.script("1", 10, "sleep 1000 & exit 0");
        assert_eq!(folder.run(&Occasion::Stale).await.good, 1);
    }
}
