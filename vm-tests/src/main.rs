//! QEMU and swtpm harness and the scenarios driven with it
fn main() {}
