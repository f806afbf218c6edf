//! Set-up, demo, tests and benches
