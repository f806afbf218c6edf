//! The agent of the initramfs: register, derive the key, unlock, hand over
fn main() {}
