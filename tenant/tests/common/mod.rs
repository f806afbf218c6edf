//! An owner with all services on loopback, and a node with a software TPM.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod node;
pub mod services;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Runs the real program in this home.
pub fn bootkeep(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bootkeep"))
        .args(arguments)
        .env("BOOTKEEP_HOME", home)
        .env_remove("XDG_CONFIG_HOME")
        .output()
        .unwrap()
}

/// Exit code of the real program, and what it printed as JSON.
pub fn json(home: &Path, arguments: &[&str]) -> (i32, serde_json::Value) {
    let arguments = [&["--output", "json"], arguments].concat();
    let output = bootkeep(home, &arguments);
    let text = if output.stdout.is_empty() {
        // The error is the last line; what went on before it was told above.
        let mut lines = output.stderr.split(|&byte| byte == b'\n').rev();
        lines.find(|line| !line.is_empty()).unwrap().to_vec()
    } else {
        output.stdout
    };
    let value = serde_json::from_slice(&text)
        .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&text)));
    (output.status.code().unwrap(), value)
}

/// A file in `folder`.
pub fn file(folder: &Path, name: &str, contents: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, contents).unwrap();
    path
}
