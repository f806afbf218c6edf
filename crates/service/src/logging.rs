//! Logs go to stderr, one line for each event.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Names what is logged, in the syntax of `tracing_subscriber::EnvFilter`; `info` when unset.
const VARIABLE: &str = "BOOTKEEP_LOG";

/// Starts logging to stderr. A second call changes nothing.
pub fn init_logging() {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    // An error says that logging has been started before.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
}
