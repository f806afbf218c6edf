//! Registers nodes: EK certificate, credential activation, immutable identity
fn main() {}
