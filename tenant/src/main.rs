//! bootkeep, the command line of the owner of nodes
fn main() {}
