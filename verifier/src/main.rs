//! Attests nodes and releases share V
fn main() {}
