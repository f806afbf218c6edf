//! The messages of the wire and their limits
