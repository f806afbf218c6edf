//! Opening TPMs, and seeing that nothing is left in them.
#![allow(clippy::unwrap_used, dead_code)]

use bootkeep_swtpm::Swtpm;
use bootkeep_tpm::{Tcti, Tpm};

pub(crate) fn open(swtpm: &Swtpm) -> Tpm {
    let port = swtpm.port();
    Tpm::open(&Tcti::Swtpm { port }).unwrap()
}

/// Runs one operation and demands that it leaves no object and no session behind, whatever it returned.
pub(crate) fn clean<T>(tpm: &mut Tpm, what: &str, operation: impl FnOnce(&mut Tpm) -> T) -> T {
    let before = tpm.count_handles().unwrap();
    let result = operation(tpm);
    assert_eq!(tpm.count_handles().unwrap(), before, "after {what}");
    result
}

/// A tool of `tpm2-tools` that must succeed; no connection of ours may be open.
pub(crate) fn tool(swtpm: &Swtpm, name: &str, arguments: &[&str]) {
    let mut command = std::process::Command::new(name);
    command.env("TPM2TOOLS_TCTI", swtpm.tcti()).args(arguments);
    command.current_dir(swtpm.state());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name}: {output:?}");
}
