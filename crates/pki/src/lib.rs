//! X.509: EK chains, service identities, node certificates and CRLs
