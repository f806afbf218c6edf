//! What is proved, one function each.
