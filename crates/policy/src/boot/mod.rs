//! Boot policy: which boots are acceptable.

mod v1;

pub use v1::{BootOptions, BootPolicy, EventLogRule, EventRule};
