//! What every service shares: configuration, the mutual-TLS HTTP front, problem documents
