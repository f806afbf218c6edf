//! The main job, before your eyes.
use crate::workspace::Workspace;
use anyhow::Result;
use bootkeep_vm_tests::progress::Progress;
/// `cargo xtask demo`.
pub(crate) fn run(_: &Workspace, _: Progress) -> Result<()> {
    Ok(())
}
