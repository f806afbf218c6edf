//! Issues and revokes node certificates, publishes the CRL
fn main() {}
