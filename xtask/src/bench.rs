//! Figures.
use crate::workspace::Workspace;
use anyhow::Result;
use bootkeep_vm_tests::progress::Progress;
/// `cargo xtask bench boot`.
pub(crate) fn boot(_: &Workspace, _: Progress) -> Result<()> {
    Ok(())
}
