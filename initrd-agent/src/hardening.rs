//! The process keeps its secrets in memory only.

use nix::sys::{
    mman::{mlockall, MlockAllFlags},
    prctl::set_dumpable,
};

/// No core dump, no tracing by others, no page of this process in swap. Best effort: an initramfs has no swap, and a
/// kernel that refuses must not keep the machine from booting.
pub fn harden() {
    if let Err(error) = set_dumpable(false) {
        eprintln!("bootkeep: core dumps stay possible: {error}");
    }
    if let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE) {
        eprintln!("bootkeep: memory is not locked: {error}");
    }
}
