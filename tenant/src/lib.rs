//! bootkeep, the command line of the owner of nodes
