//! A PostgreSQL cluster of the test's own: no TCP, a Unix socket in its folder, stopped and removed when dropped.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    os::unix::fs::{chown, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Root may not run PostgreSQL.
const USER: &str = "postgres";

pub struct Postgres {
    folder: TempDir,
}

impl Postgres {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("bkpg").tempdir().unwrap();
        if is_root() {
            let (user, group) = (id("-u"), id("-g"));
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let cluster = Self { folder };
        let data = cluster.data();
        cluster.run(
            "initdb",
            &[
                "-D",
                &data,
                "-U",
                "bootkeep",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ],
        );
        let options = format!("-c listen_addresses='' -k {}", cluster.path().display());
        let log = cluster.path().join("log").display().to_string();
        cluster.run(
            "pg_ctl",
            &["-D", &data, "-w", "-l", &log, "-o", &options, "start"],
        );
        cluster
    }

    /// Where to connect.
    pub fn url(&self) -> String {
        format!(
            "postgres://bootkeep@localhost/postgres?host={}",
            self.path().display()
        )
    }

    /// Stops and starts again: every connection breaks.
    pub fn restart(&self) {
        self.run(
            "pg_ctl",
            &["-D", &self.data(), "-w", "-m", "immediate", "restart"],
        );
    }

    /// Runs one of PostgreSQL's clients on the cluster.
    pub fn client(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(Path::new(PROGRAMS).join(program))
            .arg("--host")
            .arg(self.path())
            .args(["--username", "bootkeep"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> String {
        self.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program: PathBuf = Path::new(PROGRAMS).join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={USER}"))
                .arg(format!("--regid={USER}"))
                .args(["--clear-groups", "--"])
                .arg(&program);
            command
        } else {
            Command::new(&program)
        };
        // The server inherits its standard streams: a pipe would never end.
        let out = std::fs::File::create(self.path().join("out")).unwrap();
        let done = command
            .args(arguments)
            .current_dir("/")
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .status()
            .unwrap();
        let said = std::fs::read_to_string(self.path().join("out")).unwrap();
        assert!(done.success(), "{}: {said}", program.display());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-m", "fast", "stop"]);
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn id(what: &str) -> u32 {
    let output = Command::new("id").args([what, USER]).output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}
