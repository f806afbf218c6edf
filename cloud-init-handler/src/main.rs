//! Opens sealed cloud-init user-data
fn main() {}
