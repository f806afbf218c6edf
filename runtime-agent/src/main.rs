//! The agent of the booted node: quotes, IMA growth, claims
fn main() {}
