//! Attests nodes and releases share V
