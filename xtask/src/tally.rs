//! Counting what holds.

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use bootkeep_vm_tests::progress::{seconds, Progress};

/// How many checks held and how many did not.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    /// Does the work of one check, and counts what passed.
    pub(crate) fn check(
        &mut self,
        progress: Progress,
        name: &str,
        work: impl FnOnce() -> Result<usize>,
    ) {
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

    /// The end: says the sum.
    pub(crate) fn close(&self) -> ExitCode {
        println!("\n{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
