//! What is proved, one function each.

use anyhow::Result;

use crate::{guest::Guest, stage::Set};

/// One promise, and the function that proves it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it proves.
    pub promise: &'static str,
    prove: fn(&Set, &Guest) -> Result<()>,
}

impl Scenario {
    /// Proves it.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn run(&self, set: &Set, guest: &Guest) -> Result<()> {
        (self.prove)(set, guest)
    }
}

/// All of them, in the order they run.
pub const SCENARIOS: &[Scenario] = &[];
